//! The certificates as a whole: what is done in each situation, rotation over many years, the channel they make, and the
//! keeper against an API server in this process.

mod handshake;
mod planning;
mod rotation;
mod shell;
mod tickets;
mod webhook;
mod world;
