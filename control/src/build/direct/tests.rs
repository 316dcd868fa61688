//! Which Pods are bound, and with what weight.
