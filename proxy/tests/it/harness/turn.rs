//! Tests take turns: ordinary ones run beside each other, those that measure time or load the machine run alone.
//! By a file lock, since test runners may give each test a process of its own.

use std::fs::File;

/// Held while a test runs.
#[derive(Debug)]
pub(crate) struct Turn {
    _file: File,
}

impl Turn {
    /// Beside other ordinary tests.
    pub(crate) fn shared() -> Self {
        let file = open();
        file.lock_shared().unwrap();
        Self { _file: file }
    }

    /// With no other test beside.
    pub(crate) fn alone() -> Self {
        let file = open();
        file.lock().unwrap();
        Self { _file: file }
    }
}

fn open() -> File {
    let path = std::env::temp_dir().join("podline-proxy-tests.lock");
    let mut options = File::options();
    options.create(true).truncate(false).write(true);
    options.open(path).unwrap()
}
