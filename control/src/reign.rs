//! Whether this process leads: made by `lease`, obeyed by whoever writes or pushes. Pure: a value, no more.

/// Whether this process leads, and as the how-manieth leader.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Reign {
    /// Another leads, or nobody does. Read and stay warm; write and push nothing.
    #[default]
    Follower,
    /// We lead.
    Leader {
        /// Grows with every acquisition by anybody. Goes with every push, so that proxies refuse a deposed leader.
        epoch: u64,
    },
}
