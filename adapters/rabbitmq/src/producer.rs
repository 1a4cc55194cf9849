use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use futures::future::try_join_all;
use lapin::Channel;
use lapin::options::BasicPublishOptions;
use partitura_broker::{
    Clock, Error, ErrorKind, InboxAddress, Message, Producer, ProducerOptions, Receipt, Result, telemetry,
};
use tokio::time::timeout;
use tracing::Instrument;

use crate::core::{Core, SYSTEM};
use crate::publisher::{Publication, Publisher};
use crate::{names, wire};

/// The limit for writing replies to the connection.
const REPLY_TIMEOUT: Duration = Duration::from_secs(5);

/// Publishes by a task of its own, the [`Publisher`].
#[derive(Debug)]
pub(crate) struct RabbitmqProducer {
    core: Arc<Core>,
    publisher: Publisher,
    /// The channel of replies, which are not confirmed.
    replies: Mutex<Option<Channel>>,
}

impl RabbitmqProducer {
    pub(crate) fn new(core: Arc<Core>, options: &ProducerOptions) -> Self {
        Self { publisher: Publisher::start(core.clone(), options), core, replies: Mutex::default() }
    }

    async fn reply_channel(&self) -> Result<Channel> {
        let open = self.replies.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(channel) = open.filter(|channel| channel.status().connected()) {
            return Ok(channel);
        }
        let channel = self.core.publishing.channel().await?;
        *self.replies.lock().unwrap_or_else(PoisonError::into_inner) = Some(channel.clone());
        Ok(channel)
    }
}

#[async_trait]
impl Producer for RabbitmqProducer {
    async fn publish(&self, batch: Vec<Message>) -> Vec<Result<Receipt>> {
        let span = telemetry::publish_span(SYSTEM, batch.len());
        let publications = batch.into_iter().map(Publication::new).collect();
        self.publisher.publish(publications).instrument(span).await
    }

    async fn reply(&self, replies: Vec<(InboxAddress, Message)>) -> Result<()> {
        let channel = self.reply_channel().await?;
        let now = self.core.clock.now();
        let mut written = Vec::with_capacity(replies.len());
        for (address, message) in &replies {
            self.core.capabilities.check(message, now)?;
            // An address comes from a request, and the default exchange leads to every queue.
            if !names::is_inbox(address.as_str()) {
                tracing::warn!("not sending a reply, since its address is no inbox");
                continue;
            }
            let queue = address.as_str().into();
            let properties = wire::properties(message, false).with_delivery_mode(1);
            let options = BasicPublishOptions::default();
            written.push(channel.basic_publish("".into(), queue, options, &message.payload, properties));
        }
        match timeout(REPLY_TIMEOUT, try_join_all(written)).await {
            Ok(sent) => sent.map(drop).map_err(|error| self.core.publishing.explain("reply", error)),
            Err(_) => {
                let message = "the broker takes no messages, since its memory or its disk is short; see its log";
                Err(Error::new(ErrorKind::Throttled, "reply", message))
            }
        }
    }
}
