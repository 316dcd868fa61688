//! Two results: what became better, what worse, and what is noise. A function of values.
