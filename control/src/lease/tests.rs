//! The election as a whole: simulated over many unlucky hours, and its loop against an API server in this process.

mod server;
mod shell;
mod simulation;
