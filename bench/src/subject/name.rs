//! What subjects are called. Pure.

use std::fmt;
use std::str::FromStr;

use podline_lab::kube_proxy::{Flavour, TrafficPolicy};

use super::Subject;

impl Subject {
    /// All of them, in the order of tables.
    pub const ALL: [Self; 12] = [
        Self::Pod,
        Self::Direct,
        Self::DirectTransparent,
        Self::NodeportIptablesCluster,
        Self::NodeportIptablesLocal,
        Self::NodeportNftablesCluster,
        Self::NodeportNftablesLocal,
        Self::Haproxy,
        Self::Nginx,
        Self::Envoy,
        Self::Traefik,
        Self::Pingora,
    ];

    /// As `nodeport-iptables-cluster`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Pod => "pod",
            Self::Direct => "direct",
            Self::DirectTransparent => "direct-transparent",
            Self::NodeportIptablesCluster => "nodeport-iptables-cluster",
            Self::NodeportIptablesLocal => "nodeport-iptables-local",
            Self::NodeportNftablesCluster => "nodeport-nftables-cluster",
            Self::NodeportNftablesLocal => "nodeport-nftables-local",
            Self::Haproxy => "haproxy",
            Self::Nginx => "nginx",
            Self::Envoy => "envoy",
            Self::Traefik => "traefik",
            Self::Pingora => "pingora",
        }
    }

    /// Somebody else's load balancer: what Podline is compared with.
    pub const fn is_peer(self) -> bool {
        matches!(
            self,
            Self::Haproxy | Self::Nginx | Self::Envoy | Self::Traefik | Self::Pingora
        )
    }

    /// Podline in front of kube-proxy's rules.
    pub const fn is_nodeport(self) -> bool {
        self.is_local()
            || matches!(
                self,
                Self::NodeportIptablesCluster | Self::NodeportNftablesCluster
            )
    }

    /// Podline in front of nodes that have Pods, and of no others.
    pub const fn is_local(self) -> bool {
        matches!(
            self,
            Self::NodeportIptablesLocal | Self::NodeportNftablesLocal
        )
    }
}

impl Subject {
    /// kube-proxy's rules behind it; `None` if there are none.
    pub const fn kube_proxy(self) -> Option<(Flavour, TrafficPolicy)> {
        match self {
            Self::NodeportIptablesCluster => Some((Flavour::Iptables, TrafficPolicy::Cluster)),
            Self::NodeportIptablesLocal => Some((Flavour::Iptables, TrafficPolicy::Local)),
            Self::NodeportNftablesCluster => Some((Flavour::Nftables, TrafficPolicy::Cluster)),
            Self::NodeportNftablesLocal => Some((Flavour::Nftables, TrafficPolicy::Local)),
            _ => None,
        }
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// There is no such subject. Our caller's fault: the message has the names.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("there is no subject {name:?}: use {}", names())]
pub struct UnknownSubject {
    /// As it was written.
    pub name: String,
}

fn names() -> String {
    Subject::ALL.map(Subject::name).join(", ")
}

impl FromStr for Subject {
    type Err = UnknownSubject;

    fn from_str(name: &str) -> Result<Self, UnknownSubject> {
        let is_it = |subject: &Self| subject.name() == name;
        Self::ALL.into_iter().find(is_it).ok_or(UnknownSubject {
            name: name.to_owned(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_as_they_are_written_here_and_in_results() {
        for subject in Subject::ALL {
            assert_eq!(subject.name().parse(), Ok(subject));
            let json = serde_json::to_string(&subject).unwrap();
            assert_eq!(json, format!("\"{subject}\""));
        }
    }

    #[test]
    fn an_unknown_name_is_answered_with_the_known_ones() {
        for name in ["", "Direct", "nodeport", "haproxy "] {
            let error = name.parse::<Subject>().unwrap_err().to_string();
            let begins = format!("there is no subject {name:?}: use pod, direct, ");
            assert!(
                error.starts_with(&begins) && error.ends_with(", pingora"),
                "{error}"
            );
        }
    }

    #[test]
    fn each_is_one_kind() {
        let count = |is: fn(Subject) -> bool| Subject::ALL.into_iter().filter(|s| is(*s)).count();
        assert_eq!(count(Subject::is_peer), 5);
        assert_eq!(count(Subject::is_nodeport), 4);
        assert_eq!(count(Subject::is_local), 2);
        assert_eq!(count(|s| s.is_local() && !s.is_nodeport()), 0);
        assert_eq!(count(|s| s.is_peer() && s.is_nodeport()), 0);
    }
}
