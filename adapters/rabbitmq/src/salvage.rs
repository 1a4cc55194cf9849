//! Brings back what fell due while its topic had no `due` queue.
//!
//! An operator may delete such a queue, or its binding. What falls due then goes to the queue `undeliverable`, with its topic in
//! the routing key. Here it is published to where it was to go: if its topic exists, its `due` queue is declared and bound
//! again before; if it does not, the broker puts the message into `undeliverable` again, behind the others.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
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

use crate::core::Core;
use crate::link::{answer, uncancelled};
use crate::{delay, names, topics, wire};

const OPERATION: &str = "bring back what was undeliverable";
/// How often is looked whether there is something.
const EVERY: Duration = Duration::from_secs(60);
/// How many messages are on their way at once.
const WINDOW: u16 = 256;
/// How long the next message, or a confirm, is waited for: another may have taken it.
const NEXT_WITHIN: Duration = Duration::from_secs(5);

/// One for each process.
#[derive(Debug, Default)]
pub(crate) struct Salvage {
    is_running: AtomicBool,
    wanted: Notify,
}

impl Salvage {
    /// Begins, where it has not begun yet.
    pub(crate) fn start(core: &Arc<Core>) {
        if !core.salvage.is_running.swap(true, Ordering::Relaxed) {
            tokio::spawn(run(core.clone()));
        }
    }

    /// Has it look now.
    pub(crate) fn ask(&self) {
        self.wanted.notify_one();
    }
}

async fn run(core: Arc<Core>) {
    let weak = Arc::downgrade(&core);
    let salvage = core.salvage.clone();
    drop(core);
    // How many there are whose topics are gone: nothing can be done for them.
    let mut strangers = 0;
    loop {
        let asked = timeout(EVERY, salvage.wanted.notified()).await.is_ok();
        let Some(core) = weak.upgrade().filter(|core| !core.dial.is_closed()) else { return };
        match uncancelled(pass(core, if asked { 0 } else { strangers })).await {
            Ok(left) => strangers = left,
            Err(error) => tracing::debug!(%error, "looking again in a while"),
        }
    }
}

/// Publishes everything that is there now once more, unless it is what `strangers` are. How many of them are left.
async fn pass(core: Arc<Core>, strangers: u32) -> Result<u32> {
    let channel = core.control.channel().await?;
    let lost = |error| core.control.lost(error, OPERATION);
    let passive = QueueDeclareOptions { passive: true, ..Default::default() };
    let there = channel.queue_declare(names::UNDELIVERABLE.into(), passive, FieldTable::default());
    let there = answer(there).await.map_err(lost)?;
    let count = there.message_count();
    if count == 0 || count == strangers {
        return Ok(count);
    }
    let publishing = core.publishing.channel().await?;
    let failed = |error| core.publishing.lost(error, OPERATION);
    answer(publishing.confirm_select(ConfirmSelectOptions::default())).await.map_err(failed)?;
    answer(channel.basic_qos(WINDOW, BasicQosOptions::default())).await.map_err(lost)?;
    let options = BasicConsumeOptions::default();
    let consumer = channel.basic_consume(names::UNDELIVERABLE.into(), "".into(), options, FieldTable::default());
    let mut consumer = answer(consumer).await.map_err(lost)?;
    let (mut known, mut strangers, mut taken) = (HashMap::new(), 0, 0);
    let mut sending = FuturesOrdered::new();
    while taken < count || !sending.is_empty() {
        tokio::select! {
            biased;
            Some(sent) = sending.next() => {
                let tag = sent?;
                channel.basic_ack(tag, BasicAckOptions::default()).await.map_err(lost)?;
            }
            next = timeout(NEXT_WITHIN, consumer.next()), if taken < count && sending.len() < usize::from(WINDOW) => {
                let Ok(Some(next)) = next else {
                    taken = count;
                    continue;
                };
                let delivery = next.map_err(lost)?;
                taken += 1;
                let exists = match topic_of(&delivery) {
                    Some(topic) => exists(&core, topic, &mut known).await?,
                    None => false,
                };
                strangers += u32::from(!exists);
                sending.push_back(send(publishing.clone(), delivery));
            }
        }
    }
    let _ = answer(channel.close(200, "done".into())).await;
    let _ = answer(publishing.close(200, "done".into())).await;
    let back = taken.saturating_sub(strangers);
    tracing::warn!(back, strangers, "what had fallen due was undeliverable: brought back, and topics that are gone");
    Ok(strangers)
}

/// The topic that a delayed message is for, by its routing key.
fn topic_of(delivery: &Delivery) -> Option<TopicName> {
    TopicName::new(delivery.routing_key.as_str().split_once('.')?.1).ok()
}

/// Whether a topic exists. Its `due` queue does, then.
async fn exists(core: &Arc<Core>, topic: TopicName, known: &mut HashMap<TopicName, bool>) -> Result<bool> {
    if let Some(exists) = known.get(&topic) {
        return Ok(*exists);
    }
    let exists = match revive(core.clone(), topic.clone()).await {
        Ok(_) => true,
        Err(error) if error.is_retryable() || error.kind() == ErrorKind::Closed => return Err(error),
        Err(error) => {
            tracing::warn!(%error, %topic, "what falls due of this topic cannot be delivered");
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
pub(crate) async fn revive(core: Arc<Core>, topic: TopicName) -> Result<Topic> {
    let found = topics::find(core.control.clone(), topic, "forward").await?;
    let channel = core.control.channel().await?;
    delay::create_due(&channel, &found.name).await?;
    core.topics.learn(found.clone());
    Ok(found)
}

/// Publishes a message as it was published before.
async fn send(channel: Channel, delivery: Delivery) -> Result<u64> {
    let Delivery { routing_key, properties, data, delivery_tag, .. } = delivery;
    let lost = |text: &str| Error::new(ErrorKind::OutcomeUnknown, OPERATION, text);
    let (properties, options) = (wire::again(properties), BasicPublishOptions::default());
    let confirmed =
        async { channel.basic_publish(names::DUE.into(), routing_key, options, &data, properties).await?.await };
    match timeout(NEXT_WITHIN, confirmed).await {
        Ok(Ok(Confirmation::Ack(_) | Confirmation::NotRequested)) => Ok(delivery_tag),
        Ok(Ok(Confirmation::Nack(_))) => Err(lost("the broker refused it")),
        Ok(Err(error)) => Err(lost("the connection was lost before the confirm").because(error)),
        Err(_) => Err(lost("no confirm came")),
    }
}
