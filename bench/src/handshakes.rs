//! What a handshake of TLS costs: by how much a request that had a connection of its own cost more than one that shared it.

use crate::result::{Cell, Round};
use crate::stats::{Row, Test, median};
use crate::words;

/// What tests are called that send the same, in connections that stay and in one for each request.
pub(crate) const KEPT: &str = "https";
pub(crate) const CLOSED: &str = "https-close";

/// As `haproxy 480 us, nginx 500 us`, of the proxy's CPU. Nothing if no handshakes were measured so.
pub(crate) fn costs(tests: &[Test<'_>]) -> Option<String> {
    let find = |name| tests.iter().find(|test| test.name == name);
    let (kept, closed) = (find(KEPT)?, find(CLOSED)?);
    let counts = |row: &&Row<'_>| row.void.is_none();
    let of = |row: &Row<'_>| {
        let other = kept.row(row.subject()).filter(counts)?;
        let seconds = cost(row.cell, other.cell)?;
        let time = words::time(seconds * 1e9);
        Some(format!("{} {time}", words::clean(row.subject())))
    };
    let rows = closed.rows.iter().filter(counts);
    let all: Vec<String> = rows.filter_map(of).collect();
    (!all.is_empty()).then(|| all.join(", "))
}

/// CPU seconds of the proxy for a handshake, as a median over rounds.
fn cost(closed: &Cell, kept: &Cell) -> Option<f64> {
    let of = |(closed, kept): (&Round, &Round)| {
        let handshakes: u64 = closed.suites.values().sum();
        let requests = kept.proxy_cpu_per_unit()? * closed.units;
        (handshakes > 0).then_some((closed.proxy_cpu? - requests) / handshakes as f64)
    };
    median(closed.rounds.iter().zip(&kept.rounds).filter_map(of))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::result::RunResult;
    use crate::stats::tests;
    use crate::synthetic::World;

    fn cell(test: &str, subject: &str, proxy_cpu: f64, handshakes: u64) -> Cell {
        let round = Round {
            units: 2.0,
            seconds: 1.0,
            proxy_cpu: Some(proxy_cpu),
            suites: [("TLS13".to_owned(), handshakes)].into(),
            begun: 200_000,
            ..Round::default()
        };
        Cell {
            test: test.to_owned(),
            subject: subject.to_owned(),
            step: None,
            unit: "100k requests".to_owned(),
            rounds: vec![round; 3],
            is_balanced: false,
            void: None,
        }
    }

    fn told(cells: Vec<Cell>) -> Option<String> {
        let run = RunResult {
            cells,
            ..World::headline(1).run()
        };
        costs(&tests(&run))
    }

    #[test]
    fn a_handshake_is_what_a_connection_costs_more_than_a_request() {
        let cells = || {
            vec![
                cell(KEPT, "haproxy", 4.0, 64),
                cell(KEPT, "nginx", 4.0, 64),
                cell(CLOSED, "haproxy", 104.0, 200_000),
                cell(CLOSED, "nginx", 84.0, 200_000),
            ]
        };
        let both = "haproxy 500 us, nginx 400 us";
        assert_eq!(told(cells()).as_deref(), Some(both));
        let mut one = cells();
        one[1].void = Some("it died".to_owned());
        assert_eq!(told(one).as_deref(), Some("haproxy 500 us"));
        let mut none = cells();
        for cell in &mut none {
            cell.rounds
                .iter_mut()
                .for_each(|round| round.suites.clear());
        }
        assert_eq!(told(none), None);
        assert_eq!(told(cells()[..2].to_vec()), None);
    }
}
