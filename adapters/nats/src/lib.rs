//! Partitura on NATS JetStream.
