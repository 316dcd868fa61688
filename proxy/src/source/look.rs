//! Whether files changed, by looking at their directory entries again and again.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// What a look at a file's directory entry shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Look {
    Missing,
    There {
        device: u64,
        inode: u64,
        bytes: u64,
        modified: (i64, i64),
    },
}

impl Look {
    /// Looks through symbolic links: Kubernetes changes a mounted ConfigMap or Secret by turning one.
    pub(crate) fn at(path: &Path) -> Self {
        std::fs::metadata(path).map_or(Self::Missing, |found| Self::of(&found))
    }

    fn of(found: &Metadata) -> Self {
        Self::There {
            device: found.dev(),
            inode: found.ino(),
            bytes: found.size(),
            modified: (found.mtime(), found.mtime_nsec()),
        }
    }
}

/// What was seen of one file or of several that belong together.
pub(crate) trait Seen: PartialEq {
    /// All of it can be read.
    fn is_there(&self) -> bool;
}

impl Seen for Look {
    fn is_there(&self) -> bool {
        *self != Self::Missing
    }
}

/// What to do after a look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    Nothing,
    Load,
    Gone,
}

/// Loads what differs from the last load once two looks in a row agree, so that a file is not read half-written.
pub(crate) fn decide<T: Seen>(loaded: &T, previous: &T, now: &T) -> Action {
    if now == loaded || now != previous {
        Action::Nothing
    } else if now.is_there() {
        Action::Load
    } else {
        Action::Gone
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn there(inode: u64, bytes: u64, second: i64) -> Look {
        Look::There {
            device: 1,
            inode,
            bytes,
            modified: (second, 0),
        }
    }

    #[test]
    fn a_file_is_loaded_once_it_is_at_rest() {
        let (old, half, whole) = (there(1, 10, 0), there(1, 5, 1), there(1, 20, 1));
        let check = |loaded, previous, now, expected| {
            let action = decide(&loaded, &previous, &now);
            assert_eq!(action, expected, "{loaded:?} {previous:?} {now:?}");
        };
        check(old, old, old, Action::Nothing);
        check(old, old, half, Action::Nothing);
        check(old, half, whole, Action::Nothing);
        check(old, whole, whole, Action::Load);
        // Another file at the same path, same size and time: a renamed copy.
        check(old, there(2, 10, 0), there(2, 10, 0), Action::Load);
        check(old, old, Look::Missing, Action::Nothing);
        check(old, Look::Missing, Look::Missing, Action::Gone);
        check(Look::Missing, Look::Missing, Look::Missing, Action::Nothing);
        check(Look::Missing, old, old, Action::Load);
    }

    #[test]
    fn a_look_sees_a_file_replaced_and_removed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.yaml");
        assert_eq!(Look::at(&path), Look::Missing);
        std::fs::write(&path, "listeners: []").unwrap();
        let first = Look::at(&path);
        assert_eq!(Look::at(&path), first);
        let other = folder.path().join("b.yaml");
        std::fs::write(&other, "listeners: []").unwrap();
        std::fs::rename(&other, &path).unwrap();
        assert_ne!(Look::at(&path), first);
    }
}
