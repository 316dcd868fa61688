//! Tables of body.
