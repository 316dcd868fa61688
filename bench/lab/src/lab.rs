//! The lab itself: one at a time on a machine. It must not know what is built in it.

use std::fs::File;
use std::path::PathBuf;
use std::sync::Arc;

use crate::child;
use crate::error::LabError;
use crate::namespace::Namespace;

/// Held by one lab at a time. `flock` belongs to the open file, so this one lock keeps labs apart within a process
/// as well as between processes, and the kernel frees it when its process dies.
#[derive(Debug)]
pub(crate) struct Lock {
    _file: File,
}

impl Lock {
    fn take() -> Result<Self, LabError> {
        let path = directory().join("lock");
        let what = || format!("lock {}", path.display());
        std::fs::create_dir_all(directory()).map_err(LabError::system(what()))?;
        let file = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)
            .map_err(LabError::system(what()))?;
        file.lock().map_err(LabError::system(what()))?;
        Ok(Self { _file: file })
    }
}

/// Where the lock is, and a note about every child process.
pub(crate) fn directory() -> PathBuf {
    std::env::temp_dir().join("podline-lab")
}

/// The right to build namespaces, one lab at a time.
#[derive(Debug)]
pub struct Lab {
    lock: Arc<Lock>,
}

impl Lab {
    /// Waits until no other lab runs on the machine, and ends the children that dead labs left behind.
    pub fn new() -> Result<Self, LabError> {
        let lock = Arc::new(Lock::take()?);
        child::sweep();
        Ok(Self { lock })
    }

    /// A new, empty namespace with its loopback up; `name` is for messages only.
    pub fn namespace(&self, name: &str) -> Result<Namespace, LabError> {
        Namespace::new(name, Arc::clone(&self.lock))
    }

    /// Says why this machine cannot run a lab. Builds a small one to find out, so it waits for its turn too: do not
    /// call it while holding a lab.
    pub fn available() -> Result<(), String> {
        let attempt = || {
            let lab = Self::new()?;
            let (left, right) = (lab.namespace("left")?, lab.namespace("right")?);
            left.join("eth0", &right, "eth0")?;
            left.bridge("br0")
        };
        attempt().map_err(|error: LabError| error.chain())
    }
}
