//! Where state comes from besides the API.

pub(crate) mod file;
