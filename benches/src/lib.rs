//! Partitura's benchmarks.
