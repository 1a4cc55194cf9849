//! Partitura on Apache Kafka.
