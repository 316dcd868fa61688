//! The network of a run, with Pods that serve in it: one client, one proxy's host, nodes with Pods, on one segment.
