//! Real brokers and Postgres on this machine, for tests and trials.
