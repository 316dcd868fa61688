//! Where state comes from besides the API.

pub mod file;
