//! Which loads run over which subjects, in interleaved rounds, and what happens meanwhile.
