//! The conformance suite on Artemis.

use std::sync::Arc;

use partitura_amqp::{Amqp, Options};
use partitura_broker::{Broker, Result, SubscriptionName, TopicName};
use partitura_server_harness::{Connect, Credentials, Endpoint, OnServer};
use partitura_servers::{Kind, Server};

partitura_conformance::main!(OnServer::new(OnArtemis));

struct OnArtemis;

#[async_trait::async_trait]
impl Connect for OnArtemis {
    fn server(&self) -> Server {
        Server::new(Kind::Artemis)
    }

    fn places(&self, topic: &TopicName, subscription: &SubscriptionName) -> Vec<String> {
        [":due".to_owned(), format!(":{subscription}:0"), String::new()]
            .map(|of| format!("partitura:{topic}{of}"))
            .into()
    }

    async fn connect(&self, Endpoint { url, credentials, authority, .. }: Endpoint) -> Result<Arc<dyn Broker>> {
        let mut options = Options::default();
        if let Some(Credentials::Password { user, password }) = credentials {
            (options.username, options.password) = (Some(user), Some(password));
        }
        options.ca = authority;
        Ok(Arc::new(Amqp::connect(&url, options).await?))
    }
}
