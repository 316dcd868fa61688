//! The paths of one host: exact ones by look-up, prefixes by binary search.
//!
//! A prefix stands with a slash at its end, and in thought so does a path that has none: then whole segments match where
//! bytes do. In the order of bytes, all between a prefix of a path and the path begin with that prefix; so the
//! greatest that is not behind the path is the longest match, or lies below it, and each knows the next one above.

use super::{Table, view};
use podline_api::PathMatch;
use std::cmp::Ordering;
use std::collections::BTreeMap;

/// Paths while they are gathered: the action of each, the first for each.
#[derive(Debug, Default)]
pub(super) struct Sorting {
    exact: Table<u32>,
    prefixes: BTreeMap<Vec<u8>, u32>,
}

impl Sorting {
    /// Adds a path unless it is there.
    pub(super) fn add(&mut self, path: &PathMatch, action: u32) {
        match path {
            PathMatch::Exact(path) => {
                let key = view(path).into_owned().into_bytes();
                self.exact.entry(key.into()).or_insert(action);
            }
            PathMatch::Prefix(path) => {
                let mut key = view(path).into_owned().into_bytes();
                // Segments may be empty, so "/a//" is another prefix than "/a/".
                if key.last() != Some(&b'/') {
                    key.push(b'/');
                }
                self.prefixes.entry(key).or_insert(action);
            }
        }
    }
}

/// The paths of one host.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Paths {
    exact: Table<u32>,
    /// In the order of bytes.
    prefixes: Box<[Prefix]>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Prefix {
    /// With a slash at its end.
    text: Box<[u8]>,
    action: u32,
    /// The longest of the others that this one begins with.
    above: Option<u32>,
}

impl From<Sorting> for Paths {
    fn from(sorting: Sorting) -> Self {
        let mut prefixes: Vec<Prefix> = Vec::with_capacity(sorting.prefixes.len());
        // Those that the last one lies below, and itself.
        let mut open: Vec<u32> = Vec::new();
        for (text, action) in sorting.prefixes {
            let is_above = |number: &u32| {
                let above = usize::try_from(*number).ok();
                let above = above.and_then(|number| prefixes.get(number));
                above.is_some_and(|above| text.starts_with(&above.text))
            };
            while open.last().is_some_and(|last| !is_above(last)) {
                open.pop();
            }
            let above = open.last().copied();
            open.push(u32::try_from(prefixes.len()).unwrap_or(u32::MAX));
            let text = text.into();
            prefixes.push(Prefix {
                text,
                action,
                above,
            });
        }
        Self {
            exact: sorting.exact,
            prefixes: prefixes.into(),
        }
    }
}

impl Paths {
    /// The action for `path`, and how many of its bytes matched, a slash at their end not counted.
    pub(super) fn find(&self, path: &[u8]) -> Option<(u32, usize)> {
        if !self.exact.is_empty()
            && let Some(action) = self.exact.get(path)
        {
            return Some((*action, path.len()));
        }
        let behind = self
            .prefixes
            .partition_point(|prefix| !prefix.is_behind(path));
        let mut prefix = self.prefixes.get(behind.checked_sub(1)?)?;
        let shared = prefix.shared_with(path);
        while prefix.text.len() > shared {
            prefix = self.prefixes.get(usize::try_from(prefix.above?).ok()?)?;
        }
        Some((prefix.action, prefix.text.len() - 1))
    }
}

impl Prefix {
    /// Whether it is greater than `path` with a slash at its end.
    fn is_behind(&self, path: &[u8]) -> bool {
        let order = match self.text.strip_prefix(path) {
            Some(rest) => rest.cmp(end_of(path)),
            None => (*self.text).cmp(path),
        };
        order == Ordering::Greater
    }

    /// How many bytes it shares with `path` with a slash at its end.
    fn shared_with(&self, path: &[u8]) -> usize {
        let both = self.text.iter().zip(path.iter().chain(end_of(path)));
        both.take_while(|(ours, theirs)| ours == theirs).count()
    }
}

/// What `path` lacks to end in a slash.
fn end_of(path: &[u8]) -> &'static [u8] {
    if path.ends_with(b"/") { b"" } else { b"/" }
}
