//! Tables of framing.
