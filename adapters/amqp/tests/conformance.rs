//! The conformance suite on Artemis.

use std::io;
use std::sync::Arc;

use fe2o3_amqp::session::{Session, SessionHandle};
use fe2o3_amqp::types::messaging::{AmqpValue, ApplicationProperties, Body, Message, Properties, Source};
use fe2o3_amqp::types::primitives::{SimpleValue, Value};
use fe2o3_amqp::{Receiver, Sender};
use partitura_amqp::{Amqp, Options};
use partitura_broker::{Broker, Result, SubscriptionName, TopicName};
use partitura_conformance::Operator;
use partitura_server_harness::{Connect, Credentials, Endpoint, OnServer};
use partitura_servers::{Kind, Server};
use serde_json::{Value as Json, json};

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

    fn operator(&self) -> Option<&dyn Operator> {
        Some(self)
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

/// By management messages, as the broker's command does. The number of partitions is in the description of a topic, and
/// fixed.
#[async_trait::async_trait]
impl Operator for OnArtemis {
    async fn delete_topic(&self, topic: &TopicName) -> io::Result<()> {
        let mut management = Management::open().await?;
        let topic = format!("partitura:{topic}");
        let addresses = management.ask("broker", "getAddressNames", json!([])).await?;
        let addresses = addresses.as_array().into_iter().flatten().filter_map(Json::as_str);
        for address in addresses.filter(|address| *address == topic || address.starts_with(&format!("{topic}:"))) {
            // With the queues of the address, and although they have readers.
            management.ask("broker", "deleteAddress", json!([address, true])).await?;
        }
        management.broker.close().await.map_err(io::Error::other)
    }

    fn counts_messages(&self) -> bool {
        true
    }

    async fn count_messages(&self, topic: &TopicName) -> io::Result<u64> {
        let mut management = Management::open().await?;
        let count = management.ask(&format!("address.partitura:{topic}"), "getMessageCount", json!([])).await?;
        management.broker.close().await.map_err(io::Error::other)?;
        count.as_u64().ok_or_else(|| io::Error::other(format!("a count that is {count}")))
    }
}

/// A way to the broker's management.
struct Management {
    broker: Amqp,
    _session: SessionHandle<()>,
    requests: Sender,
    answers: Receiver,
}

impl Management {
    async fn open() -> io::Result<Self> {
        let url = tokio::task::spawn_blocking(|| Server::new(Kind::Artemis).url()).await?;
        let broker = Amqp::connect(&url, Options::default()).await.map_err(io::Error::other)?;
        let connection = broker.client().await.map_err(io::Error::other)?;
        let mut session = Session::begin(&mut *connection.lock().await).await.map_err(io::Error::other)?;
        let source = Source::builder().dynamic(true).build();
        let answers = Receiver::builder().name("answers").source(source).attach(&mut session).await;
        let requests = Sender::attach(&mut session, "requests", "activemq.management").await;
        let (requests, answers) = (requests.map_err(io::Error::other)?, answers.map_err(io::Error::other)?);
        Ok(Self { broker, _session: session, requests, answers })
    }

    /// Has the broker carry an operation of a resource out, and returns the result.
    async fn ask(&mut self, resource: &str, operation: &str, arguments: Json) -> io::Result<Json> {
        let reply_to = self.answers.source().as_ref().and_then(|source| source.address.clone());
        let properties = Properties::builder().reply_to(reply_to.ok_or_else(|| io::Error::other("no address"))?);
        let table = [("_AMQ_ResourceName", resource), ("_AMQ_OperationName", operation)];
        let table =
            table.into_iter().fold(ApplicationProperties::builder(), |table, (name, value)| table.insert(name, value));
        let message = Message::builder().properties(properties.build()).application_properties(table.build());
        let message = message.value(Value::String(arguments.to_string())).build();
        self.requests.send(message).await.map_err(io::Error::other)?;
        let answer = self.answers.recv::<Body<Value>>().await.map_err(io::Error::other)?;
        self.answers.accept(&answer).await.map_err(io::Error::other)?;
        let table = answer.message().application_properties.as_ref();
        let succeeded = table.and_then(|table| table.get("_AMQ_OperationSucceeded"));
        let text = match answer.body() {
            Body::Value(AmqpValue(Value::String(text))) => text.as_str(),
            // An operation without a result.
            _ => "[null]",
        };
        if succeeded != Some(&SimpleValue::Bool(true)) {
            return Err(io::Error::other(format!("{operation}: {text}")));
        }
        Ok(serde_json::from_str::<Json>(text)?[0].take())
    }
}
