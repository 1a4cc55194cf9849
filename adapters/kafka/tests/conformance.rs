//! The conformance suite on Kafka.

use std::sync::Arc;

use partitura_broker::{Broker, Result};
use partitura_kafka::{Kafka, Options};
use partitura_proving_ground::{Credentials, Entrance, OnServer, Opens};
use partitura_servers::{Kind, Server};

partitura_conformance::main!(OnServer::new(OnKafka));

/// One broker of half a gigabyte, which every case has create topics and groups: few at a time.
struct OnKafka;

#[async_trait::async_trait]
impl Opens for OnKafka {
    fn server(&self) -> Server {
        Server::new(Kind::Kafka)
    }

    async fn open(&self, Entrance { url, credentials, authority, .. }: Entrance) -> Result<Arc<dyn Broker>> {
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
