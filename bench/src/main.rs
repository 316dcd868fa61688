//! `podline-bench`: see `podline-bench --help`.

fn main() {}
