//! What a round cost: CPU and memory of processes, CPU of the machine, connection tracking, hops.
