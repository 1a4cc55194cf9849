//! Per-key lanes, retry, parking and dead letters above any broker.
