//! Tables of head.
