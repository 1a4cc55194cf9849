//! Recovers messages that fell due while their topic had no `due` queue.
//!
//! An operator may delete such a queue, or its binding. Messages that fall due then go to the queue `undeliverable`,
//! with their topic in the routing key. They are published again from there. If the topic exists, its `due` queue is
//! declared and bound again first. If it does not, the broker puts the message into `undeliverable` again, behind the
//! others.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use futures::StreamExt;
use futures::stream::FuturesOrdered;
use lapin::message::Delivery;
use lapin::options::{
    BasicAckOptions, BasicConsumeOptions, BasicPublishOptions, BasicQosOptions, ConfirmSelectOptions,
    QueueDeclareOptions,
};
use lapin::types::FieldTable;
use lapin::{Channel, Confirmation};
use partitura_broker::{Error, ErrorKind, Result, Topic, TopicName};
use tokio::sync::Notify;
use tokio::time::timeout;

use super::wait_queues;
use crate::client::{answer, uncancelled};
use crate::core::Core;
use crate::{names, topics, wire};

const OPERATION: &str = "recover undeliverable messages";
/// The interval of looking for undeliverable messages.
const INTERVAL: Duration = Duration::from_secs(60);
/// The number of messages that are under way at once.
const WINDOW: u16 = 256;
/// The limit for the next message, which another process may have taken, and for a confirm.
const NEXT_TIMEOUT: Duration = Duration::from_secs(5);

/// The recovery of undeliverable messages, one for each broker.
#[derive(Debug, Default)]
pub(crate) struct Recovery {
    is_running: AtomicBool,
    requested: Notify,
}

impl Recovery {
    /// Starts, if it does not run yet.
    pub(crate) fn start(self: &Arc<Self>, core: &Arc<Core>) {
        if !self.is_running.swap(true, Ordering::Relaxed) {
            tokio::spawn(run(Arc::downgrade(core), self.clone()));
        }
    }

    /// Looks for undeliverable messages now.
    pub(super) fn request(&self) {
        self.requested.notify_one();
    }
}

async fn run(core: Weak<Core>, recovery: Arc<Recovery>) {
    // The number of messages whose topics are gone. They cannot be recovered.
    let mut lost = 0;
    loop {
        let is_requested = timeout(INTERVAL, recovery.requested.notified()).await.is_ok();
        let Some(core) = core.upgrade().filter(|core| !core.client.is_closed()) else { return };
        match uncancelled(recover(core, if is_requested { 0 } else { lost })).await {
            Ok(left) => lost = left,
            Err(error) => tracing::debug!(%error, "looking for undeliverable messages again in a while"),
        }
    }
}

/// Publishes all undeliverable messages once more, unless there are only the `known_lost` ones whose topics are gone.
/// Returns the number of messages whose topics are gone now.
async fn recover(core: Arc<Core>, known_lost: u32) -> Result<u32> {
    let channel = core.control.channel().await?;
    let failed = |error| core.control.lost(OPERATION, error);
    let passive = QueueDeclareOptions { passive: true, ..Default::default() };
    let queue = channel.queue_declare(names::UNDELIVERABLE.into(), passive, FieldTable::default());
    let count = answer(queue).await.map_err(failed)?.message_count();
    if count == 0 || count == known_lost {
        return Ok(count);
    }
    let publishing = core.publishing.channel().await?;
    let confirming = answer(publishing.confirm_select(ConfirmSelectOptions::default())).await;
    confirming.map_err(|error| core.publishing.lost(OPERATION, error))?;
    answer(channel.basic_qos(WINDOW, BasicQosOptions::default())).await.map_err(failed)?;
    let options = BasicConsumeOptions::default();
    let consumer = channel.basic_consume(names::UNDELIVERABLE.into(), "".into(), options, FieldTable::default());
    let mut consumer = answer(consumer).await.map_err(failed)?;
    let (mut known, mut lost, mut taken) = (HashMap::new(), 0, 0);
    let mut sending = FuturesOrdered::new();
    while taken < count || !sending.is_empty() {
        tokio::select! {
            biased;
            Some(sent) = sending.next() => {
                let tag = sent?;
                channel.basic_ack(tag, BasicAckOptions::default()).await.map_err(failed)?;
            }
            next = timeout(NEXT_TIMEOUT, consumer.next()), if taken < count && sending.len() < usize::from(WINDOW) => {
                let Ok(Some(next)) = next else {
                    taken = count;
                    continue;
                };
                let delivery = next.map_err(failed)?;
                taken += 1;
                let exists = match topic_of(&delivery) {
                    Some(topic) => exists(&core, topic, &mut known).await?,
                    None => false,
                };
                lost += u32::from(!exists);
                sending.push_back(send(publishing.clone(), delivery));
            }
        }
    }
    let _ = answer(channel.close(200, "done".into())).await;
    let _ = answer(publishing.close(200, "done".into())).await;
    let recovered = taken.saturating_sub(lost);
    tracing::warn!(
        recovered,
        lost,
        "recovering undeliverable messages that had fallen due; the topics of lost ones are gone"
    );
    Ok(lost)
}

/// The topic of a delayed message, by its routing key.
fn topic_of(delivery: &Delivery) -> Option<TopicName> {
    TopicName::new(delivery.routing_key.as_str().split_once('.')?.1).ok()
}

/// Whether a topic exists. Then its `due` queue exists, too.
async fn exists(core: &Arc<Core>, topic: TopicName, known: &mut HashMap<TopicName, bool>) -> Result<bool> {
    if let Some(exists) = known.get(&topic) {
        return Ok(*exists);
    }
    let exists = match restore(core.clone(), topic.clone()).await {
        Ok(_) => true,
        Err(error) if error.is_retryable() || error.kind() == ErrorKind::Closed => return Err(error),
        Err(error) => {
            tracing::warn!(%error, %topic, "not delivering the due messages of this topic");
            false
        }
    };
    known.insert(topic, exists);
    Ok(exists)
}

/// Declares and binds the `due` queue of a topic again.
///
/// # Errors
/// [`NotFound`](ErrorKind::NotFound): there is no such topic any more.
pub(super) async fn restore(core: Arc<Core>, topic: TopicName) -> Result<Topic> {
    let found = topics::find(core.control.clone(), topic, "forward").await?;
    let channel = core.control.channel().await?;
    wait_queues::create_due(&channel, &found.name).await?;
    core.topics.learn(found.clone());
    Ok(found)
}

/// Publishes a message as it was published before.
async fn send(channel: Channel, delivery: Delivery) -> Result<u64> {
    let Delivery { routing_key, properties, data, delivery_tag, .. } = delivery;
    let unknown = |text: &str| Error::new(ErrorKind::OutcomeUnknown, OPERATION, text);
    let (properties, options) = (wire::mark_forwarded(properties), BasicPublishOptions::default());
    let confirmed =
        async { channel.basic_publish(names::DUE.into(), routing_key, options, &data, properties).await?.await };
    match timeout(NEXT_TIMEOUT, confirmed).await {
        Ok(Ok(Confirmation::Ack(_) | Confirmation::NotRequested)) => Ok(delivery_tag),
        Ok(Ok(Confirmation::Nack(_))) => Err(unknown("the broker refused it")),
        Ok(Err(error)) => Err(unknown("the connection was lost before the confirm").because(error)),
        Err(_) => Err(unknown("no confirm came")),
    }
}
