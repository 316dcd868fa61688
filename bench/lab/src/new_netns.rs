//! The one system call of the lab that Rust cannot check: a new network namespace for the calling thread.
//! It must not know what the namespace is for.
#![expect(
    unsafe_code,
    reason = "unshare is unsafe in rustix because of flags that are not used here"
)]

use std::io;

use rustix::thread::{UnshareFlags, unshare_unsafe};

/// Moves the calling thread, and no other, into a new and empty network namespace. Threads and processes that it
/// starts from then on are in that namespace too; sockets that it made before stay where they are.
pub(crate) fn enter_new() -> io::Result<()> {
    // SAFETY: `unshare` endangers other threads' file descriptors only with FILES; NEWNET leaves that table shared.
    unsafe { unshare_unsafe(UnshareFlags::NEWNET) }?;
    Ok(())
}
