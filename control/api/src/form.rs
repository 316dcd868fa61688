//! The JSON and YAML form of wire messages: durations `5s`, times RFC 3339, enums by name, as in protobuf's JSON.
//! The generated messages name these functions in their serde attributes (see build.rs).

#![allow(
    clippy::ref_option,
    clippy::trivially_copy_pass_by_ref,
    reason = "serde passes a reference to the field"
)]

use std::fmt;
use std::marker::PhantomData;

use serde::de::{self, Deserializer, Visitor};
use serde::ser::{self, Serializer};
use serde::{Deserialize, Serialize};

use crate::address::shorten;
use crate::{Invalid, duration, v1};

/// An enum of the wire with its names.
pub(crate) trait WireEnum: Sized + Copy + 'static {
    /// Every value but UNSPECIFIED.
    const VALUES: &'static [Self];
    /// Its name in the .proto file.
    fn name(self) -> &'static str;
    /// Its number.
    fn number(self) -> i32;
}

macro_rules! wire_enums {
    ($($type:ty: $($value:ident)+;)+) => {$(
        impl WireEnum for $type {
            const VALUES: &'static [Self] = &[$(Self::$value),+];
            fn name(self) -> &'static str {
                self.as_str_name()
            }
            fn number(self) -> i32 {
                self as i32
            }
        }
    )+};
}

wire_enums! {
    v1::listener::Protocol: Tcp Udp Http Tls Https;
    v1::tls_settings::Version: Tls12 Tls13;
    v1::backend_set::HttpVersion: Http11 Http2;
    v1::listener::SourceAddress: Snat PreferTransparent Transparent;
    v1::proxy_protocol::Version: V1 V2;
    v1::path_status::State: Unproven Proven Failed;
    v1::address_status::State: Standby Probing Holding Conflict Yielded Failed;
    v1::backend_set::Policy: RoundRobin LeastConnections Maglev IpHash;
    v1::backend_set::HashKey: ClientIp Flow;
    v1::health_check::Type: Tcp Http Https Grpc Udp Ping;
    v1::http_check::Method: Get Head;
    v1::http_check::Version: Http10 Http11;
    v1::override_request::Action: Drain Weight Undrain;
    v1::explanation::Reason: ProbesPass NotChecked FailOpen KeptIn WeightOverridden AwaitingFirstVerdict Detecting ProbesFail
        FailClosed Ejected WeightZero DrainedByOverride Removed NoListener ListenerFailed ShuttingDown;
    v1::change::Action: Added Changed Removed;
    v1::listener_status::State: Listening Failed Draining;
    v1::Health: Detecting Healthy Unhealthy Disabled;
    v1::service_status::Standing: Ours Leaving ClaimedByOther NotOurs;
    v1::service_status::Mode: Direct NodePort;
    v1::drained::Stage: Closed Empty;
    v1::timeline_request::Kind: Pod Deployment StatefulSet DaemonSet ReplicaSet Service;
}

fn names<E: WireEnum>() -> Vec<&'static str> {
    E::VALUES.iter().map(|value| value.name()).collect()
}

/// The value with this number; UNSPECIFIED and unknown numbers have none.
pub(crate) fn known<E: WireEnum>(number: i32) -> Option<E> {
    E::VALUES
        .iter()
        .copied()
        .find(|value| value.number() == number)
}

/// An enum that may be absent, but not UNSPECIFIED or unknown.
pub(crate) fn optional<E: WireEnum>(number: Option<i32>) -> Result<Option<E>, Invalid> {
    number.map(|number| required(Some(number))).transpose()
}

/// A whole number from `range`, or `default` where it is absent.
pub(crate) fn number<T>(
    wire: Option<u32>,
    default: T,
    range: std::ops::RangeInclusive<u32>,
) -> Result<T, Invalid>
where
    T: TryFrom<u32>,
{
    let Some(value) = wire else {
        return Ok(default);
    };
    let refused = || {
        let (low, high) = (range.start(), range.end());
        Invalid::one("", format!("{value} is out of range: use {low} to {high}"))
    };
    if !range.contains(&value) {
        return Err(refused());
    }
    T::try_from(value).map_err(|_| refused())
}

/// A required enum that must not be absent, UNSPECIFIED or unknown.
pub(crate) fn required<E: WireEnum>(number: Option<i32>) -> Result<E, Invalid> {
    let Some(number) = number else {
        return Err(Invalid::one(
            "",
            format!("is required: use {}", names::<E>().join(" or ")),
        ));
    };
    let problem = || match number {
        0 => format!("is unspecified: use {}", names::<E>().join(" or ")),
        _ => format!(
            "{number} is unknown to this release: use {}",
            names::<E>().join(" or ")
        ),
    };
    known(number).ok_or_else(|| Invalid::one("", problem()))
}

/// The candidate that is close enough to `text` to be what was meant, whatever its case.
pub(crate) fn nearest<'a>(text: &str, candidates: &[&'a str]) -> Option<&'a str> {
    const LONGEST: usize = 64; // the distance is quadratic, and no name of ours is longer
    if text.chars().count() > LONGEST {
        return None;
    }
    let plain = |text: &str| text.replace(['_', '-', ' '], "").to_lowercase();
    let text = plain(text);
    let distance = |candidate: &&str| strsim::osa_distance(&text, &plain(candidate));
    let best = candidates.iter().copied().min_by_key(distance)?;
    (distance(&best) <= 1 + best.len() / 4 && !text.is_empty()).then_some(best)
}

/// Writes an enum as its name; a number that this release does not know, as the number.
pub(crate) fn write_plain_enum<E: WireEnum, S: Serializer>(
    number: &i32,
    out: S,
) -> Result<S::Ok, S::Error> {
    match known::<E>(*number) {
        Some(value) => out.serialize_str(value.name()),
        None if *number == 0 => out.serialize_str("UNSPECIFIED"),
        None => out.serialize_i32(*number),
    }
}

/// Writes an enum that is there.
pub(crate) fn write_optional_enum<E: WireEnum, S: Serializer>(
    number: &Option<i32>,
    out: S,
) -> Result<S::Ok, S::Error> {
    match number {
        Some(number) => write_plain_enum::<E, S>(number, out),
        None => out.serialize_none(),
    }
}

/// Reads an enum by name.
pub(crate) fn read_optional_enum<'de, E: WireEnum, D: Deserializer<'de>>(
    input: D,
) -> Result<Option<i32>, D::Error> {
    struct Names<E>(PhantomData<E>);
    impl<E: WireEnum> Visitor<'_> for Names<E> {
        type Value = i32;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str(&names::<E>().join(" or "))
        }

        fn visit_str<Error: de::Error>(self, text: &str) -> Result<Self::Value, Error> {
            if let Some(value) = E::VALUES.iter().find(|value| value.name() == text) {
                return Ok(value.number());
            }
            let names = names::<E>();
            let hint = match nearest(text, &names) {
                Some(name) => format!("did you mean {name}?"),
                None => format!("use {}", names.join(" or ")),
            };
            Err(Error::custom(format!(
                "unknown value {}, {hint}",
                shorten(text)
            )))
        }
    }
    struct Number<E>(i32, PhantomData<E>);
    impl<'de, E: WireEnum> Deserialize<'de> for Number<E> {
        fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
            input
                .deserialize_str(Names::<E>(PhantomData))
                .map(|number| Self(number, PhantomData))
        }
    }
    Ok(Option::<Number<E>>::deserialize(input)?.map(|number| number.0))
}

/// Writes a duration as `5s`; one that is not whole milliseconds (a measured one) as `0.00035s`.
pub(crate) fn write_duration<S: Serializer>(
    wire: &Option<prost_types::Duration>,
    out: S,
) -> Result<S::Ok, S::Error> {
    match wire.map(std::time::Duration::try_from) {
        Some(Ok(value)) => out.serialize_str(&duration::format(value)),
        Some(Err(_)) => Err(ser::Error::custom("negative duration")),
        None => out.serialize_none(),
    }
}

/// Reads `500ms`, `5s`, `15m` or `3h`.
pub(crate) fn read_duration<'de, D: Deserializer<'de>>(
    input: D,
) -> Result<Option<prost_types::Duration>, D::Error> {
    struct Text;
    impl Visitor<'_> for Text {
        type Value = prost_types::Duration;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a duration such as 500ms, 5s, 15m or 3h")
        }

        fn visit_str<Error: de::Error>(self, text: &str) -> Result<Self::Value, Error> {
            duration::parse(text)
                .map(duration::to_wire)
                .map_err(Error::custom)
        }
    }
    struct Wire(prost_types::Duration);
    impl<'de> Deserialize<'de> for Wire {
        fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
            input.deserialize_str(Text).map(Self)
        }
    }
    Ok(Option::<Wire>::deserialize(input)?.map(|wire| wire.0))
}

/// Reads a list; no value (`backends:` and nothing more) is an empty one, as in Kubernetes.
pub(crate) fn read_list<'de, T: Deserialize<'de>, D: Deserializer<'de>>(
    input: D,
) -> Result<Vec<T>, D::Error> {
    Ok(Option::deserialize(input)?.unwrap_or_default())
}

/// Writes a time as RFC 3339.
pub(crate) fn write_timestamp<S: Serializer>(
    wire: &Option<prost_types::Timestamp>,
    out: S,
) -> Result<S::Ok, S::Error> {
    match wire {
        Some(time) => out.collect_str(time),
        None => out.serialize_none(),
    }
}

impl Serialize for v1::WatchResponse {
    fn serialize<S: Serializer>(&self, out: S) -> Result<S::Ok, S::Error> {
        #[derive(serde::Serialize)]
        struct Flat<'a> {
            #[serde(
                serialize_with = "write_timestamp",
                skip_serializing_if = "Option::is_none"
            )]
            time: &'a Option<prost_types::Timestamp>,
            #[serde(flatten)]
            event: &'a Option<v1::watch_response::Event>,
        }
        Flat {
            time: &self.time,
            event: &self.event,
        }
        .serialize(out)
    }
}
