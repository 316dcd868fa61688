//! Durations: whole milliseconds, written `500ms`, `5s`, `15m` or `3h`, each field with its own range.

use std::ops::RangeInclusive;
use std::time::Duration;

use crate::Invalid;
use crate::address::shorten;

const UNITS: [(&str, u64); 4] = [("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000)];

/// How long connections may live on after what they belong to is removed.
pub(crate) const DRAIN_RANGE: RangeInclusive<Duration> = Duration::ZERO..=Duration::from_hours(24);

/// Reads `500ms`, `5s`, `15m` or `3h`.
///
/// # Errors
/// Says what to write instead.
pub fn parse(text: &str) -> Result<Duration, String> {
    let digits = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let unit = UNITS
        .iter()
        .find(|(name, _)| *name == unit)
        .map(|(_, millis)| *millis);
    let (Some(unit), false) = (unit, number.is_empty()) else {
        return Err(format!(
            "{} is not a duration: write 500ms, 5s, 15m or 3h",
            shorten(text)
        ));
    };
    let millis = number.parse::<u64>().ok().and_then(|n| n.checked_mul(unit));
    // protobuf's Duration ends at 10,000 years.
    match millis {
        Some(millis) if millis <= 315_576_000_000_000 => Ok(Duration::from_millis(millis)),
        _ => Err(format!("{} is too long", shorten(text))),
    }
}

/// Writes a duration in the largest unit that holds it exactly; what is below a millisecond is left out.
pub fn format(duration: Duration) -> String {
    let millis = duration.as_millis();
    let (name, unit) = UNITS
        .iter()
        .rev()
        .find(|(_, unit)| millis >= u128::from(*unit) && millis % u128::from(*unit) == 0)
        .unwrap_or(&UNITS[1]);
    format!("{}{name}", millis / u128::from(*unit))
}

/// The value of a wire field that may be absent, within `range`.
pub(crate) fn from_wire(
    wire: Option<prost_types::Duration>,
    default: Duration,
    range: RangeInclusive<Duration>,
) -> Result<Duration, Invalid> {
    let Some(wire) = wire else { return Ok(default) };
    let refuse = |problem: String| Err(Invalid::one("", problem));
    let (Ok(seconds), Ok(nanos)) = (u64::try_from(wire.seconds), u32::try_from(wire.nanos)) else {
        return refuse("is negative".to_owned());
    };
    if nanos > 999_999_999 {
        return refuse("has more than 999999999 nanos".to_owned());
    }
    let value = Duration::new(seconds, nanos);
    if !range.contains(&value) {
        return refuse(format!(
            "must be {} to {}",
            format(*range.start()),
            format(*range.end())
        ));
    }
    if nanos % 1_000_000 != 0 {
        return refuse("must be whole milliseconds".to_owned());
    }
    Ok(value)
}

/// The wire form. Domain durations are bounded, so the seconds always fit.
pub(crate) fn to_wire(duration: Duration) -> prost_types::Duration {
    prost_types::Duration {
        seconds: i64::try_from(duration.as_secs()).unwrap_or(i64::MAX),
        nanos: i32::try_from(duration.subsec_nanos()).unwrap_or(0),
    }
}
