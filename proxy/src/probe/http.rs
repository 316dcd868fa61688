//! One HTTP/1 exchange of a probe, as far as the status of the answer.

use podline_api::{HttpCheck, HttpMethod, HttpVersion};
use std::fmt::Write;
use std::net::{Ipv6Addr, SocketAddr};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::finding::{Finding, Step};
use super::status_line::StatusLine;
use super::{USER_AGENT, tls};

/// Asks over `stream`, within TLS if the check says so. A finding that passes, or one that fails; `step` follows.
pub(super) async fn ask(
    stream: TcpStream,
    address: SocketAddr,
    check: &HttpCheck,
    connector: &TlsConnector,
    step: &mut Step,
) -> Result<Finding, Finding> {
    let request = request(check, address);
    let status = if check.tls {
        *step = Step::Handshake;
        let name = tls::server_name(check.host.as_deref(), address.ip());
        let session = connector.connect(name, stream).await;
        let session = session.map_err(|error| Finding::of_io(Step::Handshake, &error))?;
        *step = Step::Answer;
        exchange(session, &request, check).await?
    } else {
        *step = Step::Answer;
        exchange(stream, &request, check).await?
    };
    if check.statuses.contains(status) {
        Ok(Finding::Http(status))
    } else {
        Err(Finding::Http(status))
    }
}

async fn exchange(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    request: &str,
    check: &HttpCheck,
) -> Result<u16, Finding> {
    let broken = |error| Finding::of_io(Step::Answer, &error);
    // An interim answer is the answer where the check names its status; what follows 101 is no HTTP.
    let is_final = |status| status >= 200 || status == 101 || check.statuses.contains(status);
    stream.write_all(request.as_bytes()).await.map_err(broken)?;
    stream.flush().await.map_err(broken)?;
    let mut line = StatusLine::new();
    let mut buffer = [0; 512];
    loop {
        let count = stream.read(&mut buffer).await.map_err(broken)?;
        if count == 0 {
            return Err(Finding::Closed(Step::Answer));
        }
        let found = line.take(&buffer[..count], is_final);
        if let Some(status) = found.map_err(|_| Finding::NotHttp)? {
            return Ok(status);
        }
    }
}

fn request(check: &HttpCheck, address: SocketAddr) -> String {
    let method = match check.method {
        HttpMethod::Get => "GET",
        HttpMethod::Head => "HEAD",
    };
    let version = match check.version {
        HttpVersion::Http10 => "HTTP/1.0",
        HttpVersion::Http11 => "HTTP/1.1",
    };
    let mut request = format!("{method} {} {version}\r\n", check.path);
    let written = match (&check.host, check.version) {
        (Some(host), _) if host.parse::<Ipv6Addr>().is_ok() => {
            write!(request, "Host: [{host}]\r\n")
        }
        (Some(host), _) => write!(request, "Host: {host}\r\n"),
        (None, HttpVersion::Http10) => Ok(()),
        (None, HttpVersion::Http11) => write!(request, "Host: {}\r\n", authority(address)),
    };
    debug_assert!(written.is_ok(), "a string takes everything");
    request.push_str("User-Agent: ");
    request.push_str(USER_AGENT);
    request.push_str("\r\nAccept: */*\r\nConnection: close\r\n\r\n");
    request
}

/// How an address is named in a request: without the zone, which means nothing to others.
pub(super) fn authority(address: SocketAddr) -> String {
    SocketAddr::new(address.ip(), address.port()).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use podline_api::{CheckKind, HealthCheck, v1};

    fn request_of(address: &str, http: v1::HttpCheck) -> String {
        let wire = v1::HealthCheck {
            r#type: Some(v1::health_check::Type::Http.into()),
            http: Some(http),
            ..v1::HealthCheck::default()
        };
        let CheckKind::Http(check) = HealthCheck::try_from(wire).unwrap().kind else {
            panic!("another kind");
        };
        request(&check, address.parse().unwrap())
    }

    #[test]
    fn a_request_says_what_the_check_says() {
        let version = env!("CARGO_PKG_VERSION");
        let common = format!(
            "User-Agent: podline-probe/{version}\r\nAccept: */*\r\nConnection: close\r\n\r\n"
        );
        let check = v1::HttpCheck::default();
        assert_eq!(
            request_of("10.0.0.1:80", check),
            format!("GET / HTTP/1.1\r\nHost: 10.0.0.1:80\r\n{common}")
        );
        let check = v1::HttpCheck {
            method: Some(v1::http_check::Method::Head.into()),
            path: Some("/healthz?deep=1".to_owned()),
            host: Some("web.example".to_owned()),
            ..v1::HttpCheck::default()
        };
        assert_eq!(
            request_of("10.0.0.1:80", check),
            format!("HEAD /healthz?deep=1 HTTP/1.1\r\nHost: web.example\r\n{common}")
        );
    }

    #[test]
    fn http_1_0_names_a_host_only_when_it_is_given() {
        let mut check = v1::HttpCheck {
            version: Some(v1::http_check::Version::Http10.into()),
            ..v1::HttpCheck::default()
        };
        let bare = request_of("10.0.0.1:80", check.clone());
        assert!(bare.starts_with("GET / HTTP/1.0\r\nUser-Agent: "), "{bare}");
        check.host = Some("web".to_owned());
        let named = request_of("10.0.0.1:80", check);
        assert!(
            named.starts_with("GET / HTTP/1.0\r\nHost: web\r\n"),
            "{named}"
        );
    }

    #[test]
    fn ipv6_hosts_stand_in_brackets() {
        let mut check = v1::HttpCheck::default();
        let own = request_of("[fe80::1%3]:8080", check.clone());
        assert!(own.contains("Host: [fe80::1]:8080\r\n"), "{own}");
        for host in ["fd00::1", "[fd00::1]"] {
            check.host = Some(host.to_owned());
            let given = request_of("10.0.0.1:80", check.clone());
            assert!(given.contains("Host: [fd00::1]\r\n"), "{given}");
        }
    }
}
