//! Partitura's embedded durable broker: one file, no server.
