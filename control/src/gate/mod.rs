//! Readiness gates: when the condition of a Pod's gate is to be what, and why. `verdict` decides for one Pod, purely; the
//! rest remembers, waits and writes.
