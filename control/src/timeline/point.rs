//! The points of a Pod's life with the load balancer, and the steps between them. Pure.

use jiff::Timestamp;

/// A point of a Pod's life with the load balancer, in the usual order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Point {
    /// The controller saw it in a slice of a Service of ours, fit to be bound.
    Endpoint,
    /// Every proxy that serves has it.
    Bound,
    /// Its first probe has ended, on the last proxy.
    Probed,
    /// Its probes pass on every proxy that serves, or it is not probed.
    Healthy,
    /// The API server has taken that its gate is open.
    GateOpened,
    /// Its first connection, through any proxy.
    Connected,
    /// Its deletion has begun.
    Terminating,
    /// No proxy can send it anything new.
    Closed,
    /// Its last connection through any proxy is gone.
    Empty,
    /// Its object is gone.
    Gone,
}

impl Point {
    /// All of them, in order.
    pub const ALL: [Self; 10] = [
        Self::Endpoint,
        Self::Bound,
        Self::Probed,
        Self::Healthy,
        Self::GateOpened,
        Self::Connected,
        Self::Terminating,
        Self::Closed,
        Self::Empty,
        Self::Gone,
    ];
}

/// What is measured: from one point to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    /// The label of its metric.
    pub name: &'static str,
    /// Where it begins.
    pub from: Point,
    /// Where it ends.
    pub to: Point,
}

const fn step(name: &'static str, from: Point, to: Point) -> Step {
    Step { name, from, to }
}

/// Every step that is measured.
pub const STEPS: [Step; 9] = [
    step("endpoint_to_bound", Point::Endpoint, Point::Bound),
    step("bound_to_probed", Point::Bound, Point::Probed),
    step("bound_to_healthy", Point::Bound, Point::Healthy),
    step("healthy_to_gate", Point::Healthy, Point::GateOpened),
    step("gate_to_connected", Point::GateOpened, Point::Connected),
    step("endpoint_to_gate", Point::Endpoint, Point::GateOpened),
    step("terminating_to_closed", Point::Terminating, Point::Closed),
    step("terminating_to_empty", Point::Terminating, Point::Empty),
    step("terminating_to_gone", Point::Terminating, Point::Gone),
];

/// When a Pod came to which point.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Points {
    at: [Option<Timestamp>; Point::ALL.len()],
    /// Points that an object told, and nobody saw: true, but not exact enough to be measured from.
    told: [bool; Point::ALL.len()],
}

impl Points {
    /// When it came to a point; absent if that was not seen.
    pub fn get(&self, point: Point) -> Option<Timestamp> {
        self.at[point as usize]
    }

    /// It came to a point; whether that is news.
    pub(super) fn set(&mut self, point: Point, at: Timestamp) -> bool {
        let place = &mut self.at[point as usize];
        let is_new = place.is_none();
        place.get_or_insert(at);
        is_new
    }

    /// The same, by what an object says.
    pub(super) fn set_told(&mut self, point: Point, at: Timestamp) {
        if self.set(point, at) {
            self.told[point as usize] = true;
        }
    }

    /// It came to a point earlier than was known; whether that is news.
    pub(super) fn set_earlier(&mut self, point: Point, at: Timestamp) -> bool {
        let place = &mut self.at[point as usize];
        let is_earlier = place.is_none_or(|known| at < known);
        if is_earlier {
            *place = Some(at);
        }
        is_earlier
    }

    /// How many seconds a step took, if both ends were seen. One whose end came first took none.
    pub fn seconds(&self, step: Step) -> Option<f64> {
        let seen = |point: Point| self.get(point).filter(|_| !self.told[point as usize]);
        let took = seen(step.to)?.duration_since(seen(step.from)?);
        Some(took.as_secs_f64().max(0.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: i64) -> Timestamp {
        Timestamp::from_millisecond(ms).unwrap()
    }

    #[test]
    fn points_stand_in_their_places() {
        for (index, point) in Point::ALL.into_iter().enumerate() {
            assert_eq!(point as usize, index);
        }
        let names: std::collections::BTreeSet<_> = STEPS.iter().map(|step| step.name).collect();
        assert_eq!(names.len(), STEPS.len());
    }

    #[test]
    fn a_step_is_measured_between_two_points_that_were_seen() {
        let mut points = Points::default();
        let [closed, gone] = [STEPS[6], STEPS[8]];
        assert!(points.set(Point::Closed, at(1_000)));
        assert!(
            !points.set(Point::Closed, at(2_000)),
            "the first time counts"
        );
        assert_eq!(points.seconds(closed), None);
        points.set(Point::Terminating, at(4_000));
        assert_eq!(points.seconds(closed), Some(0.0), "it was closed before");
        points.set(Point::Gone, at(4_250));
        assert_eq!(points.seconds(gone), Some(0.25));
        let mut told = Points::default();
        told.set_told(Point::Terminating, at(4_000));
        told.set(Point::Gone, at(5_000));
        assert_eq!(told.get(Point::Terminating), Some(at(4_000)));
        assert_eq!(told.seconds(gone), None);
    }
}
