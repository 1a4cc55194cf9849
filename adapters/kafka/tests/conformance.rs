//! The conformance suite on Kafka.

use std::sync::Arc;

use partitura_broker::{Broker, Result, SubscriptionName, TopicName};
use partitura_kafka::{Kafka, Options};
use partitura_server_harness::{Connect, Credentials, Endpoint, OnServer};
use partitura_servers::{Kind, Server};

partitura_conformance::main!(OnServer::new(OnKafka));

/// One broker with half a gigabyte of memory. Every case creates topics and groups on it, so only few run at a
/// time.
struct OnKafka;

#[async_trait::async_trait]
impl Connect for OnKafka {
    fn server(&self) -> Server {
        Server::new(Kind::Kafka)
    }

    fn places(&self, topic: &TopicName, _: &SubscriptionName) -> Vec<String> {
        vec![format!("0/{topic}"), format!("{topic}/0"), format!("_partitura.timers.{topic}")]
    }

    async fn connect(&self, Endpoint { url, credentials, authority, .. }: Endpoint) -> Result<Arc<dyn Broker>> {
        let mut options = Options::default();
        if let Some(Credentials::Password { user, password }) = credentials {
            options.sasl = Some("SCRAM-SHA-256".to_owned());
            (options.username, options.password) = (Some(user), Some(password));
        }
        options.security = authority.is_some().then(|| "sasl_ssl".to_owned());
        options.ca = authority;
        Ok(Arc::new(Kafka::connect(&url, options).await?))
    }
}
