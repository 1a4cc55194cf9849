//! What the engine tells of its work: metrics, and traces.

pub(crate) mod metrics;
pub(crate) mod propagator;
pub(crate) mod spans;
