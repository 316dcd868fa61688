//! Which work a subject can do, and at which of its ports. Pure.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use super::{Entry, Subject};
use crate::load::Work;

/// What a subject looks at when it forwards.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Layer {
    /// Connections and flows: the HTTP port is a TCP port like any other.
    L4,
    /// Requests: the ports of HTTP, with HTTP/1.1 to Pods, and of gRPC, with HTTP/2 to Pods; connections to these are kept.
    L7,
    /// The same, inside TLS that ends at the subject; in the clear to Pods.
    Tls,
}

impl Layer {
    /// Whether requests are looked at.
    pub const fn reads_requests(self) -> bool {
        matches!(self, Self::L7 | Self::Tls)
    }

    /// Whether clients speak TLS with the subject.
    pub const fn has_tls(self) -> bool {
        matches!(self, Self::Tls)
    }
}

impl Entry {
    /// The address at which this work is asked for.
    pub const fn of(&self, work: Work) -> SocketAddr {
        match work {
            Work::Bulk { .. } => self.bulk,
            Work::Http1 { .. } | Work::IdleHttp { .. } => self.http,
            Work::Http2 { .. } => self.http2,
            Work::Grpc { .. } => self.grpc,
            Work::RequestResponse { .. }
            | Work::Connections { .. }
            | Work::UdpFlows { .. }
            | Work::UdpBulk { .. }
            | Work::Idle { .. } => self.frames,
        }
    }
}

impl Subject {
    /// Whether it can do this work.
    ///
    /// # Errors
    /// It cannot, and why.
    pub fn fits(self, work: Work, layer: Layer) -> Result<(), &'static str> {
        self.fits_layer(layer)?;
        match work {
            _ if self == Self::Pod => Ok(()),
            Work::UdpFlows { .. } | Work::UdpBulk { .. } if self == Self::Haproxy => {
                Err("forwards no UDP")
            }
            _ if layer == Layer::L4 => Ok(()),
            Work::Grpc { .. } | Work::Http2 { .. } if self == Self::Pingora => {
                Err("is set up for HTTP/1.1")
            }
            Work::Http1 { .. } | Work::Http2 { .. } | Work::Grpc { .. } | Work::IdleHttp { .. } => {
                Ok(())
            }
            Work::Bulk { .. }
            | Work::RequestResponse { .. }
            | Work::Connections { .. }
            | Work::UdpFlows { .. }
            | Work::UdpBulk { .. }
            | Work::Idle { .. } => Err("serves nothing but HTTP at this layer"),
        }
    }

    /// Whether it can be run at this layer.
    ///
    /// # Errors
    /// It cannot, and why.
    pub fn fits_layer(self, layer: Layer) -> Result<(), &'static str> {
        match (self, layer) {
            (Self::Pingora, Layer::L4) => Err("speaks HTTP only"),
            (Self::Pod, Layer::Tls) => Err("speaks no TLS"),
            (Self::Pingora, Layer::Tls) => Err("is set up without TLS"),
            (Self::Pod | Self::Direct, _) | (_, Layer::L4) => Ok(()),
            (_, Layer::L7 | Layer::Tls) if self.is_peer() => Ok(()),
            (_, Layer::L7 | Layer::Tls) => Err("is measured by its connections"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HTTP1: Work = Work::Http1 {
        connections: 1,
        bytes: 0,
        close: false,
    };
    const HTTP2: Work = Work::Http2 {
        connections: 1,
        streams: 1,
        bytes: 0,
    };
    const GRPC: Work = Work::Grpc {
        connections: 1,
        streams: 1,
    };
    const IDLE: Work = Work::IdleHttp { connections: 1 };
    const BULK: Work = Work::Bulk {
        streams: 1,
        upload: false,
    };
    const FLOWS: Work = Work::UdpFlows {
        flows: 1,
        bytes: 64,
    };
    const DATAGRAMS: Work = Work::UdpBulk { bytes: 64 };

    fn fitting(work: Work, layer: Layer) -> String {
        let fits = Subject::ALL.into_iter();
        let fits = fits.filter(|subject| subject.fits(work, layer).is_ok());
        fits.map(Subject::name).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn connections_are_for_all_that_are_not_http_alone() {
        let all = "pod direct direct-transparent nodeport-iptables-cluster nodeport-iptables-local \
                   nodeport-nftables-cluster nodeport-nftables-local haproxy nginx envoy traefik";
        for work in [BULK, HTTP1, HTTP2, GRPC] {
            assert_eq!(fitting(work, Layer::L4), all, "{work:?}");
        }
        for work in [FLOWS, DATAGRAMS] {
            assert_eq!(fitting(work, Layer::L4), all.replace(" haproxy", ""));
        }
    }

    #[test]
    fn requests_are_for_who_understands_them() {
        assert_eq!(
            fitting(HTTP1, Layer::L7),
            "pod direct haproxy nginx envoy traefik pingora"
        );
        for work in [HTTP2, GRPC] {
            assert_eq!(
                fitting(work, Layer::L7),
                "pod direct haproxy nginx envoy traefik"
            );
        }
        for work in [HTTP1, HTTP2, GRPC, IDLE] {
            let reads = "direct haproxy nginx envoy traefik";
            assert_eq!(fitting(work, Layer::Tls), reads, "{work:?}");
        }
        for work in [BULK, FLOWS] {
            assert_eq!(fitting(work, Layer::L7), "pod");
        }
        let reason = Subject::Pingora.fits(GRPC, Layer::L7).unwrap_err();
        assert_eq!(reason, "is set up for HTTP/1.1");
    }

    #[test]
    fn each_work_has_its_port() {
        let at = |port| SocketAddr::from(([192, 0, 2, 1], port));
        let entry = Entry {
            http: at(1),
            http2: at(5),
            grpc: at(4),
            frames: at(2),
            bulk: at(3),
            ports: 1,
        };
        let ports = [HTTP1, IDLE, HTTP2, GRPC, FLOWS, BULK].map(|work| entry.of(work).port());
        assert_eq!(ports, [1, 1, 5, 4, 2, 3]);
    }
}
