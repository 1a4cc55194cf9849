//! Telemetry of the engine: metrics, and traces.

pub(crate) mod metrics;
pub(crate) mod propagator;
pub(crate) mod spans;
