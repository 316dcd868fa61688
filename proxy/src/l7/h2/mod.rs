//! HTTP/2, at the edge: the engine stays the one for HTTP/1.1, and each stream is a connection of it with one request.
//!
//! ```text
//!  client  --frames--> line --h2--> reply   --as_h1--> l4::stream --> engine   (a Conversation)
//!  client  <--frames-- line <--h2-- reply   <--as_h2-- l4::stream <-- engine
//!  backend <--frames-- line <--h2-- carried <--as_h2-- l4::stream <-- engine   (its Upstream)
//!  backend --frames--> line --h2--> carried --as_h1--> l4::stream --> engine
//! ```
//!
//! [`serving`] and [`trunks`] are the worker's part: a turn of a client's connection (`turn`) or of one to a backend
//! (`trunk`) with all of its streams. `line` is a connection's bytes, [`frames`] (pure) sees floods in them. `flows` are the
//! two directions of a stream; `as_h1`, `as_h2` and `pieces` (pure) say the same message in the other form.

mod as_h1;
mod as_h2;
mod carried;
mod flows;
pub(crate) mod frames;
mod line;
mod pieces;
mod reply;
pub(crate) mod serving;
mod trunk;
pub(crate) mod trunks;
mod turn;

pub(crate) use turn::Multiplex;
