//! `specify-protocol`: which of a Service's TCP ports are read as HTTP, and for which hosts. Pure.

use std::collections::BTreeMap;

use podline_api::{HttpRoute, v1};
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::{Map, Value};

use super::value::{SHOWN, shorten, shorten_to};

/// The ports that are read as HTTP, each with the hosts that are served there; no hosts: all are.
pub type HttpPorts = BTreeMap<u16, Vec<String>>;

/// What is said of a port.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Said {
    protocol: Vec<String>,
    #[serde(default)]
    hosts: Map<String, Value>,
    #[serde(default, rename = "tls")]
    _tls: Option<IgnoredAny>,
}

pub(super) fn read(text: &str) -> Result<HttpPorts, String> {
    let said: BTreeMap<String, Said> =
        serde_json::from_str(text).map_err(|error| shorten_to(&error.to_string(), 2 * SHOWN))?;
    let mut ports = HttpPorts::new();
    for (port, said) in said {
        let of_port = |problem: String| format!("port {}: {problem}", shorten(&port));
        let number: u16 = port
            .parse()
            .ok()
            .filter(|number| *number > 0)
            .ok_or_else(|| of_port("is no port's number".to_owned()))?;
        if is_http(&said.protocol).map_err(of_port)? {
            ports.insert(number, hosts(said.hosts).map_err(of_port)?);
        } else if !said.hosts.is_empty() {
            return Err(of_port("hosts are for HTTP".to_owned()));
        }
    }
    Ok(ports)
}

/// Whether this says HTTP; TCP and UDP say what the port's own protocol says.
fn is_http(protocols: &[String]) -> Result<bool, String> {
    for protocol in protocols {
        match protocol.as_str() {
            "TCP" | "UDP" | "HTTP" => {}
            "TCP_SSL" | "HTTPS" | "QUIC" => return Err(format!("{protocol} is not built yet")),
            other => return Err(format!("{:?} is no protocol", shorten(other))),
        }
    }
    match protocols {
        [] => Err("names no protocol".to_owned()),
        [one] => Ok(one == "HTTP"),
        many if many.iter().any(|it| it == "HTTP") => {
            Err("HTTP cannot share a port with another protocol".to_owned())
        }
        _ => Ok(false),
    }
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

    #[test]
    fn ports_are_read_with_their_hosts() {
        let ports = |text| read(text).unwrap();
        assert_eq!(ports("{}"), HttpPorts::new());
        assert_eq!(
            ports(r#"{"80":{"protocol":["TCP","UDP"]}}"#),
            HttpPorts::new()
        );
        assert_eq!(
            ports(r#"{"80":{"protocol":["HTTP"]}}"#),
            [(80, vec![])].into()
        );
        let two = r#"{"80":{"protocol":["HTTP"],"hosts":{"B.example":{},"*.a.example":{}}},"53":{"protocol":["UDP"]}}"#;
        let hosts = vec!["*.a.example".to_owned(), "b.example".to_owned()];
        assert_eq!(ports(two), [(80, hosts)].into());
    }

    #[test]
    fn what_cannot_be_is_said_with_its_port() {
        for (text, problem) in [
            (
                r#"{"80":{"protocol":["HTTPS"],"tls":"s"}}"#,
                "port 80: HTTPS is not built yet",
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
                "port 80: hosts are for HTTP",
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
