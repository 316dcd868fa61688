//! Socket addresses as people write them: `ip:port`, `[v6]:port`. Host names are never resolved.

use std::net::{IpAddr, SocketAddr};

use crate::Invalid;

/// An address that clients can connect to: any but port 0 and multicast; the unspecified address means all of them.
pub(crate) fn listen_address(text: &str) -> Result<SocketAddr, Invalid> {
    let address = parse(text)?;
    refuse_if(
        is_multicast(address.ip()),
        text,
        "is a multicast or broadcast address",
    )?;
    Ok(address)
}

/// An address that the proxy can connect to.
pub(crate) fn backend_address(text: &str) -> Result<SocketAddr, Invalid> {
    let address = listen_address(text)?;
    refuse_if(
        address.ip().is_unspecified(),
        text,
        "names no host: write the backend's own address",
    )?;
    Ok(address)
}

/// The address of one host, without a port.
pub(crate) fn host(text: &str) -> Result<IpAddr, Invalid> {
    let names_a_host = |ip: &IpAddr| !ip.is_unspecified() && !is_multicast(*ip);
    let is_mapped = |ip: &IpAddr| matches!(ip, IpAddr::V6(ip) if ip.to_ipv4_mapped().is_some());
    let ip = text.parse::<IpAddr>().ok().filter(names_a_host);
    ip.filter(|ip| !is_mapped(ip)).ok_or_else(|| {
        let problem = format!("{} is no address of a host", shorten(text));
        Invalid::one("", problem)
    })
}

fn parse(text: &str) -> Result<SocketAddr, Invalid> {
    let address: SocketAddr = match text.parse() {
        Ok(address) => address,
        Err(_) => return Err(Invalid::one("", explain(text))),
    };
    refuse_if(address.port() == 0, text, "has port 0: use 1 to 65535")?;
    if let IpAddr::V6(ip) = address.ip()
        && let Some(v4) = ip.to_ipv4_mapped()
    {
        // Two spellings of one address would be two identities.
        return Err(Invalid::one(
            "",
            format!(
                "{text} is an IPv4 address in IPv6 form: write {v4}:{}",
                address.port()
            ),
        ));
    }
    Ok(address)
}

fn is_multicast(ip: IpAddr) -> bool {
    ip.is_multicast() || matches!(ip, IpAddr::V4(ip) if ip.is_broadcast())
}

/// No other host can be reached at it: loopback or link-local.
pub(crate) fn is_special(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => ip.is_loopback() || ip.is_link_local(),
        IpAddr::V6(ip) => ip.is_loopback() || ip.is_unicast_link_local(),
    }
}

fn refuse_if(refused: bool, text: &str, problem: &str) -> Result<(), Invalid> {
    if refused {
        Err(Invalid::one("", format!("{text} {problem}")))
    } else {
        Ok(())
    }
}

/// Why `text` is no address, guessing what was meant.
fn explain(text: &str) -> String {
    let shown = shorten(text);
    let (host, port) = text.rsplit_once(':').unwrap_or((text, ""));
    if text.is_empty() {
        "is required: write ip:port or [v6]:port".to_owned()
    } else if let Ok(ip) = text.parse::<IpAddr>() {
        match ip {
            // "::1:80" is an address too, so both readings are shown.
            IpAddr::V6(_) if host.parse::<std::net::Ipv6Addr>().is_ok() => {
                format!(
                    "{shown} has no port, or no brackets: write [{text}]:PORT or [{host}]:{port}"
                )
            }
            IpAddr::V6(_) => format!("{shown} has no port: write [{text}]:PORT"),
            IpAddr::V4(_) => format!("{shown} has no port: write {text}:PORT"),
        }
    } else if host.parse::<IpAddr>().is_ok()
        || host
            .strip_prefix('[')
            .and_then(|h| h.strip_suffix(']'))
            .is_some()
    {
        format!("{shown} is not an address: the port must be 1 to 65535")
    } else if host.starts_with(|c: char| c.is_ascii_alphabetic()) {
        format!(
            "{shown} is not an address: host names are not resolved, write ip:port or [v6]:port"
        )
    } else {
        format!("{shown} is not an address: write ip:port or [v6]:port")
    }
}

/// Quoted, and cut so that hostile input cannot fill an answer.
pub(crate) fn shorten(text: &str) -> String {
    const SHOWN: usize = 60;
    match text.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{:?}…", &text[..end]),
        None => format!("{text:?}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read() {
        for text in [
            "127.0.0.1:80",
            "[::1]:65535",
            "0.0.0.0:8080",
            "[::]:1",
            "[fe80::1%2]:80",
        ] {
            assert_eq!(listen_address(text).unwrap().to_string(), text);
        }
    }

    #[test]
    fn bad_addresses_are_explained() {
        let check = |text: &str, problem: &str| {
            assert_eq!(
                backend_address(text),
                Err(Invalid::one("", problem)),
                "{text}"
            );
        };
        check("", "is required: write ip:port or [v6]:port");
        check("10.0.0.1", "\"10.0.0.1\" has no port: write 10.0.0.1:PORT");
        check("::1", "\"::1\" has no port: write [::1]:PORT");
        check(
            "fd00::7:80",
            "\"fd00::7:80\" has no port, or no brackets: write [fd00::7:80]:PORT or [fd00::7]:80",
        );
        check(
            "localhost:80",
            "\"localhost:80\" is not an address: host names are not resolved, write ip:port or [v6]:port",
        );
        check(
            "web",
            "\"web\" is not an address: host names are not resolved, write ip:port or [v6]:port",
        );
        check(
            "10.0.0.1:http",
            "\"10.0.0.1:http\" is not an address: the port must be 1 to 65535",
        );
        check(
            "10.0.0.1:65536",
            "\"10.0.0.1:65536\" is not an address: the port must be 1 to 65535",
        );
        check(
            "10.0.0.1:99999999999999999999",
            "\"10.0.0.1:99999999999999999999\" is not an address: the port must be 1 to 65535",
        );
        check(
            "10.0.0.256:80",
            "\"10.0.0.256:80\" is not an address: write ip:port or [v6]:port",
        );
        check("10.0.0.1:0", "10.0.0.1:0 has port 0: use 1 to 65535");
        check(
            "[::ffff:10.0.0.1]:80",
            "[::ffff:10.0.0.1]:80 is an IPv4 address in IPv6 form: write 10.0.0.1:80",
        );
        check(
            "224.0.0.1:80",
            "224.0.0.1:80 is a multicast or broadcast address",
        );
        check(
            "255.255.255.255:80",
            "255.255.255.255:80 is a multicast or broadcast address",
        );
        check(
            "[ff02::1]:80",
            "[ff02::1]:80 is a multicast or broadcast address",
        );
        check(
            "0.0.0.0:80",
            "0.0.0.0:80 names no host: write the backend's own address",
        );
        check(
            "[::]:80",
            "[::]:80 names no host: write the backend's own address",
        );
        let long = "ä".repeat(1_000);
        check(
            &long,
            &format!(
                "\"{}\"… is not an address: write ip:port or [v6]:port",
                "ä".repeat(60)
            ),
        );
    }
}
