//! Replies: an exclusive queue that is deleted with its consumer.

use std::sync::Arc;

use async_trait::async_trait;
use futures::StreamExt;
use lapin::Consumer;
use lapin::options::{BasicAckOptions, BasicConsumeOptions, BasicQosOptions, QueueDeclareOptions};
use lapin::types::{AMQPValue, FieldTable};
use partitura_broker::{Error, ErrorKind, Inbox, InboxAddress, Message, Result, TopicName};

use crate::client::answer;
use crate::core::Core;
use crate::error::closed;
use crate::{names, wire};

/// The number of replies that may wait at the broker. Beyond it the oldest are dropped.
const MAX_REPLIES: i64 = 10_000;
/// The number of replies that the broker sends in advance.
const PREFETCH: u16 = 256;
const OPERATION: &str = "wait for a reply";

#[derive(Debug)]
pub(crate) struct RabbitmqInbox {
    core: Arc<Core>,
    address: InboxAddress,
    topic: TopicName,
    consumer: Option<Consumer>,
}

impl RabbitmqInbox {
    pub(crate) async fn open(core: Arc<Core>) -> Result<Self> {
        let address = InboxAddress::new(names::inbox(&InboxAddress::secret()));
        let consumer = Some(consume(&core, &address).await?);
        Ok(Self { core, address, topic: TopicName::new("inbox")?, consumer })
    }
}

async fn consume(core: &Core, address: &InboxAddress) -> Result<Consumer> {
    let explain = |error| match core.control.explain(OPERATION, error) {
        // The previous connection is gone, and the broker has not noticed it yet.
        error if error.kind() == ErrorKind::Busy => {
            Error::new(ErrorKind::Disconnected, OPERATION, "the broker still keeps the lost connection").because(error)
        }
        error => error,
    };
    let channel = core.control.channel().await?;
    let mut arguments = FieldTable::default();
    arguments.insert("x-queue-type".into(), AMQPValue::LongString("classic".into()));
    arguments.insert("x-max-length".into(), AMQPValue::LongLongInt(MAX_REPLIES));
    let options = QueueDeclareOptions { exclusive: true, auto_delete: true, ..Default::default() };
    answer(channel.queue_declare(address.as_str().into(), options, arguments)).await.map_err(explain)?;
    answer(channel.basic_qos(PREFETCH, BasicQosOptions::default())).await.map_err(explain)?;
    let options = BasicConsumeOptions::default();
    let consumer = channel.basic_consume(address.as_str().into(), "".into(), options, FieldTable::default());
    answer(consumer).await.map_err(explain)
}

#[async_trait]
impl Inbox for RabbitmqInbox {
    fn address(&self) -> &InboxAddress {
        &self.address
    }

    async fn next(&mut self) -> Result<Message> {
        let consumer = match &mut self.consumer {
            Some(consumer) => consumer,
            // The address stays the same. Replies that came meanwhile are lost.
            lost => lost.insert(consume(&self.core, &self.address).await?),
        };
        match consumer.next().await {
            Some(Ok(delivery)) => {
                // The first poll queues it. If it is lost, the connection is, too.
                let _ = futures::poll!(std::pin::pin!(delivery.acker.ack(BasicAckOptions::default())));
                Ok(wire::message(self.topic.clone(), &delivery.properties, delivery.data).message)
            }
            ended => {
                self.consumer = None;
                Err(match ended {
                    Some(Err(error)) => self.core.control.explain(OPERATION, error),
                    _ if self.core.client.is_closed() => closed(OPERATION),
                    _ => Error::new(ErrorKind::Disconnected, OPERATION, "the broker deleted the inbox"),
                })
            }
        }
    }
}
