//! What of a set is another than before, found in one walk: sets may be large, and one backend of many changes. Pure.

use std::cmp::Ordering;
use std::sync::Arc;

use podline_api::{Backend, BackendSet, Name};

/// Backends that came or are others than before, and those that are no more.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Difference<'new, 'old> {
    pub(super) entering: Vec<&'new Backend>,
    pub(super) leaving: Vec<&'old Backend>,
}

/// The set of this name.
pub(super) fn named<'a>(sets: &'a [Arc<BackendSet>], name: &Name) -> Option<&'a Arc<BackendSet>> {
    sets.iter().find(|set| set.name == *name)
}

impl<'new, 'old> Difference<'new, 'old> {
    /// Both have their backends in the order of addresses. A set whose check came or went is another with all of them.
    pub(super) fn of(old: Option<&'old Arc<BackendSet>>, new: &'new Arc<BackendSet>) -> Self {
        let Some(old) = old else {
            return Self {
                entering: new.backends.iter().collect(),
                leaving: Vec::new(),
            };
        };
        if Arc::ptr_eq(old, new) {
            return Self::default();
        }
        let is_checked = |set: &BackendSet| set.settings.health_check.is_some();
        let is_other = is_checked(old) != is_checked(new);
        let mut difference = Self::default();
        let (mut before, mut after) = (
            old.backends.iter().peekable(),
            new.backends.iter().peekable(),
        );
        loop {
            let order = match (before.peek(), after.peek()) {
                (None, None) => return difference,
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (Some(before), Some(after)) => before.key.address.cmp(&after.key.address),
            };
            let gone = (order != Ordering::Greater)
                .then(|| before.next())
                .flatten();
            let come = (order != Ordering::Less).then(|| after.next()).flatten();
            if gone == come && !is_other {
                continue;
            }
            let is_same = |gone: &&Backend| come.is_some_and(|come| come.key == gone.key);
            difference
                .leaving
                .extend(gone.filter(|gone| !is_same(gone)));
            difference.entering.extend(come);
        }
    }
}

#[cfg(test)]
mod tests {
    use podline_api::{BackendId, BackendKey, SetSettings, Weight};

    use super::*;

    /// Backends by the last byte of their address, id and weight.
    fn set(backends: &[(u8, &str, u8)]) -> Arc<BackendSet> {
        let backends = backends.iter().map(|(n, id, weight)| Backend {
            key: BackendKey {
                id: Some(BackendId::try_from(*id).unwrap()),
                address: ([10, 0, 0, *n], 80).into(),
            },
            weight: Weight::try_from(u32::from(*weight)).unwrap(),
            node: None,
        });
        Arc::new(BackendSet {
            name: "web".parse().unwrap(),
            settings: SetSettings::default(),
            backends: backends.collect(),
        })
    }

    fn check(old: &[(u8, &str, u8)], new: &[(u8, &str, u8)], entering: &[&str], leaving: &[&str]) {
        let (old, new) = (set(old), set(new));
        let found = Difference::of(Some(&old), &new);
        let ids = |list: Vec<&Backend>| -> Vec<String> {
            let ids = list
                .iter()
                .map(|backend| backend.key.id.as_ref().unwrap().to_string());
            ids.collect()
        };
        assert_eq!(ids(found.entering), entering);
        assert_eq!(ids(found.leaving), leaving);
    }

    #[test]
    fn one_walk_finds_what_came_what_changed_and_what_went() {
        let abc = [(1, "a", 10), (2, "b", 10), (3, "c", 10)];
        check(&abc, &abc, &[], &[]);
        check(&[], &abc, &["a", "b", "c"], &[]);
        check(&abc, &[], &[], &["a", "b", "c"]);
        check(
            &abc,
            &[(1, "a", 10), (2, "b", 0), (4, "d", 10)],
            &["b", "d"],
            &["c"],
        );
        check(&abc, &[(2, "x", 10), (3, "c", 10)], &["x"], &["a", "b"]);
        assert_eq!(Difference::of(None, &set(&abc)).entering.len(), 3);
    }
}
