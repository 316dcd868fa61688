//! The gates of a cluster that changes step by step: cluster, build and gates, and time as the tests have it.

mod measure;
mod random;
mod remembering;
mod verdicts;
mod world;
