//! Tables of chunks.
