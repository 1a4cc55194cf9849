//! What Partitura's broker adapters share.
