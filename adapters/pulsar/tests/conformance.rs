//! The conformance suite on Pulsar.

use std::sync::Arc;

use partitura_broker::{Broker, Result, SubscriptionName, TopicName};
use partitura_pulsar::{Options, Pulsar};
use partitura_server_harness::{Connect, Endpoint, OnServer};
use partitura_servers::{Kind, Server};

partitura_conformance::main!(OnServer::new(OnPulsar));

struct OnPulsar;

#[async_trait::async_trait]
impl Connect for OnPulsar {
    fn server(&self) -> Server {
        Server::new(Kind::Pulsar)
    }

    fn places(&self, topic: &TopicName, _: &SubscriptionName) -> Vec<String> {
        let partition = format!("public/default/{topic}-partition-0");
        vec![format!("persistent://{partition}"), format!("public/default/inbox={topic}"), partition]
    }

    async fn connect(&self, Endpoint { url, credentials, authority, .. }: Endpoint) -> Result<Arc<dyn Broker>> {
        let mut options = Options::default();
        options.admin = self.server().endpoints().admin;
        options.credentials = match credentials {
            Some(partitura_server_harness::Credentials::Token(token)) => {
                Some(partitura_pulsar::Credentials::Token(token))
            }
            _ => None,
        };
        options.ca = authority;
        Ok(Arc::new(Pulsar::connect(&url, options).await?))
    }

    /// Topics and subscriptions are expensive to make.
    fn parallelism(&self) -> usize {
        4
    }
}
