//! Where state comes from besides the API, and what files are read again.

pub(crate) mod file;
pub(crate) mod look;
pub(crate) mod reload;
pub(crate) mod state_file;
