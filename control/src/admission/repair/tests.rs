//! Repair against an API server in this process, its clock paused.
