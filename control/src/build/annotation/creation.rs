//! `service.extensiveParameters`: what TKE passes on when it makes a load balancer. Pure.

use std::net::IpAddr;

use serde_json::{Map, Value};

use super::value::{SHOWN, shorten, shorten_to};
use crate::cluster::family::parse_ip;

/// What means something here.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Creation {
    /// The address to have.
    pub vip: Option<IpAddr>,
    /// It is to have an address of IPv6.
    pub is_ipv6: bool,
    /// What people call it.
    pub name: Option<String>,
    /// What means nothing here, in its order.
    pub others: Vec<String>,
}

pub(super) fn read(text: &str) -> Result<Creation, String> {
    let said: Map<String, Value> =
        serde_json::from_str(text).map_err(|error| shorten_to(&error.to_string(), 2 * SHOWN))?;
    let mut creation = Creation::default();
    for (key, value) in said {
        let words = value.as_str();
        let odd = |what: &str| format!("{key}: {} is {what}", shorten(&value.to_string()));
        match key.as_str() {
            "Vip" => {
                let vip = words.and_then(parse_ip);
                creation.vip = Some(vip.ok_or_else(|| odd("no IP address"))?);
            }
            "AddressIPVersion" => {
                creation.is_ipv6 = match words.map(str::to_ascii_lowercase).as_deref() {
                    Some("ipv4") => false,
                    Some("ipv6" | "ipv6fullchain") => true,
                    _ => return Err(odd("none of \"IPV4\", \"IPV6\" and \"IPv6FullChain\"")),
                };
            }
            "LoadBalancerName" => {
                creation.name = Some(shorten(words.ok_or_else(|| odd("no name"))?));
            }
            _ => creation.others.push(shorten(&key)),
        }
    }
    Ok(creation)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::testing::ip;

    #[test]
    fn what_means_something_is_told_from_what_does_not() {
        let text = r#"{"AddressIPVersion":"IPv6FullChain","Vip":"203.0.113.7","LoadBalancerName":"shop","VipIsp":"CTCC","SlaType":"clb.c3.medium"}"#;
        let expected = Creation {
            vip: Some(ip("203.0.113.7")),
            is_ipv6: true,
            name: Some("shop".to_owned()),
            others: vec!["SlaType".to_owned(), "VipIsp".to_owned()],
        };
        let mut found = read(text).unwrap();
        found.others.sort();
        assert_eq!(found, expected);
        assert!(!read(r#"{"AddressIPVersion":"IPV4"}"#).unwrap().is_ipv6);
        assert_eq!(read("{}").unwrap(), Creation::default());
    }

    #[test]
    fn what_cannot_be_is_said() {
        for (text, problem) in [
            (r#"{"Vip":"here"}"#, "Vip: \"here\" is no IP address"),
            (r#"{"Vip":7}"#, "Vip: 7 is no IP address"),
            (
                r#"{"AddressIPVersion":"5"}"#,
                "AddressIPVersion: \"5\" is none of \"IPV4\", \"IPV6\" and \"IPv6FullChain\"",
            ),
            (
                r#"{"LoadBalancerName":[]}"#,
                "LoadBalancerName: [] is no name",
            ),
        ] {
            assert_eq!(read(text).unwrap_err(), problem, "{text}");
        }
        for text in ["", "[]", "1e999"] {
            assert!(read(text).unwrap_err().len() < 200, "{text}");
        }
    }
}
