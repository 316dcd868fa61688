//! Numbers, times and tables as people read them. Pure: the time is an argument.

use std::ffi::OsString;
use std::time::{Duration, SystemTime};

use comfy_table::{Cell, CellAlignment, Table, presets};
use podline_api::v1::explanation::Reason;
use prost_types::Timestamp;

/// `0 B`, `999 B`, `1.0 KiB`, `3.4 GiB`.
pub(super) fn bytes(count: u64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    if count < 1024 {
        return format!("{count} B");
    }
    let mut value = count as f64 / 1024.0;
    let mut unit = 0;
    // 1023.95 would be written as 1024.0.
    while value >= 1023.95 && unit < UNITS.len() - 1 {
        value /= 1024.0;
        unit += 1;
    }
    format!("{value:.1} {}", UNITS[unit])
}

/// How long ago `then` was. Empty if it is not known.
pub(super) fn age(then: Option<&Timestamp>, now: SystemTime) -> String {
    let age = |then: &Timestamp| span(unix_seconds(now).saturating_sub(seconds(then)));
    then.map(age).unwrap_or_default()
}

/// `until 2023-11-14T22:23:20Z`, or `until undone`.
pub(super) fn until(end: Option<&Timestamp>) -> String {
    end.map_or_else(
        || "until undone".to_owned(),
        |end| format!("until {}", Timestamp { nanos: 0, ..*end }),
    )
}

/// How long it is to `end`. Empty if there is none.
pub(super) fn left(end: Option<&Timestamp>, now: SystemTime) -> String {
    let left = |end: &Timestamp| span(seconds(end).saturating_sub(unix_seconds(now)));
    end.map(left).unwrap_or_default()
}

fn seconds(time: &Timestamp) -> u64 {
    u64::try_from(time.seconds).unwrap_or(0)
}

fn unix_seconds(time: SystemTime) -> u64 {
    time.duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default()
        .as_secs()
}

/// A number of seconds in its largest unit or two: `5s`, `3m`, `2h10m`, `4d3h`.
fn span(seconds: u64) -> String {
    let (minutes, hours, days) = (seconds / 60, seconds / 3_600, seconds / 86_400);
    let two = |large: u64, unit: &str, small: u64, smaller: &str| {
        if small == 0 {
            format!("{large}{unit}")
        } else {
            format!("{large}{unit}{small}{smaller}")
        }
    };
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3_600 => format!("{minutes}m"),
        3_600..86_400 => two(hours, "h", minutes % 60, "m"),
        _ => two(days, "d", hours % 24, "h"),
    }
}

/// A measured time: `0.35 ms`, `12 ms`, `1.2 s`.
pub(super) fn measured(time: Duration) -> String {
    let millis = time.as_secs_f64() * 1e3;
    match millis {
        ..10.0 => format!("{millis:.2} ms"),
        10.0..1_000.0 => format!("{millis:.0} ms"),
        _ => format!("{:.1} s", millis / 1e3),
    }
}

/// `1 backend`, `2 backends`.
pub(super) fn count(number: usize, noun: &str) -> String {
    if number == 1 {
        format!("1 {noun}")
    } else {
        format!("{number} {noun}s")
    }
}

/// A reason as a word: `probes-fail`. A question mark if this release does not know it.
pub(super) fn reason(reason: Reason) -> String {
    match reason {
        Reason::Unspecified => "?".to_owned(),
        known => known.as_str_name().to_lowercase().replace('_', "-"),
    }
}

/// Text from elsewhere, without what could steer a terminal.
pub(super) fn clean(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect()
}

/// Columns two spaces apart under a header; a header that starts with `>` aligns its column to the right. A column
/// whose cells are all empty is left out.
pub(super) struct Columns {
    indent: &'static str,
    header: &'static [&'static str],
    rows: Vec<Vec<String>>,
}

impl Columns {
    /// An empty header is not shown.
    pub(super) const fn new(indent: &'static str, header: &'static [&'static str]) -> Self {
        Self {
            indent,
            header,
            rows: Vec::new(),
        }
    }

    pub(super) fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.rows
            .push(cells.into_iter().map(|cell| clean(&cell)).collect());
    }

    /// The lines, each ended.
    pub(super) fn text(&self) -> String {
        let width = self.rows.first().map_or(0, Vec::len);
        let filled = |column: &usize| {
            self.rows
                .iter()
                .any(|row| row.get(*column).is_some_and(|cell| !cell.is_empty()))
        };
        let shown: Vec<usize> = (0..width).filter(filled).collect();
        let mut table = Table::new();
        table.load_style(presets::NOTHING);
        if !self.header.is_empty() {
            table.set_header(
                shown
                    .iter()
                    .map(|column| self.header[*column].trim_start_matches('>')),
            );
        }
        for row in &self.rows {
            table.add_row(shown.iter().map(|column| Cell::new(&row[*column])));
        }
        for (column, index) in table.column_iter_mut().zip(&shown) {
            column.set_padding((0, 2));
            if self
                .header
                .get(*index)
                .is_some_and(|name| name.starts_with('>'))
            {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
        let mut text = String::new();
        for line in table.lines() {
            text.extend([self.indent, line.trim_end(), "\n"]);
        }
        text
    }
}

/// Whether states should be coloured on a terminal; see <https://no-color.org>.
pub(super) fn colour_wanted(variable: impl Fn(&str) -> Option<OsString>) -> bool {
    variable("NO_COLOR").is_none_or(|value| value.is_empty())
        && variable("TERM").is_none_or(|value| value != "dumb")
}

/// Colours the words that are states. Done on finished text, so that tables need not know about it.
pub(super) fn paint(text: &str) -> String {
    const GREEN: &str = "32";
    const YELLOW: &str = "33";
    const RED: &str = "31";
    let in_word = |c: char| c.is_alphanumeric() || c == '_';
    let mut out = String::with_capacity(text.len() * 2);
    for part in text.split_inclusive(|c: char| !in_word(c)) {
        let word = part.trim_end_matches(|c: char| !in_word(c));
        let rest = &part[word.len()..];
        let colour = match word {
            "HEALTHY" | "LISTENING" | "READY" => GREEN,
            "UNHEALTHY" | "FAILED" => RED,
            "DETECTING" | "DRAINING" => YELLOW,
            _ => {
                out.push_str(part);
                continue;
            }
        };
        for piece in ["\x1b[", colour, "m", word, "\x1b[0m", rest] {
            out.push_str(piece);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_rounded_to_a_decimal() {
        let check = |count, text: &str| assert_eq!(bytes(count), text);
        check(0, "0 B");
        check(1_023, "1023 B");
        check(1_024, "1.0 KiB");
        check(1_536, "1.5 KiB");
        check(1_048_575, "1.0 MiB");
        check(3_700_000_000, "3.4 GiB");
        check(u64::MAX, "16.0 EiB");
    }

    #[test]
    fn ages_are_short() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000);
        let check = |seconds, text: &str| {
            let then = Timestamp {
                seconds: 1_000_000 - seconds,
                nanos: 0,
            };
            assert_eq!(age(Some(&then), now), text);
        };
        check(0, "0s");
        check(59, "59s");
        check(60, "1m");
        check(3_600, "1h");
        check(7_800, "2h10m");
        check(86_400, "1d");
        check(100_800, "1d4h");
        check(-5, "0s");
        check(i64::MAX, "11d13h");
        assert_eq!(age(None, now), "");
    }

    #[test]
    fn ends_are_told_with_the_time_left() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
        let check = |seconds, text: &str| {
            let nanos = 5;
            let end = Timestamp { seconds, nanos };
            let (until, left) = (until(Some(&end)), left(Some(&end), now));
            assert_eq!(format!("{until}, {left}"), text);
        };
        check(1_700_000_600, "until 2023-11-14T22:23:20Z, 10m");
        check(1_699_999_999, "until 2023-11-14T22:13:19Z, 0s");
        assert_eq!(until(None), "until undone");
        assert_eq!(left(None, now), "");
    }

    #[test]
    fn reasons_are_words() {
        assert_eq!(reason(Reason::DrainedByOverride), "drained-by-override");
        assert_eq!(reason(Reason::Unspecified), "?");
    }

    #[test]
    fn measured_times_keep_two_or_three_digits() {
        let check = |micros, text: &str| assert_eq!(measured(Duration::from_micros(micros)), text);
        check(0, "0.00 ms");
        check(350, "0.35 ms");
        check(12_345, "12 ms");
        check(1_234_567, "1.2 s");
    }

    #[test]
    fn only_states_are_coloured() {
        let check = |text: &str, painted: &str| assert_eq!(paint(text), painted);
        check("web  HEALTHY  3m\n", "web  \x1b[32mHEALTHY\x1b[0m  3m\n");
        check(
            "UNHEALTHY DRAINING",
            "\x1b[31mUNHEALTHY\x1b[0m \x1b[33mDRAINING\x1b[0m",
        );
        check("ROUND_ROBIN é HEALTHYish", "ROUND_ROBIN é HEALTHYish");
        check("", "");
    }

    #[test]
    fn columns_without_content_are_left_out() {
        let mut columns = Columns::new("", &["A", "B", ">C"]);
        columns.row(["1".to_owned(), String::new(), "3".to_owned()]);
        columns.row(["4".to_owned(), String::new(), String::new()]);
        assert_eq!(columns.text(), "A  C\n1  3\n4\n");
        assert_eq!(Columns::new("", &[]).text(), "");
    }

    #[test]
    fn colour_follows_the_environment() {
        let check = |variables: &[(&str, &str)], wanted| {
            let variable = |name: &str| {
                variables
                    .iter()
                    .find(|(n, _)| *n == name)
                    .map(|(_, value)| value.into())
            };
            assert_eq!(colour_wanted(variable), wanted, "{variables:?}");
        };
        check(&[], true);
        check(&[("TERM", "xterm")], true);
        check(&[("NO_COLOR", "")], true);
        check(&[("NO_COLOR", "1")], false);
        check(&[("TERM", "dumb")], false);
    }

    #[test]
    fn text_from_elsewhere_cannot_steer_the_terminal() {
        let mut columns = Columns::new("  ", &["NAME", ">COUNT"]);
        columns.row(["\x1b[31ma\r\nb".to_owned(), "7".to_owned()]);
        assert_eq!(columns.text(), "  NAME       COUNT\n   [31ma  b      7\n");
    }
}
