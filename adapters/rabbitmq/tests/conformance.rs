//! The conformance suite on RabbitMQ.

use std::sync::Arc;
use std::time::Duration;

use partitura_broker::{Broker, Result, SubscriptionName, TopicName};
use partitura_rabbitmq::{Options, Rabbitmq};
use partitura_server_harness::{Connect, Credentials, Endpoint, OnServer};
use partitura_servers::{Kind, Server};

partitura_conformance::main!(OnServer::new(OnRabbitmq));

/// Queues that keep a log of their own are expensive to create: few cases at a time.
struct OnRabbitmq;

#[async_trait::async_trait]
impl Connect for OnRabbitmq {
    fn server(&self) -> Server {
        Server::new(Kind::Rabbitmq)
    }

    fn places(&self, topic: &TopicName, subscription: &SubscriptionName) -> Vec<String> {
        [":due".to_owned(), format!(":{subscription}:0"), String::new()]
            .map(|of| format!("partitura:{topic}{of}"))
            .into()
    }

    async fn connect(&self, Endpoint { url, credentials, authority, .. }: Endpoint) -> Result<Arc<dyn Broker>> {
        let mut options = Options::default();
        // The server's own limit is 30 min, and no test holds a message for half of that. So this asks for less.
        options.hold = Duration::from_secs(20);
        if let Some(Credentials::Password { user, password }) = credentials {
            (options.username, options.password) = (Some(user), Some(password));
        }
        options.ca = authority;
        Ok(Arc::new(Rabbitmq::connect(&url, options).await?))
    }
}
