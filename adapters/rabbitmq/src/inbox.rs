use std::sync::Arc;

use async_trait::async_trait;
use futures::StreamExt;
use lapin::Consumer;
use lapin::options::{BasicAckOptions, BasicConsumeOptions, BasicQosOptions, QueueDeclareOptions};
use lapin::types::{AMQPValue, FieldTable};
use partitura_broker::{Error, ErrorKind, Inbox, InboxAddress, Message, Result, TopicName};

use crate::core::Core;
use crate::error::closed;
use crate::link::answer;
use crate::{names, wire};

/// How many replies wait at the broker, the oldest of which are dropped.
const REPLIES: i64 = 10_000;
/// How many of them are on their way to us.
const AHEAD: u16 = 256;
const OPERATION: &str = "wait for a reply";

/// A queue that is deleted with its consumer.
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
    let explain = |error| match core.control.explain(error, OPERATION) {
        // The connection before this one is gone, which the broker has not seen yet.
        error if error.kind() == ErrorKind::Busy => {
            Error::new(ErrorKind::Disconnected, OPERATION, "the broker still keeps the lost connection").because(error)
        }
        error => error,
    };
    let channel = core.control.channel().await?;
    let mut arguments = FieldTable::default();
    arguments.insert("x-queue-type".into(), AMQPValue::LongString("classic".into()));
    arguments.insert("x-max-length".into(), AMQPValue::LongLongInt(REPLIES));
    let options = QueueDeclareOptions { exclusive: true, auto_delete: true, ..Default::default() };
    answer(channel.queue_declare(address.as_str().into(), options, arguments)).await.map_err(explain)?;
    answer(channel.basic_qos(AHEAD, BasicQosOptions::default())).await.map_err(explain)?;
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
            // The same address as before; what came meanwhile is lost.
            lost => lost.insert(consume(&self.core, &self.address).await?),
        };
        match consumer.next().await {
            Some(Ok(delivery)) => {
                // Queued at once. If it is lost, the reply was the last of its connection.
                let _ = futures::poll!(std::pin::pin!(delivery.acker.ack(BasicAckOptions::default())));
                Ok(wire::message(self.topic.clone(), &delivery.properties, delivery.data).0)
            }
            ended => {
                self.consumer = None;
                Err(match ended {
                    Some(Err(error)) => self.core.control.explain(error, OPERATION),
                    _ if self.core.dial.is_closed() => closed(OPERATION),
                    _ => Error::new(ErrorKind::Disconnected, OPERATION, "the broker deleted the inbox"),
                })
            }
        }
    }
}
