//! The conformance suite on Pulsar.

use std::io;
use std::sync::Arc;

use partitura_broker::{Broker, Result, SubscriptionName, TopicName};
use partitura_conformance::Operator;
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

    fn operator(&self) -> Option<&dyn Operator> {
        Some(self)
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

/// By the admin API, as `pulsar-admin topics` does.
#[async_trait::async_trait]
impl Operator for OnPulsar {
    async fn delete_topic(&self, topic: &TopicName) -> io::Result<()> {
        for name in [path(topic), format!("{}%3Dtimers", path(topic))] {
            operate(format!("DELETE {name}/partitions?force=true"), "").await?;
        }
        Ok(())
    }

    fn adds_partitions(&self) -> bool {
        true
    }

    async fn add_partitions(&self, topic: &TopicName, count: u32) -> io::Result<()> {
        operate(format!("POST {}/partitions", path(topic)), &count.to_string()).await
    }
}

/// The path of a topic. Its name must not look like that of a partition.
fn path(topic: &TopicName) -> String {
    format!("/admin/v2/persistent/public/default/{}", topic.as_str().replace("-partition", "-%3Dpartition"))
}

async fn operate(request: String, body: &str) -> io::Result<()> {
    let body = body.to_owned();
    tokio::task::spawn_blocking(move || Server::new(Kind::Pulsar).operate(&request, &body)).await?.map(drop)
}
