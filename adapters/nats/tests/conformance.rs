//! The conformance suite on NATS JetStream.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use partitura_broker::{Broker, Result, SubscriptionName, TopicName};
use partitura_conformance::Operator;
use partitura_nats::{Auth, Nats, Options};
use partitura_server_harness::{Connect, Credentials, Endpoint, OnServer};
use partitura_servers::{Kind, Server};

partitura_conformance::main!(OnServer::new(OnNats));

struct OnNats;

#[async_trait::async_trait]
impl Connect for OnNats {
    fn server(&self) -> Server {
        Server::new(Kind::Nats)
    }

    fn places(&self, topic: &TopicName, _: &SubscriptionName) -> Vec<String> {
        let topic = topic.as_str().replace('.', "=");
        vec![format!("partitura.{topic}.0"), format!("_INBOX.>.{topic}"), "$JS.API.STREAM.NAMES".to_owned()]
    }

    fn operator(&self) -> Option<&dyn Operator> {
        Some(self)
    }

    async fn connect(&self, Endpoint { url, credentials, authority, .. }: Endpoint) -> Result<Arc<dyn Broker>> {
        let mut options = Options::default();
        options.auth = match credentials {
            Some(Credentials::Password { user, password }) => Some(Auth::Password { username: user, password }),
            Some(Credentials::Token(token)) => Some(Auth::Token(token)),
            None => None,
        };
        options.ca = authority;
        Ok(Arc::new(Nats::connect(&url, options).await?))
    }

    fn time_limit(&self) -> Duration {
        Duration::from_secs(30)
    }

    fn parallelism(&self) -> usize {
        12
    }
}

/// The number of partitions is part of what a stream is there, and fixed.
#[async_trait::async_trait]
impl Operator for OnNats {
    async fn delete_topic(&self, topic: &TopicName) -> io::Result<()> {
        jetstream().await?.delete_stream(stream(topic)).await.map(drop).map_err(io::Error::other)
    }

    fn counts_messages(&self) -> bool {
        true
    }

    async fn count_messages(&self, topic: &TopicName) -> io::Result<u64> {
        let stream = jetstream().await?.get_stream(stream(topic)).await.map_err(io::Error::other)?;
        Ok(stream.cached_info().state.messages)
    }
}

fn stream(topic: &TopicName) -> String {
    format!("partitura_{}", topic.as_str().replace('.', "="))
}

async fn jetstream() -> io::Result<async_nats::jetstream::Context> {
    let url = tokio::task::spawn_blocking(|| Server::new(Kind::Nats).url()).await?;
    Ok(async_nats::jetstream::new(async_nats::connect(url).await.map_err(io::Error::other)?))
}
