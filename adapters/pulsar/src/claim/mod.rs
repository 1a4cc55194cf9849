//! A partition that a member has claimed: a consumer of Pulsar's, or one for each partition of a broadcast.

mod flow;
mod settlement;

use std::collections::VecDeque;

use async_trait::async_trait;
use partitura_adapter_kit::{Claim, Claimed};
use partitura_broker::{Error, Partition, Result, TopicName};
use pulsar::Payload;
use pulsar::proto::command_subscribe::SubType;
use pulsar::proto::{CommandMessage, MessageIdData};
use tokio::sync::mpsc;

use self::flow::Flow;
pub(crate) use self::settlement::{Handle, Position};
use self::settlement::{Ledger, Unacknowledged};
use crate::client::command::{self, Subscribe};
use crate::client::{ConsumerInput, Incoming, Purpose, Registered, acknowledged};
use crate::core::Core;
use crate::error;
use crate::names::FullName;
use crate::wire::{self, Received};

const OPERATION: &str = "consume";
/// The number of messages that are given out at once.
const AT_ONCE: usize = 256;

/// The partitions to claim, and how to claim them.
#[derive(Debug)]
pub(crate) struct ClaimOptions<'a> {
    pub(crate) topic: &'a TopicName,
    /// The partitions, each by its full name.
    pub(crate) partitions: Vec<(Partition, FullName)>,
    pub(crate) subscription: String,
    pub(crate) kind: SubType,
    pub(crate) durable: bool,
    /// The number of messages that may be held of each.
    pub(crate) ahead: usize,
    /// The bytes that these may have, roughly.
    pub(crate) bytes: usize,
}

/// A claim. Pulsar gives everything unsettled to the next owner, in order, as soon as it is dropped.
#[derive(Debug)]
pub(crate) struct PulsarClaim {
    topic: TopicName,
    consumers: Vec<PartitionConsumer>,
    /// Bounded by the granted flow.
    incoming: mpsc::UnboundedReceiver<ConsumerInput>,
    ready: VecDeque<Claimed<Handle>>,
}

/// One consumer of Pulsar's.
#[derive(Debug)]
struct PartitionConsumer {
    registered: Registered,
    partition: Partition,
    flow: Flow,
    ledger: Ledger,
    /// The last message that was stored before the claim. Messages up to it may have been delivered before.
    last_before: Option<Position>,
    /// The last acknowledgement that is not confirmed yet.
    unconfirmed: Option<MessageIdData>,
}

impl PulsarClaim {
    /// Subscribes.
    ///
    /// # Errors
    /// [`Busy`](partitura_broker::ErrorKind::Busy) if another consumer has the exclusive subscription.
    pub(crate) async fn new(core: &Core, options: ClaimOptions<'_>) -> Result<Self> {
        let (to, incoming) = mpsc::unbounded_channel();
        let mut consumers = Vec::with_capacity(options.partitions.len());
        for (number, (partition, topic)) in options.partitions.iter().enumerate() {
            let connection = core.cluster.serving(OPERATION, topic, Purpose::Consume).await?;
            let subscribe = Subscribe {
                topic: topic.to_string(),
                subscription: options.subscription.clone(),
                kind: options.kind,
                durable: options.durable,
                create: false,
            };
            let registered = connection.subscribe(OPERATION, &subscribe, number, to.clone()).await?;
            let last_before = if options.durable { last(&registered).await? } else { None };
            consumers.push(PartitionConsumer {
                registered,
                partition: *partition,
                flow: Flow::new(options.ahead, options.bytes),
                ledger: Ledger::new(core.settles_by_index),
                last_before,
                unconfirmed: None,
            });
        }
        // Only now, since the messages of a partition are to be taken as soon as they come.
        consumers.iter_mut().for_each(PartitionConsumer::grant);
        Ok(Self { topic: options.topic.clone(), consumers, incoming, ready: VecDeque::new() })
    }

    fn take(&mut self, ConsumerInput { number, incoming }: ConsumerInput) -> Result<()> {
        match incoming {
            Incoming::Lost => Err(error::disconnected(OPERATION)),
            Incoming::Entry(entry, payload) => {
                let consumer = &mut self.consumers[number];
                consumer.take(number, &self.topic, entry, *payload, &mut self.ready)
            }
        }
    }
}

/// The last message of a partition, if there is one.
async fn last(registered: &Registered) -> Result<Option<Position>> {
    let ask = |request| command::last_message_id(request, registered.id());
    let answer = registered.connection().request(OPERATION, ask).await?;
    let last = answer.get_last_message_id_response.map(|response| Position::from_id(&response.last_message_id));
    // −1 is none, in both numbers.
    Ok(last.filter(|last| last.entry != u64::MAX && last.ledger != u64::MAX))
}

impl PartitionConsumer {
    fn take(
        &mut self,
        number: usize,
        topic: &TopicName,
        entry: CommandMessage,
        payload: Payload,
        ready: &mut VecDeque<Claimed<Handle>>,
    ) -> Result<()> {
        let position = Position::from_id(&entry.message_id);
        let redelivered = entry.redelivery_count.is_some_and(|count| count > 0) || Some(position) <= self.last_before;
        let bytes = payload.data.len();
        let batch = wire::batch_size(&payload).map(|size| Unacknowledged::new(size, &entry.ack_set));
        let messages = wire::messages(topic, &entry.message_id, payload)?;
        let is_unsettled = |index: u32| batch.as_ref().is_none_or(|batch| batch.contains(index));
        let before = ready.len();
        for (index, Received { message, is_repeated }) in (0..).zip(messages).filter(|(index, _)| is_unsettled(*index))
        {
            let handle = Handle { consumer: number, position, index: batch.is_some().then_some(index) };
            let redelivered = redelivered || is_repeated;
            ready.push_back(Claimed { partition: self.partition, message, redelivered, handle });
        }
        self.flow.received(ready.len() - before, bytes);
        if let Some(batch) = batch {
            self.ledger.insert(position, batch);
        }
        self.grant();
        Ok(())
    }

    fn settle(&mut self, handles: Vec<Handle>) {
        self.flow.settled(handles.len());
        let ids = self.ledger.settle(handles);
        if let Some(last) = ids.last() {
            self.unconfirmed = Some(last.clone());
            self.registered.connection().acknowledge(self.registered.id(), ids);
        }
        self.grant();
    }

    fn grant(&mut self) {
        if let Some(messages) = self.flow.grant() {
            self.registered.connection().command(command::flow(self.registered.id(), messages));
        }
    }

    /// Waits for the confirmation of the last acknowledgement, which the broker gives after those of all earlier ones.
    async fn flush(&mut self) -> Result<()> {
        let Some(last) = self.unconfirmed.clone() else { return Ok(()) };
        let id = self.registered.id();
        let ask = |request| command::acknowledge(Some(request), id, vec![last]);
        acknowledged(&*self.registered.connection().request("settle", ask).await?)?;
        self.unconfirmed = None;
        Ok(())
    }
}

#[async_trait]
impl Claim for PulsarClaim {
    type Handle = Handle;

    async fn next(&mut self) -> Result<Vec<Claimed<Handle>>> {
        while self.ready.is_empty() {
            let input = self.incoming.recv().await.ok_or_else(|| error::disconnected(OPERATION))?;
            self.take(input)?;
        }
        while self.ready.len() < AT_ONCE
            && let Ok(input) = self.incoming.try_recv()
        {
            self.take(input)?;
        }
        let count = self.ready.len().min(AT_ONCE);
        Ok(self.ready.drain(..count).collect())
    }

    fn settle(&mut self, handles: Vec<Handle>) {
        if let [consumer] = self.consumers.as_mut_slice() {
            return consumer.settle(handles);
        }
        let mut by_consumer: Vec<Vec<Handle>> = vec![Vec::new(); self.consumers.len()];
        handles.into_iter().for_each(|handle| by_consumer[handle.consumer].push(handle));
        for (consumer, handles) in self.consumers.iter_mut().zip(by_consumer) {
            if !handles.is_empty() {
                consumer.settle(handles);
            }
        }
    }

    async fn flush(&mut self) -> Result<()> {
        for consumer in &mut self.consumers {
            consumer.flush().await?;
        }
        Ok(())
    }

    async fn release(mut self) -> Result<()> {
        let flushed = self.flush().await;
        let mut closed: Result<(), Error> = Ok(());
        for consumer in self.consumers {
            closed = closed.and(consumer.registered.close("release").await);
        }
        flushed.and(closed)
    }
}
