//! Durable workflow orchestration in plain Rust on the message broker you already run.
