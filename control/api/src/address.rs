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
