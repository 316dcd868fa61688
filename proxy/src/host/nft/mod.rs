//! nf_tables over netlink: a table as a value, put in place as one transaction, looked at again, and taken away.
//!
//! ```text
//!  Ruleset --(encode)--> one transaction --> kernel --(dump)--> is it still as we put it?
//!     '----(text)----> as `nft list` shows it
//! ```
//!
//! Where the kernel can (6.9), a table is owned by the process that put it there: a `nft flush ruleset` of others leaves
//! it alone; and it persists: it stays when the process ends, and the next process takes it over.

mod attribute;
mod encode;
mod expression;
pub mod ruleset;
mod table;
#[cfg(test)]
mod tests;
mod text;

pub use ruleset::{Action, Chain, Hook, Match, Rule, Ruleset, Transport};
pub use table::{Seen, Table};
