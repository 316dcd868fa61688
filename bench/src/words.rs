//! Figures as people read them. Functions of values.

use std::collections::{BTreeMap, BTreeSet};

use crate::result::Cell;
use crate::stats::{Figure, Spread, Unit};

/// What stands where there is no figure.
pub(crate) const NONE: &str = "-";

/// Three digits: `0.35`, `3.5`, `35.1`, `351`; with a thousand's letter from there on: `12.3k`, `1.2M`.
pub(crate) fn count(value: f64) -> String {
    scaled(value, &["", "k", "M", "G", "T"])
}

fn scaled(value: f64, letters: &[&str]) -> String {
    if !value.is_finite() {
        return NONE.to_owned();
    }
    let mut rest = value;
    let mut step = 0;
    // 999.5 would be written as 1000.
    while rest.abs() >= 999.5 && step + 1 < letters.len() {
        rest /= 1000.0;
        step += 1;
    }
    let digits = if step == 0 && rest.fract() == 0.0 {
        0
    } else {
        decimals(rest)
    };
    if rest.abs() >= 1e6 {
        return format!("{rest:.1e}{}", letters[step]);
    }
    format!("{rest:.digits$}{}", letters[step])
}

/// So many that three digits show.
fn decimals(value: f64) -> usize {
    match value.abs() {
        small if small < 9.995 => 2,
        small if small < 99.95 => 1,
        _ => 0,
    }
}

/// `340 us`, `1.20 ms`, `2.30 s`, from nanoseconds.
pub(crate) fn time(nanoseconds: f64) -> String {
    if !nanoseconds.is_finite() {
        return NONE.to_owned();
    }
    let (value, unit) = match nanoseconds.abs() {
        small if small < 999.5 => (nanoseconds, "ns"),
        small if small < 999.5e3 => (nanoseconds / 1e3, "us"),
        small if small < 999.5e6 => (nanoseconds / 1e6, "ms"),
        _ => (nanoseconds / 1e9, "s"),
    };
    if value.abs() >= 1e6 {
        return format!("{value:.1e} {unit}");
    }
    let digits = decimals(value);
    format!("{value:.digits$} {unit}")
}

/// `1.2 GB/s`, `12.3k/s`, from units a second.
pub(crate) fn rate(units: f64, unit: &Unit) -> String {
    let amount = units * unit.count;
    if !amount.is_finite() {
        return NONE.to_owned();
    }
    if unit.is_bytes() {
        let letters = [" B", " kB", " MB", " GB", " TB"];
        format!("{}/s", scaled(amount, &letters))
    } else {
        format!("{}/s", count(amount))
    }
}

/// CPU time for [`per`]: `0.35 s` for a GB, `16.2 us` for a request, from seconds for a unit.
pub(crate) fn cpu(seconds: f64, unit: &Unit) -> String {
    if unit.is_bytes() {
        let seconds = seconds * 1e9 / unit.count;
        let digits = decimals(seconds);
        if !seconds.is_finite() || seconds.abs() >= 1e6 {
            return NONE.to_owned();
        }
        format!("{seconds:.digits$} s")
    } else {
        time(seconds / unit.count * 1e9)
    }
}

/// What [`cpu`] is for: `GB`, `request`.
pub(crate) fn per(unit: &Unit) -> String {
    if unit.is_bytes() {
        "GB".to_owned()
    } else {
        clean(unit.one())
    }
}

/// Memory from KiB: `900 KiB`, `9.1 MiB`.
pub(crate) fn memory(kib: f64) -> String {
    match kib {
        small if small < 1000.0 => format!("{kib:.0} KiB"),
        small if small < 1000.0 * 1024.0 => format!("{:.1} MiB", kib / 1024.0),
        _ => format!("{:.1} GiB", kib / (1024.0 * 1024.0)),
    }
}

/// A share of something: `0`, `0.02%`, `12%`; what is less than a millionth is `<0.0001%`.
pub(crate) fn share(share: f64) -> String {
    let percent = share * 100.0;
    match percent {
        none if none <= 0.0 => "0".to_owned(),
        tiny if tiny < 1e-4 => "<0.0001%".to_owned(),
        tiny if tiny < 0.01 => format!("{percent:.4}%"),
        small if small < 10.0 => format!("{percent:.2}%"),
        _ => format!("{percent:.0}%"),
    }
}

/// Any figure of a test.
pub(crate) fn figure(figure: Figure, value: f64, unit: &Unit) -> String {
    match figure {
        Figure::Rate => rate(value, unit),
        Figure::ProxyCpu | Figure::MachineCpu => cpu(value, unit),
        Figure::P50 | Figure::P99 | Figure::P999 => time(value),
        Figure::Memory => memory(value),
        Figure::PerConnection => format!("{value:.2} KiB"),
        Figure::Failures => share(value),
    }
}

/// `0.92`, `1.31`, `12.3`.
pub(crate) fn ratio(value: f64) -> String {
    if !value.is_finite() {
        return NONE.to_owned();
    }
    let digits = decimals(value);
    if value.abs() >= 1e6 {
        return format!("{value:.1e}");
    }
    format!("{value:.digits$}")
}

/// Its least and its most: `0.90-0.95`.
pub(crate) fn range(spread: &Spread) -> String {
    format!("{}-{}", ratio(spread.low), ratio(spread.high))
}

/// `5.00 ms` as `5 ms`, for ticks.
pub(crate) fn trimmed(text: &str) -> String {
    let (number, unit) = text.split_once(' ').unwrap_or((text, ""));
    let number = match number.split_once('.') {
        Some(_) => number.trim_end_matches('0').trim_end_matches('.'),
        None => number,
    };
    format!("{number} {unit}").trim_end().to_owned()
}

/// The most answers of a Pod in times of the least: `1.02`, or that one got none.
pub(crate) fn skew(skew: f64) -> String {
    if skew.is_finite() {
        ratio(skew)
    } else {
        "one got none".to_owned()
    }
}

/// How long a run took: `41 s`, `8 min 34 s`, `2 h 5 min`.
pub(crate) fn duration(seconds: f64) -> String {
    let seconds = seconds.round();
    let (minutes, hours) = ((seconds / 60.0).floor(), (seconds / 3600.0).floor());
    match seconds {
        long if !(0.0..3.6e8).contains(&long) => NONE.to_owned(),
        ..120.0 => format!("{seconds:.0} s"),
        ..7200.0 => format!("{minutes:.0} min {:.0} s", seconds % 60.0),
        _ => format!("{hours:.0} h {:.0} min", minutes % 60.0),
    }
}

/// `1 round`, `7 rounds`.
pub(crate) fn plural(number: usize, noun: &str) -> String {
    if number == 1 {
        format!("1 {noun}")
    } else {
        format!("{number} {noun}s")
    }
}

/// Versions with what they are of, where they do not say so themselves; one that several subjects have is told once.
pub(crate) fn versions(versions: &BTreeMap<String, String>) -> Vec<String> {
    let mut groups: Vec<(&str, Vec<&str>)> = Vec::new();
    for (subject, version) in versions {
        match groups.iter_mut().find(|(known, _)| known == version) {
            Some((_, subjects)) => subjects.push(subject),
            None => groups.push((version, vec![subject])),
        }
    }
    let named = |(version, subjects): &(&str, Vec<&str>)| match subjects[..] {
        [subject] if version.to_lowercase().contains(&subject.to_lowercase()) => clean(version),
        [subject] => clean(&format!("{subject} {version}")),
        _ => clean(&format!("{version} ({})", subjects.join(", "))),
    };
    groups.iter().map(named).collect()
}

/// What subjects and clients agreed on where they spoke TLS, by the subjects that did: `TLS13_AES_128_GCM_SHA256 (envoy)`.
pub(crate) fn suites(cells: &[Cell]) -> Vec<String> {
    let mut subjects: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for cell in cells {
        for suite in cell.rounds.iter().flat_map(|round| round.suites.keys()) {
            subjects.entry(suite).or_default().insert(&cell.subject);
        }
    }
    let named = |(suite, subjects): (&str, BTreeSet<&str>)| {
        let subjects: Vec<_> = subjects.into_iter().collect();
        clean(&format!("{suite} ({})", subjects.join(", ")))
    };
    subjects.into_iter().map(named).collect()
}

/// Text from elsewhere, without what could steer a terminal.
pub(crate) fn clean(text: &str) -> String {
    // Besides control characters, those that turn the direction of writing.
    let steers = |c: char| {
        c.is_control()
            || matches!(c, '\u{200e}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    text.chars()
        .map(|c| if steers(c) { ' ' } else { c })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_have_three_digits_or_less() {
        let check = |value, text: &str| assert_eq!(count(value), text);
        check(0.0, "0");
        check(0.351, "0.35");
        check(7.0, "7");
        check(999.0, "999");
        check(999.6, "1.00k");
        check(12_340.0, "12.3k");
        check(1.234e6, "1.23M");
        check(1e308, "1.0e296T");
        check(f64::NAN, "-");
    }

    #[test]
    fn times_find_their_unit() {
        let check = |value, text: &str| assert_eq!(time(value), text);
        check(0.0, "0.00 ns");
        check(340_000.0, "340 us");
        check(999_600.0, "1.00 ms");
        check(1_204_000.0, "1.20 ms");
        check(2.3e9, "2.30 s");
        check(u64::MAX as f64, "1.8e10 s");
    }

    #[test]
    fn rates_and_costs_follow_the_unit() {
        let (requests, bytes) = (Unit::parse("100k requests"), Unit::parse("GB"));
        assert_eq!(rate(0.123, &requests), "12.3k/s");
        assert_eq!(rate(1.2, &bytes), "1.20 GB/s");
        assert_eq!(rate(0.012, &bytes), "12.0 MB/s");
        assert_eq!(cpu(1.62, &requests), "16.2 us");
        assert_eq!(cpu(0.351, &bytes), "0.35 s");
        assert_eq!(
            (per(&requests), per(&bytes)),
            ("request".into(), "GB".into())
        );
        assert_eq!(rate(1e308, &requests), "-");
    }

    #[test]
    fn shares_and_sizes() {
        let shown = [0.0, 1e-9, 2e-5, 0.001, 0.5].map(share);
        assert_eq!(shown, ["0", "<0.0001%", "0.0020%", "0.10%", "50%"]);
        let shown = [900.0, 9_300.0, 3e6].map(memory);
        assert_eq!(shown, ["900 KiB", "9.1 MiB", "2.9 GiB"]);
    }

    #[test]
    fn a_version_is_told_once() {
        let all = [
            ("direct", "podline-proxy 1"),
            ("direct-transparent", "podline-proxy 1"),
            ("envoy", "2"),
            ("nginx", "nginx version: 3"),
        ];
        let all = all.map(|(subject, version)| (subject.to_owned(), version.to_owned()));
        let told = versions(&BTreeMap::from(all));
        let first = "podline-proxy 1 (direct, direct-transparent)";
        assert_eq!(told, [first, "envoy 2", "nginx version: 3"]);
    }

    #[test]
    fn suites_are_told_with_who_agreed_on_them() {
        use crate::synthetic::World;
        let mut cells = World::headline(2).run().cells;
        assert_eq!(suites(&cells), [""; 0]);
        cells[0].rounds[1].suites.insert("TLS13".to_owned(), 64);
        cells[1].rounds[0].suites.insert("TLS13".to_owned(), 1);
        cells[1].rounds[0].suites.insert("TLS12".to_owned(), 1);
        let expected = ["TLS12 (direct)", "TLS13 (direct, pod)"];
        assert_eq!(suites(&cells), expected);
    }

    #[test]
    fn durations_have_two_units() {
        let shown = [0.4, 41.0, 514.5, 7_500.0, -1.0, f64::NAN].map(duration);
        assert_eq!(shown, ["0 s", "41 s", "8 min 35 s", "2 h 5 min", "-", "-"]);
        assert_eq!([1.02, f64::INFINITY].map(skew), ["1.02", "one got none"]);
    }

    #[test]
    fn ticks_have_no_needless_digits() {
        let shown = ["5.00 ms", "500 us", "1.50 s", "0.00", "20"].map(trimmed);
        assert_eq!(shown, ["5 ms", "500 us", "1.5 s", "0", "20"]);
    }

    #[test]
    fn text_cannot_steer() {
        assert_eq!(clean("a\x1b[31m\u{202e}b\n"), "a [31m b ");
    }
}
