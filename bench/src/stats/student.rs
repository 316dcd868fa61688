//! Student's distribution, for decisions on few rounds.

use std::f64::consts::PI;

/// How many times its standard error a difference must be, so that chance exceeds it (in either direction) with at most
/// this probability, for a variance known from so many degrees of freedom.
pub fn quantile(probability: f64, freedom: u32) -> f64 {
    let freedom = freedom.max(1);
    let (mut low, mut high) = (0.0, 1e6);
    for _ in 0..100 {
        let middle = f64::midpoint(low, high);
        if beyond(middle, freedom) > probability {
            low = middle;
        } else {
            high = middle;
        }
    }
    high
}

/// The probability of more than `t` in either direction: a finite sum for whole degrees of freedom.
fn beyond(t: f64, freedom: u32) -> f64 {
    let angle = (t / f64::from(freedom).sqrt()).atan();
    let (sine, cosine) = angle.sin_cos();
    let is_odd = freedom % 2 == 1;
    let mut term = if is_odd { cosine } else { 1.0 };
    let mut sum = 0.0;
    let mut at = u32::from(is_odd);
    while at + 2 <= freedom {
        sum += term;
        at += 2;
        let step = f64::from(at);
        term *= (step - 1.0) / step * cosine * cosine;
    }
    let within = if is_odd {
        2.0 / PI * (angle + sine * sum)
    } else {
        sine * sum
    };
    1.0 - within
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_those_of_the_tables() {
        let check = |probability, freedom, expected: f64| {
            let found = quantile(probability, freedom);
            assert!(
                (found - expected).abs() < 2e-3,
                "{probability} {freedom}: {found}"
            );
        };
        check(0.05, 1, 12.706);
        check(0.05, 2, 4.303);
        check(0.05, 3, 3.182);
        check(0.05, 10, 2.228);
        check(0.01, 15, 2.947);
        check(0.001, 20, 3.850);
        check(0.001, 120, 3.373);
    }

    #[test]
    fn no_freedom_is_little_freedom() {
        assert!((quantile(0.05, 0) - quantile(0.05, 1)).abs() < 1e-9);
        assert!(quantile(1e-9, 3) > 100.0);
    }
}
