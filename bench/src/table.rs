//! Results as tables for a terminal. A function of values.
