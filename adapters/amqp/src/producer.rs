use std::sync::Arc;

use async_trait::async_trait;
use partitura_broker::{Clock, InboxAddress, Message, Producer, ProducerOptions, Receipt, Result, telemetry};
use tracing::Instrument;

use crate::core::{Core, SYSTEM};
use crate::post::Post;
use crate::publisher::{Publication, Publisher};
use crate::wire;

/// Publishes by a task of its own, the [`Publisher`].
#[derive(Debug)]
pub(crate) struct AmqpProducer {
    core: Arc<Core>,
    publisher: Publisher,
    /// For replies, which are not confirmed.
    replies: Post,
}

impl AmqpProducer {
    pub(crate) fn new(core: Arc<Core>, options: &ProducerOptions) -> Self {
        let replies = Post::new(core.publishing.clone());
        Self { publisher: Publisher::start(core.clone(), options), core, replies }
    }
}

#[async_trait]
impl Producer for AmqpProducer {
    async fn publish(&self, batch: Vec<Message>) -> Vec<Result<Receipt>> {
        let span = telemetry::publish_span(SYSTEM, batch.len());
        let publications = batch.into_iter().map(|message| Publication { message, is_repeated: false }).collect();
        self.publisher.publish(publications).instrument(span).await
    }

    async fn reply(&self, replies: Vec<(InboxAddress, Message)>) -> Result<()> {
        let now = self.core.clock.now();
        let mut messages = Vec::with_capacity(replies.len());
        for (address, message) in &replies {
            self.core.capabilities.check(message, now)?;
            let Some(route) = self.core.profile.reply(address) else {
                tracing::warn!("not sending a reply, since its address is no inbox");
                continue;
            };
            let link = route.link.clone();
            let mut outgoing = wire::outgoing(message, route, false);
            if let Some(header) = &mut outgoing.header {
                header.durable = false;
            }
            messages.push((link, outgoing));
        }
        self.replies.send("reply", messages).await
    }
}
