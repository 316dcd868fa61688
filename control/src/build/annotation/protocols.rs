//! `specify-protocol`: what a Service's TCP ports speak besides TCP, for which hosts, and where their certificates are.
//! Pure.

use std::collections::BTreeMap;
use std::sync::Arc;

use podline_api::{HttpRoute, Protocol, v1};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::value::{SHOWN, is_name, shorten, shorten_to};

/// Secrets of one port at most: what a listener can show.
const MOST_SECRETS: usize = 100;

/// The ports that speak something else than TCP.
pub type Protocols = BTreeMap<u16, Spoken>;

/// What a port speaks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spoken {
    /// HTTP, HTTPS or TLS.
    pub protocol: Protocol,
    /// The hosts that are served there; none: all are, and always with TLS.
    pub hosts: Vec<String>,
    /// Secrets of the Service's namespace whose certificates are shown, each once, the port's own first; one at least
    /// with TLS and HTTPS, and none with HTTP.
    pub secrets: Vec<Arc<str>>,
}

/// What is said of a port.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Said {
    protocol: Vec<String>,
    #[serde(default)]
    hosts: Map<String, Value>,
    #[serde(default)]
    tls: Value,
}

pub(super) fn read(text: &str) -> Result<Protocols, String> {
    let said: BTreeMap<String, Said> =
        serde_json::from_str(text).map_err(|error| shorten_to(&error.to_string(), 2 * SHOWN))?;
    let mut ports = Protocols::new();
    for (port, said) in said {
        let of_port = |problem: String| format!("port {}: {problem}", shorten(&port));
        let number: u16 = port
            .parse()
            .ok()
            .filter(|number| *number > 0)
            .ok_or_else(|| of_port("is no port's number".to_owned()))?;
        let spoken = spoken(said).map_err(of_port)?;
        ports.extend(spoken.map(|spoken| (number, spoken)));
    }
    Ok(ports)
}

/// Nothing if a port speaks what its own protocol says.
fn spoken(said: Said) -> Result<Option<Spoken>, String> {
    let Some((protocol, word)) = protocol(&said.protocol)? else {
        return no_hosts(&said).map(|()| None);
    };
    if !protocol.is_http() {
        no_hosts(&said)?;
    }
    let secrets = if protocol.has_tls() {
        secrets(&said)?
    } else {
        Vec::new()
    };
    if protocol.has_tls() && secrets.is_empty() {
        return Err(format!(
            "{word} needs a certificate: name a Secret as \"tls\""
        ));
    }
    Ok(Some(Spoken {
        protocol,
        hosts: hosts(said.hosts)?,
        secrets,
    }))
}

fn no_hosts(said: &Said) -> Result<(), String> {
    if said.hosts.is_empty() {
        return Ok(());
    }
    Err("hosts are for HTTP and HTTPS".to_owned())
}

/// What the listener speaks, and its word; nothing for TCP and UDP, which the port's own protocol says.
fn protocol(words: &[String]) -> Result<Option<(Protocol, &str)>, String> {
    let mut found = None;
    for word in words {
        let protocol = match word.as_str() {
            "TCP" | "UDP" => continue,
            "HTTP" => Protocol::Http,
            "HTTPS" => Protocol::Https,
            "TCP_SSL" => Protocol::Tls,
            "QUIC" => return Err("QUIC is not built yet".to_owned()),
            other => return Err(format!("{:?} is no protocol", shorten(other))),
        };
        found = Some((protocol, word.as_str()));
    }
    match (words.len(), found) {
        (0, _) => Err("names no protocol".to_owned()),
        (1, found) => Ok(found),
        (_, None) => Ok(None),
        (_, Some((_, word))) => Err(format!("{word} cannot share a port with another protocol")),
    }
}

/// The Secrets that are named for the port and for its hosts.
fn secrets(said: &Said) -> Result<Vec<Arc<str>>, String> {
    let of_hosts = said.hosts.values().map(|host| &host["tls"]);
    let mut secrets: Vec<Arc<str>> = Vec::new();
    for named in std::iter::once(&said.tls).chain(of_hosts) {
        let name = match named {
            Value::Null => continue,
            Value::String(name) if is_name(name) => name.as_str(),
            odd => {
                let odd = shorten(&odd.to_string());
                return Err(format!("{odd} is no Secret's name"));
            }
        };
        if secrets.iter().all(|known| **known != *name) {
            secrets.push(name.into());
        }
    }
    if secrets.len() > MOST_SECRETS {
        return Err(format!("names more than {MOST_SECRETS} Secrets"));
    }
    Ok(secrets)
}

fn hosts(said: Map<String, Value>) -> Result<Vec<String>, String> {
    let route = v1::HttpRoute {
        hosts: said.into_iter().map(|(host, _)| host).collect(),
        backend_set: "any".to_owned(),
        ..v1::HttpRoute::default()
    };
    let route = HttpRoute::try_from(route);
    let route = route.map_err(|invalid| shorten_to(&invalid.to_string(), 2 * SHOWN))?;
    Ok(route.hosts)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spoken(protocol: Protocol, hosts: &[&str], secrets: &[&str]) -> Spoken {
        Spoken {
            protocol,
            hosts: hosts.iter().map(ToString::to_string).collect(),
            secrets: secrets.iter().map(|name| (*name).into()).collect(),
        }
    }

    #[test]
    fn ports_are_read_with_their_hosts() {
        let ports = |text| read(text).unwrap();
        assert_eq!(ports("{}"), Protocols::new());
        assert_eq!(
            ports(r#"{"80":{"protocol":["TCP","UDP"]}}"#),
            Protocols::new()
        );
        assert_eq!(
            ports(r#"{"80":{"protocol":["HTTP"],"tls":"s"}}"#),
            [(80, spoken(Protocol::Http, &[], &[]))].into()
        );
        let two = r#"{"80":{"protocol":["HTTP"],"hosts":{"B.example":{},"*.a.example":{}}},"53":{"protocol":["UDP"]}}"#;
        let hosts = ["*.a.example", "b.example"];
        assert_eq!(
            ports(two),
            [(80, spoken(Protocol::Http, &hosts, &[]))].into()
        );
    }

    #[test]
    fn ports_are_read_with_their_secrets() {
        let of = |text| read(text).unwrap().remove(&443).unwrap();
        assert_eq!(
            of(r#"{"443":{"protocol":["TCP_SSL"],"tls":"web.tls"}}"#),
            spoken(Protocol::Tls, &[], &["web.tls"])
        );
        assert_eq!(
            of(r#"{"443":{"protocol":["HTTPS"],"hosts":{"a.com":{"tls":"a"},"b.com":{}}}}"#),
            spoken(Protocol::Https, &["a.com", "b.com"], &["a"])
        );
        let many = r#"{"443":{"protocol":["HTTPS"],"tls":"z","hosts":{"a.com":{"tls":"b"},"b.com":{"tls":"a"},"c.com":{"tls":"b"},"d.com":{"tls":"z"}}}}"#;
        let hosts = ["a.com", "b.com", "c.com", "d.com"];
        assert_eq!(
            of(many),
            spoken(Protocol::Https, &hosts, &["z", "b", "a"]),
            "each once, the port's own first"
        );
    }

    #[test]
    fn what_cannot_be_is_said_with_its_port() {
        let long = format!(
            r#"{{"80":{{"protocol":["HTTPS"],"tls":"{}"}}}}"#,
            "a".repeat(254)
        );
        assert!(read(&long).unwrap_err().ends_with("is no Secret's name"));
        for (text, problem) in [
            (
                r#"{"80":{"protocol":["QUIC"],"tls":"s"}}"#,
                "port 80: QUIC is not built yet",
            ),
            (
                r#"{"80":{"protocol":["HTTPS"],"hosts":{"a.example":{}}}}"#,
                "port 80: HTTPS needs a certificate: name a Secret as \"tls\"",
            ),
            (
                r#"{"80":{"protocol":["TCP_SSL"]}}"#,
                "port 80: TCP_SSL needs a certificate: name a Secret as \"tls\"",
            ),
            (
                r#"{"80":{"protocol":["HTTPS"],"tls":"a,metadata.name=b"}}"#,
                "port 80: \"a,metadata.name=b\" is no Secret's name",
            ),
            (
                r#"{"80":{"protocol":["HTTPS"],"tls":""}}"#,
                "port 80: \"\" is no Secret's name",
            ),
            (
                r#"{"80":{"protocol":["HTTPS"],"hosts":{"a.example":{"tls":1}}}}"#,
                "port 80: 1 is no Secret's name",
            ),
            (
                r#"{"80":{"protocol":["http"]}}"#,
                "port 80: \"http\" is no protocol",
            ),
            (r#"{"80":{"protocol":[]}}"#, "port 80: names no protocol"),
            (
                r#"{"0":{"protocol":["HTTP"]}}"#,
                "port 0: is no port's number",
            ),
            (
                r#"{"web":{"protocol":["HTTP"]}}"#,
                "port web: is no port's number",
            ),
            (
                r#"{"80":{"protocol":["HTTP","TCP"]}}"#,
                "port 80: HTTP cannot share a port with another protocol",
            ),
            (
                r#"{"80":{"protocol":["TCP"],"hosts":{"a.example":{}}}}"#,
                "port 80: hosts are for HTTP and HTTPS",
            ),
            (
                r#"{"80":{"protocol":["TCP_SSL"],"tls":"s","hosts":{"a.example":{}}}}"#,
                "port 80: hosts are for HTTP and HTTPS",
            ),
        ] {
            assert_eq!(read(text).unwrap_err(), problem, "{text}");
        }
        for text in [
            "",
            "[]",
            "{\"80\":{}}",
            "{\"80\":{\"protocol\":[\"HTTP\"],\"host\":{}}}",
        ] {
            assert!(!read(text).unwrap_err().is_empty(), "{text}");
        }
        let bad = read(r#"{"80":{"protocol":["HTTP"],"hosts":{"a b":{}}}}"#).unwrap_err();
        assert!(bad.starts_with("port 80: hosts[0]"), "{bad}");
    }
}
