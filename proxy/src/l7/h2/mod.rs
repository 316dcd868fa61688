//! HTTP/2, at the edge: the engine stays the one for HTTP/1.1, and each stream is a connection of it with one request.
//!
//! ```text
//!  client --frames--> line --h2--> serving --as_h1--> l4::stream --> engine   (a Conversation)
//!  client <--frames-- line <--h2-- serving <--as_h2-- l4::stream <-- engine
//! ```
//!
//! [`serving`] is the worker's part: one turn of a connection with all of its streams. [`line`] is its bytes, [`frames`]
//! (pure) sees floods in them. [`as_h1`], [`as_h2`] and [`pieces`] (pure) say the same message in the other form.

mod as_h1;
mod as_h2;
pub(crate) mod frames;
mod line;
mod pieces;
mod reply;
pub(crate) mod serving;
mod turn;

pub(crate) use turn::Multiplex;
