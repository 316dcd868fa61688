//! The words in which an event tells how a Pod came into traffic. Pure.

use jiff::SignedDuration;

use super::point::{Point, Points};

/// What is told of which point.
const TOLD: [(Point, &str); 4] = [
    (Point::Bound, "bound"),
    (Point::Probed, "first probe"),
    (Point::Healthy, "healthy"),
    (Point::GateOpened, "gate open"),
];

/// `bound after 9 ms, first probe after 14 ms, healthy after 311 ms, gate open after 318 ms`, of what is known. Absent if it
/// is not known when it began.
pub(super) fn in_service(points: &Points) -> Option<String> {
    let began = points.get(Point::Endpoint)?;
    let known = TOLD.iter().filter_map(|(point, name)| {
        let after = points.get(*point)?.duration_since(began);
        Some(format!("{name} after {}", time(after)))
    });
    let known: Vec<_> = known.collect();
    (!known.is_empty()).then(|| known.join(", "))
}

/// `9 ms`, `12.3 s`, `12 min`.
fn time(time: SignedDuration) -> String {
    let ms = time.as_millis().max(0);
    match ms {
        0..10_000 => format!("{ms} ms"),
        10_000..600_000 => format!("{}.{} s", ms / 1_000, ms / 100 % 10),
        _ => format!("{} min", ms / 60_000),
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;

    #[test]
    fn what_is_known_is_told() {
        let mut points = Points::default();
        let at = |ms: i64| Timestamp::from_millisecond(1_000 + ms).unwrap();
        assert_eq!(in_service(&points), None);
        points.set(Point::Endpoint, at(0));
        assert_eq!(in_service(&points), None);
        points.set(Point::Bound, at(9));
        points.set(Point::Healthy, at(12_345));
        assert_eq!(
            in_service(&points).unwrap(),
            "bound after 9 ms, healthy after 12.3 s"
        );
        points.set(Point::Probed, at(14));
        points.set(Point::GateOpened, at(900_000));
        assert_eq!(
            in_service(&points).unwrap(),
            "bound after 9 ms, first probe after 14 ms, healthy after 12.3 s, gate open after 15 min"
        );
    }
}
