//! The contract between Partitura and a message broker.
