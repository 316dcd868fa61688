//! How the values of annotations are read, each with the words for what it cannot be. Pure.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use podline_api::{ProxyHeader, SourceAddress, UdpCheck};

use crate::build::source_ranges;
use crate::cluster::family::{Family, parse_ip};
use crate::cluster::service::MAX_VALUE_BYTES;

pub(super) fn not_too_long(text: &str) -> Result<(), String> {
    if text.len() <= MAX_VALUE_BYTES {
        return Ok(());
    }
    Err(format!(
        "{:?} is longer than {MAX_VALUE_BYTES} bytes",
        shorten_to(text, SHOWN)
    ))
}

pub(super) fn boolean(text: &str) -> Result<bool, String> {
    match text {
        "true" => Ok(true),
        "false" => Ok(false),
        _ => Err(format!(
            "{:?} is neither \"true\" nor \"false\"",
            shorten(text)
        )),
    }
}

pub(super) fn skip(text: &str) -> Result<bool, String> {
    match text {
        "skip" => Ok(true),
        "" => Ok(false),
        _ => Err(format!("{:?} is not \"skip\"", shorten(text))),
    }
}

/// As clouds give them out, and we do.
pub(super) fn balancer(text: &str) -> Result<String, String> {
    if !is_id(text) {
        return Err(format!("{:?} is no load balancer's id", shorten(text)));
    }
    Ok(text.to_owned())
}

fn is_id(text: &str) -> bool {
    const LONGEST: usize = 64;
    let is_plain = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
    (1..=LONGEST).contains(&text.len()) && text.bytes().all(is_plain)
}

/// As many as a load balancer of TKE takes; nothing is none.
pub(super) fn groups(text: &str) -> Result<Vec<String>, String> {
    const MOST: usize = 5;
    if text.is_empty() {
        return Ok(Vec::new());
    }
    let is_group = |id: &&str| is_id(id) && id.strip_prefix("sg-").is_some_and(|it| !it.is_empty());
    let ids: Vec<_> = text.split(',').map(str::trim).collect();
    if let Some(odd) = ids.iter().find(|id| !is_group(id)) {
        return Err(format!("{:?} is no security group's id", shorten(odd)));
    }
    if ids.len() > MOST {
        return Err(format!("more than {MOST} security groups"));
    }
    Ok(ids.into_iter().map(ToOwned::to_owned).collect())
}

/// How much of a text is shown, in bytes.
pub(super) const SHOWN: usize = 80;

pub(super) fn addresses(text: &str) -> Result<Vec<IpAddr>, String> {
    let read =
        |part: &str| parse_ip(part).ok_or_else(|| format!("{:?} is no IP address", shorten(part)));
    let found: Vec<_> = text
        .split(',')
        .map(|part| read(part.trim()))
        .collect::<Result<_, _>>()?;
    let of = |family| found.iter().filter(|ip| Family::of(**ip) == family).count();
    if of(Family::V4) > 1 || of(Family::V6) > 1 {
        return Err("names more than one address of a family".to_owned());
    }
    Ok(found)
}

pub(super) fn pre_stop_sleep(text: &str) -> Result<Duration, String> {
    const MOST: Duration = Duration::from_mins(10);
    let sleep = podline_api::duration::parse(text)?;
    if sleep.subsec_nanos() > 0 || sleep.is_zero() || sleep > MOST {
        return Err(format!(
            "{:?} is not whole seconds from 1s to 10m",
            shorten(text)
        ));
    }
    Ok(sleep)
}

pub(super) fn source_address(text: &str) -> Result<SourceAddress, String> {
    match text {
        "snat" => Ok(SourceAddress::Snat),
        "prefer-transparent" => Ok(SourceAddress::PreferTransparent),
        "transparent" => Ok(SourceAddress::Transparent),
        _ => Err(format!(
            "{:?} is none of \"snat\", \"prefer-transparent\" and \"transparent\"",
            shorten(text)
        )),
    }
}

pub(super) fn proxy_header(text: &str) -> Result<ProxyHeader, String> {
    let mut parts = text.split(',').map(str::trim);
    let (mut crc32c, mut unique_id) = (false, false);
    let version = parts.next().unwrap_or_default();
    for option in parts {
        match option {
            "crc32c" if version == "v2" => crc32c = true,
            "unique-id" if version == "v2" => unique_id = true,
            "crc32c" | "unique-id" => return Err(format!("{option} is for \"v2\"")),
            odd => {
                let odd = shorten(odd);
                return Err(format!("{odd:?} is neither \"crc32c\" nor \"unique-id\""));
            }
        }
    }
    match version {
        "v1" => Ok(ProxyHeader::V1),
        "v2" => Ok(ProxyHeader::V2 { crc32c, unique_id }),
        odd => Err(format!("{:?} is neither \"v1\" nor \"v2\"", shorten(odd))),
    }
}

pub(super) fn udp_check(text: &str) -> Result<UdpCheck, String> {
    let (send, expect) = match text.split_once(" => ") {
        Some((send, expect)) => (send, Some(expect)),
        None => (text, None),
    };
    let expect = expect.map(datagram).transpose()?;
    if expect.as_ref().is_some_and(Vec::is_empty) {
        return Err(format!("{:?} expects nothing", shorten(text)));
    }
    Ok(UdpCheck {
        send: datagram(send)?,
        expect,
    })
}

/// Text, or bytes as `hex:00ff10`.
pub(super) fn datagram(text: &str) -> Result<Vec<u8>, String> {
    const LONGEST: usize = 500;
    let bytes = match text.strip_prefix("hex:") {
        None => Some(text.as_bytes().to_vec()),
        Some(digits) if is_hex(digits) => {
            let bytes = (0..digits.len()).step_by(2);
            bytes
                .map(|at| u8::from_str_radix(&digits[at..at + 2], 16).ok())
                .collect()
        }
        Some(_) => None,
    };
    let bytes = bytes.ok_or_else(|| format!("{:?} is no hex", shorten(text)))?;
    if bytes.len() > LONGEST {
        return Err(format!(
            "{:?} is longer than {LONGEST} bytes",
            shorten(text)
        ));
    }
    Ok(bytes)
}

pub(super) fn is_hex(digits: &str) -> bool {
    digits.len().is_multiple_of(2) && digits.bytes().all(|b| b.is_ascii_hexdigit())
}

/// Better none than some: whose header is missed would be taken for the client itself.
pub(super) fn networks(text: &str) -> Result<Vec<IpNet>, String> {
    let mut found = text
        .split(',')
        .map(|part| {
            let network = source_ranges::network(part.trim());
            network.ok_or_else(|| format!("{:?} is no network", shorten(part)))
        })
        .collect::<Result<Vec<_>, _>>()?;
    found.sort_unstable();
    found.dedup();
    if found.len() > source_ranges::MOST {
        return Err(format!("more than {} networks", source_ranges::MOST));
    }
    Ok(found)
}

pub(super) fn namespaces(text: &str) -> Result<BTreeSet<String>, String> {
    let is_name = |part: &&str| {
        (1..=63).contains(&part.len())
            && part
                .bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
    };
    let parts: Vec<_> = text.split(',').map(str::trim).collect();
    match parts.iter().find(|part| !is_name(part)) {
        Some(odd) => Err(format!("{:?} is no namespace", shorten(odd))),
        None => Ok(parts.into_iter().map(ToOwned::to_owned).collect()),
    }
}

pub(super) fn object_name(text: &str) -> Result<Arc<str>, String> {
    if is_name(text) {
        return Ok(text.into());
    }
    Err(format!("{:?} is no name of an object", shorten(text)))
}

/// As the API server takes names; nothing else may come into a query for one.
pub(crate) fn is_name(text: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let ends = [text.bytes().next(), text.bytes().next_back()];
    text.len() <= 253
        && ends.into_iter().all(|end| end.is_some_and(is_plain))
        && text
            .bytes()
            .all(|byte| is_plain(byte) || b"-.".contains(&byte))
}

/// Enough of a text to know it again.
pub(crate) fn shorten(text: &str) -> String {
    if text.len() <= SHOWN {
        return text.to_owned();
    }
    format!("{} ({} bytes)", shorten_to(text, SHOWN), text.len())
}

pub(super) fn shorten_to(text: &str, bytes: usize) -> String {
    if text.len() <= bytes {
        return text.to_owned();
    }
    format!("{}…", &text[..text.floor_char_boundary(bytes)])
}
