//! Partitura's workers, turns and client on any broker.
