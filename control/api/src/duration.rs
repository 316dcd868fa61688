//! Durations: whole milliseconds, written `500ms`, `5s`, `15m` or `3h`, each field with its own range.

use std::ops::RangeInclusive;
use std::time::Duration;

use crate::Invalid;
use crate::address::shorten;

const NANOS_PER_MILLI: u32 = 1_000_000;
const UNITS: [(&str, u64); 4] = [("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000)];

/// How long connections may live on after what they belong to is removed.
pub const DRAIN_RANGE: RangeInclusive<Duration> = Duration::ZERO..=Duration::from_hours(24);

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

/// Writes a duration in the largest unit that holds it exactly, or in decimal seconds if it is not whole milliseconds.
pub fn format(duration: Duration) -> String {
    if !duration.subsec_nanos().is_multiple_of(NANOS_PER_MILLI) {
        let decimal = format!("{}.{:09}", duration.as_secs(), duration.subsec_nanos());
        return format!("{}s", decimal.trim_end_matches('0'));
    }
    let millis = duration.as_millis();
    let fits = |unit: u64| millis > 0 && millis.is_multiple_of(u128::from(unit));
    let (name, unit) = UNITS
        .iter()
        .rev()
        .find(|(_, unit)| fits(*unit))
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
    if !nanos.is_multiple_of(NANOS_PER_MILLI) {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_and_written() {
        let check = |text: &str, millis: u64, written: &str| {
            let value = parse(text).unwrap();
            assert_eq!(
                (value, format(value).as_str()),
                (Duration::from_millis(millis), written)
            );
        };
        check("0s", 0, "0s");
        check("0ms", 0, "0s");
        check("500ms", 500, "500ms");
        check("5s", 5_000, "5s");
        check("15m", 900_000, "15m");
        check("90s", 90_000, "90s");
        check("120s", 120_000, "2m");
        check("3h", 10_800_000, "3h");
        check("1500ms", 1_500, "1500ms");
        assert_eq!(format(Duration::from_micros(350)), "0.00035s");
        assert_eq!(format(Duration::new(1, 1)), "1.000000001s");
    }

    #[test]
    fn what_is_no_duration_is_refused() {
        let check = |text: &str, problem: &str| {
            assert_eq!(parse(text).unwrap_err(), format!("{text:?} {problem}"));
        };
        for text in [
            "",
            "5",
            "s",
            "5 s",
            "-5s",
            "1.5s",
            "5S",
            "5d",
            "1m30s",
            "５s",
            "\u{1F600}",
        ] {
            check(text, "is not a duration: write 500ms, 5s, 15m or 3h");
        }
        for text in [
            "99999999999999999999s",
            "18446744073709551615h",
            "315576000001s",
            "87660001h",
        ] {
            check(text, "is too long");
        }
    }

    #[test]
    fn wire_durations_keep_to_their_range() {
        let range = || Duration::from_millis(100)..=Duration::from_mins(1);
        let check = |seconds, nanos, expected: Result<Duration, &str>| {
            let wire = Some(prost_types::Duration { seconds, nanos });
            let found = from_wire(wire, Duration::ZERO, range());
            assert_eq!(
                found,
                expected.map_err(|problem| Invalid::one("", problem)),
                "{seconds} {nanos}"
            );
        };
        check(5, 0, Ok(Duration::from_secs(5)));
        check(0, 100_000_000, Ok(Duration::from_millis(100)));
        check(60, 0, Ok(Duration::from_mins(1)));
        check(0, 99_999_999, Err("must be 100ms to 1m"));
        check(60, 1, Err("must be 100ms to 1m"));
        check(i64::MAX, 999_999_999, Err("must be 100ms to 1m"));
        check(1, 1, Err("must be whole milliseconds"));
        check(-1, 0, Err("is negative"));
        check(0, -1, Err("is negative"));
        check(i64::MIN, i32::MIN, Err("is negative"));
        check(1, i32::MAX, Err("has more than 999999999 nanos"));
        assert_eq!(
            from_wire(None, Duration::from_secs(7), range()),
            Ok(Duration::from_secs(7))
        );
    }
}
