//! Sets of status codes as people write them: `200`, `200-299`, `2xx`.

use std::fmt;

use crate::Invalid;
use crate::address::shorten;

/// Which status codes pass a probe. Ranges in the order they were given; never empty.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct StatusRanges(Vec<StatusRange>);

/// Status codes from the first to the last, both included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct StatusRange {
    first: u16,
    last: u16,
}

/// Ranges in one check at most.
const MAX_RANGES: usize = 50;

impl StatusRanges {
    /// Whether `status` is in one of the ranges.
    pub fn contains(&self, status: u16) -> bool {
        self.0
            .iter()
            .any(|range| (range.first..=range.last).contains(&status))
    }

    /// Reads `wire`; none means `default`. `codes` are those that there can be.
    pub(crate) fn read(
        wire: &[String],
        default: &[&str],
        codes: std::ops::RangeInclusive<u16>,
    ) -> Result<Self, Invalid> {
        if wire.len() > MAX_RANGES {
            let problem = format!(
                "{} entries are too many: use {MAX_RANGES} at most",
                wire.len()
            );
            return Err(Invalid::one("", problem));
        }
        let given: Vec<&str> = match wire {
            [] => default.to_vec(),
            wire => wire.iter().map(String::as_str).collect(),
        };
        let read = |(index, text): (usize, &&str)| {
            range(text)
                .filter(|r| {
                    r.first <= r.last && codes.contains(&r.first) && codes.contains(&r.last)
                })
                .ok_or_else(|| {
                    let (low, high) = (codes.start(), codes.end());
                    let problem = format!(
                        "{} is no status or range of {low} to {high}: write {low}, {low}-{high}{}",
                        shorten(text),
                        if *low == 100 { " or 2xx" } else { "" }
                    );
                    Invalid::one(format!("[{index}]"), problem)
                })
        };
        given
            .iter()
            .enumerate()
            .map(read)
            .collect::<Result<_, _>>()
            .map(Self)
    }

    /// The wire form.
    pub(crate) fn to_wire(&self) -> Vec<String> {
        self.0.iter().map(ToString::to_string).collect()
    }
}

fn range(text: &str) -> Option<StatusRange> {
    if let Some(class) = text.strip_suffix("xx") {
        let class: u16 = digits(class)?;
        return Some(StatusRange {
            first: class.checked_mul(100)?,
            last: class.checked_mul(100)?.checked_add(99)?,
        });
    }
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    Some(StatusRange {
        first: digits(first)?,
        last: digits(last)?,
    })
}

/// A number without a sign.
fn digits(text: &str) -> Option<u16> {
    text.bytes()
        .all(|b| b.is_ascii_digit())
        .then(|| text.parse().ok())?
}

impl fmt::Display for StatusRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { first, last } = self;
        if first == last {
            write!(f, "{first}")
        } else if first % 100 == 0 && first / 100 > 0 && *last == first + 99 {
            write!(f, "{}xx", first / 100)
        } else {
            write!(f, "{first}-{last}")
        }
    }
}

impl fmt::Display for StatusRanges {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.to_wire().join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(wire: &[&str]) -> Result<StatusRanges, Invalid> {
        let wire: Vec<String> = wire.iter().map(ToString::to_string).collect();
        StatusRanges::read(&wire, &["2xx", "3xx"], 100..=599)
    }

    #[test]
    fn ranges_are_read_and_written_back() {
        let ranges = read(&["200", "204-206", "3xx"]).unwrap();
        assert_eq!(ranges.to_string(), "200, 204-206, 3xx");
        for (status, passes) in [
            (200, true),
            (201, false),
            (205, true),
            (399, true),
            (400, false),
        ] {
            assert_eq!(ranges.contains(status), passes, "{status}");
        }
        assert_eq!(read(&[]).unwrap().to_string(), "2xx, 3xx");
        let grpc = StatusRanges::read(&["0-99".to_owned()], &[], 0..=99).unwrap();
        assert_eq!(grpc.to_string(), "0-99");
    }

    #[test]
    fn nonsense_is_refused_with_its_place() {
        for text in [
            "", "2x", "xx", "20", "600", "300-200", "+200", "200-", "2xx-3xx", "9xx", "99999",
        ] {
            let invalid = read(&["200", text]).unwrap_err();
            let shown = invalid.to_string();
            assert!(shown.starts_with("[1]: "), "{text}: {shown}");
            assert!(shown.contains("write 100, 100-599 or 2xx"), "{shown}");
        }
        assert!(read(&["200"; 51]).is_err());
    }
}
