//! The conformance suite on Kafka.

use std::io;
use std::sync::Arc;

use partitura_broker::{Broker, Result, SubscriptionName, TopicName};
use partitura_conformance::Operator;
use partitura_kafka::{Kafka, Options};
use partitura_server_harness::{Connect, Credentials, Endpoint, OnServer};
use partitura_servers::{Kind, Server};
use rdkafka::admin::{AdminOptions, NewPartitions};
use rdkafka::types::RDKafkaErrorCode;

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

    fn operator(&self) -> Option<&dyn Operator> {
        Some(self)
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

impl OnKafka {
    /// A connection of its own, as the operator's tools have.
    async fn open(&self) -> io::Result<Kafka> {
        let url = tokio::task::spawn_blocking(|| Server::new(Kind::Kafka).url()).await?;
        Kafka::connect(&url, Options::default()).await.map_err(io::Error::other)
    }
}

fn accepted(results: Vec<Result<String, (String, RDKafkaErrorCode)>>) -> io::Result<()> {
    results.into_iter().try_for_each(|result| match result {
        Ok(_) => Ok(()),
        Err((topic, code)) => Err(io::Error::other(format!("{topic}: {code}"))),
    })
}

#[async_trait::async_trait]
impl Operator for OnKafka {
    async fn delete_topic(&self, topic: &TopicName) -> io::Result<()> {
        let kafka = self.open().await?;
        let admin = kafka.client().ok_or_else(|| io::Error::other("the connection is closed"))?;
        let results = admin.delete_topics(&[topic.as_str()], &AdminOptions::new()).await.map_err(io::Error::other)?;
        accepted(results)?;
        kafka.close().await.map_err(io::Error::other)
    }

    fn adds_partitions(&self) -> bool {
        true
    }

    async fn add_partitions(&self, topic: &TopicName, count: u32) -> io::Result<()> {
        let kafka = self.open().await?;
        let admin = kafka.client().ok_or_else(|| io::Error::other("the connection is closed"))?;
        let count = usize::try_from(count).map_err(io::Error::other)?;
        let new = [NewPartitions::new(topic.as_str(), count)];
        accepted(admin.create_partitions(&new, &AdminOptions::new()).await.map_err(io::Error::other)?)?;
        kafka.close().await.map_err(io::Error::other)
    }
}
