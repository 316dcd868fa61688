//! In which order what is measured. A function of values.

use crate::subject::Subject;

/// The subjects of a round: each round begins with another one, so that nobody is always measured first.
pub(super) fn order(subjects: &[Subject], round: u32) -> Vec<Subject> {
    let mut subjects = subjects.to_vec();
    let count = subjects.len();
    if count > 0 {
        subjects.rotate_left(round as usize % count);
    }
    subjects
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everybody_is_measured_in_every_round_and_first_in_turn() {
        let subjects = [Subject::Pod, Subject::Direct, Subject::Haproxy];
        let firsts: Vec<_> = (0..4).map(|round| order(&subjects, round)[0]).collect();
        assert_eq!(
            firsts,
            [
                Subject::Pod,
                Subject::Direct,
                Subject::Haproxy,
                Subject::Pod
            ]
        );
        for round in 0..4 {
            let mut sorted = order(&subjects, round);
            sorted.sort_unstable();
            assert_eq!(sorted, subjects);
        }
        assert_eq!(order(&[], 3), []);
    }
}
