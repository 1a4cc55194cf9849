//! Partitura on RabbitMQ.
