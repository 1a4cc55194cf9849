//! The conformance suite on RabbitMQ.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use lapin::options::QueueDeclareOptions;
use lapin::types::FieldTable;
use partitura_broker::{Broker, Result, SubscriptionName, TopicName};
use partitura_conformance::{Operator, Right};
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

    fn operator(&self) -> Option<&dyn Operator> {
        Some(self)
    }

    fn rights(&self) -> &[Right] {
        &[Right::Declare, Right::Publish, Right::Consume]
    }

    /// A right is to configure, to write, or to read objects of these names. Every consumer has some of its own.
    async fn user_without(&self, right: Right) -> io::Result<Credentials> {
        let own = r"^(amq\.gen.*|partitura:.*:owner|partitura:inbox:.*)$";
        let (configure, write, read) = match right {
            Right::Declare => (own, ".*", ".*"),
            Right::Publish => (".*", own, ".*"),
            Right::Consume => (".*", ".*", own),
        };
        let (user, password) = (format!("without-{right:?}"), "partitura-secret".to_owned());
        let details = serde_json::json!({ "password": password, "tags": "" });
        operate(format!("PUT /api/users/{user}"), &details.to_string()).await?;
        let rights = serde_json::json!({ "configure": configure, "write": write, "read": read });
        operate(format!("PUT /api/permissions/%2F/{user}"), &rights.to_string()).await?;
        Ok(Credentials::Password { user, password })
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

/// The number of partitions is in the description of a topic, and fixed.
#[async_trait::async_trait]
impl Operator for OnRabbitmq {
    async fn delete_topic(&self, topic: &TopicName) -> io::Result<()> {
        let exchange = exchange(topic);
        let mut queues = queues(&exchange).await?;
        queues.push(format!("{exchange}:due"));
        for queue in queues {
            operate(format!("DELETE /api/queues/%2F/{queue}"), "").await?;
        }
        operate(format!("DELETE /api/exchanges/%2F/{exchange}"), "").await.map(drop)
    }

    fn counts_messages(&self) -> bool {
        true
    }

    /// By the protocol, since the management API counts only every five seconds.
    async fn count_messages(&self, topic: &TopicName) -> io::Result<u64> {
        let url = tokio::task::spawn_blocking(|| Server::new(Kind::Rabbitmq).url()).await?;
        let connection = lapin::Connection::connect(&url, Default::default()).await.map_err(io::Error::other)?;
        let channel = connection.create_channel().await.map_err(io::Error::other)?;
        let mut count = 0;
        for queue in queues(&exchange(topic)).await? {
            let passive = QueueDeclareOptions { passive: true, ..Default::default() };
            let found = channel.queue_declare(queue.into(), passive, FieldTable::default()).await;
            count += u64::from(found.map_err(io::Error::other)?.message_count());
        }
        connection.close(200, "counted".into()).await.map_err(io::Error::other)?;
        Ok(count)
    }
}

/// The queues of a topic's subscriptions. Those for heartbeats and of listeners have names that the server gave.
async fn queues(exchange: &str) -> io::Result<Vec<String>> {
    let bindings = operate(format!("GET /api/exchanges/%2F/{exchange}/bindings/source"), "").await?;
    let bindings: Vec<serde_json::Value> = serde_json::from_str(&bindings)?;
    let queues = bindings.iter().filter_map(|binding| binding["destination"].as_str());
    let of_subscriptions = queues.filter(|queue| queue.starts_with(&format!("{exchange}:")));
    Ok(of_subscriptions.map(str::to_owned).collect())
}

async fn operate(request: String, body: &str) -> io::Result<String> {
    let body = body.to_owned();
    tokio::task::spawn_blocking(move || Server::new(Kind::Rabbitmq).operate(&request, &body)).await?
}

/// The exchange of a topic. A long name is cut, and gets a hash: that of Fowler, Noll and Vo, variant 1a.
fn exchange(topic: &TopicName) -> String {
    let name = topic.as_str();
    if name.len() <= 48 {
        return format!("partitura:{name}");
    }
    let step = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    format!("partitura:{}~{:016x}", &name[..31], name.bytes().fold(0xcbf2_9ce4_8422_2325, step))
}
