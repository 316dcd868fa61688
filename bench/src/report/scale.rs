//! Scales of plots: values to shares of a length, and where their ticks are.

/// A logarithmic scale.
#[derive(Clone, Copy, Debug)]
pub(super) struct Log {
    low: f64,
    high: f64,
}

impl Log {
    /// Over these values with some room at both ends; `None` if none is more than 0.
    pub(super) fn over(values: impl IntoIterator<Item = f64>) -> Option<Self> {
        let fit = values.into_iter().filter(|v| v.is_finite() && *v > 0.0);
        let (low, high) = fit.fold((f64::INFINITY, 0.0_f64), |(low, high), value| {
            (low.min(value), high.max(value))
        });
        (high > 0.0).then(|| Self {
            low: low / 1.25,
            high: high * 1.25,
        })
    }

    /// 0 at the low end, 1 at the high one; what lies beyond is at the end.
    pub(super) fn at(self, value: f64) -> f64 {
        let whole = (self.high / self.low).ln();
        let share = (value.max(self.low) / self.low).ln() / whole;
        if share.is_finite() {
            share.clamp(0.0, 1.0)
        } else {
            0.0
        }
    }

    /// Powers of ten, with their double and fivefold where there are few of them.
    pub(super) fn ticks(self) -> Vec<f64> {
        let decades = (self.high / self.low).log10();
        if decades < 0.5 {
            let every = |parts: f64| -> Vec<f64> {
                let step = nice_step((self.high - self.low) / parts);
                let first = (self.low / step).ceil();
                let ticks = (0_u8..10).map(|n| (first + f64::from(n)) * step);
                ticks.filter(|tick| *tick <= self.high).collect()
            };
            let coarse = every(4.0);
            return if coarse.len() > 2 { coarse } else { every(8.0) };
        }
        let factors: &[f64] = match decades {
            few if few < 1.0 => &[1.0, 1.5, 2.0, 3.0, 5.0, 7.0],
            few if few < 2.5 => &[1.0, 2.0, 5.0],
            _ => &[1.0],
        };
        let every = (decades / 8.0).ceil().max(1.0);
        let mut ticks = Vec::new();
        let mut power = self.low.log10().floor();
        while power <= self.high.log10() && ticks.len() < 40 {
            let tick = |factor: &f64| factor * 10_f64.powf(power);
            let inside = |tick: &f64| *tick >= self.low && *tick <= self.high;
            ticks.extend(factors.iter().map(tick).filter(inside));
            power += every;
        }
        ticks
    }
}

/// Round steps from 0 on, at most about `most` of them.
pub(super) fn steps(high: f64, most: f64) -> Vec<f64> {
    if !high.is_finite() || high <= 0.0 {
        return vec![0.0];
    }
    let step = nice_step(high / most);
    let mut ticks = Vec::new();
    let mut tick = 0.0;
    while tick <= high && ticks.len() < 40 {
        ticks.push(tick);
        tick += step;
    }
    ticks
}

/// 1, 2 or 5 times a power of ten, at least this.
fn nice_step(least: f64) -> f64 {
    let power = 10_f64.powf(least.log10().floor());
    let nice = [1.0, 2.0, 5.0, 10.0]
        .into_iter()
        .map(|factor| factor * power);
    nice.into_iter()
        .find(|step| *step >= least)
        .unwrap_or(least)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logarithmic_scales_have_few_round_ticks() {
        let scale = Log::over([100.0, 0.0, f64::NAN, 10_000.0]).unwrap();
        assert_eq!(
            scale.ticks(),
            [100.0, 200.0, 500.0, 1_000.0, 2_000.0, 5_000.0, 10_000.0]
        );
        assert!((scale.at(1_000.0) - 0.5).abs() < 1e-9);
        assert!(scale.at(0.0) <= 0.0 && scale.at(1e99) >= 1.0);
        assert!(Log::over([0.0]).is_none());
        let narrow = Log::over([190.0, 210.0]).unwrap();
        assert!(narrow.ticks().len() >= 2, "{:?}", narrow.ticks());
        let between = Log::over([7.7, 11.9]).unwrap();
        assert_eq!(between.ticks(), [8.0, 10.0, 12.0, 14.0]);
        let wide = Log::over([1.0, 1e18]).unwrap();
        assert!(wide.ticks().len() < 10);
        assert!(Log::over([1e-308, 1e308]).unwrap().ticks().len() <= 40);
    }

    #[test]
    fn steps_are_round() {
        assert_eq!(steps(9.7, 6.0), [0.0, 2.0, 4.0, 6.0, 8.0]);
        assert_eq!(steps(0.0, 6.0), [0.0]);
        assert!(steps(1e300, 6.0).len() < 12);
    }
}
