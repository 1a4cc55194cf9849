//! Partitura on Apache Pulsar.
