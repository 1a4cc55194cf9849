//! A partition in the hands of one member: a consumer of Pulsar's, or one for each partition of a broadcast.

use std::collections::VecDeque;

use async_trait::async_trait;
use partitura_adapter_kit::{Claim, Claimed};
use partitura_broker::{Error, Partition, Result, TopicName};
use pulsar::Payload;
use pulsar::proto::command_subscribe::SubType;
use pulsar::proto::{CommandMessage, MessageIdData};
use tokio::sync::mpsc;

use crate::core::Core;
use crate::error;
use crate::names::FullName;
use crate::session::command::{self, Subscribe};
use crate::session::{Incoming, Purpose, Registered, acknowledged};
use crate::settlement::{Flow, Handle, Ledger, Position, Unacknowledged};
use crate::wire;

const OPERATION: &str = "consume";
/// How many messages are given out at once.
const AT_ONCE: usize = 256;

/// What to claim.
#[derive(Debug)]
pub(crate) struct Wanted<'a> {
    pub(crate) topic: &'a TopicName,
    /// The partitions, each by its full name.
    pub(crate) partitions: Vec<(Partition, FullName)>,
    pub(crate) subscription: String,
    pub(crate) kind: SubType,
    pub(crate) durable: bool,
    /// How many messages may be held of each.
    pub(crate) ahead: usize,
    /// About how many bytes.
    pub(crate) bytes: usize,
}

/// A claim. Pulsar gives everything unsettled to the next owner, in order, as soon as it is dropped.
#[derive(Debug)]
pub(crate) struct PulsarClaim {
    topic: TopicName,
    sources: Vec<Source>,
    /// Unbounded, and yet bounded by what was granted.
    incoming: mpsc::UnboundedReceiver<(usize, Incoming)>,
    ready: VecDeque<Claimed<Handle>>,
}

/// One consumer of Pulsar's.
#[derive(Debug)]
struct Source {
    registered: Registered,
    partition: Partition,
    flow: Flow,
    ledger: Ledger,
    /// What was there before the claim may have been delivered before.
    seen: Option<Position>,
    /// What was acknowledged last, and not yet confirmed.
    unconfirmed: Option<MessageIdData>,
}

impl PulsarClaim {
    /// Subscribes. With an exclusive subscription that another holds, this is [`Busy`](partitura_broker::ErrorKind::Busy).
    pub(crate) async fn new(core: &Core, wanted: Wanted<'_>) -> Result<Self> {
        let (to, incoming) = mpsc::unbounded_channel();
        let mut sources = Vec::with_capacity(wanted.partitions.len());
        for (number, (partition, topic)) in wanted.partitions.iter().enumerate() {
            let connection = core.cluster.serving(OPERATION, topic, Purpose::Consume).await?;
            let subscribe = Subscribe {
                topic: topic.to_string(),
                subscription: wanted.subscription.clone(),
                kind: wanted.kind,
                durable: wanted.durable,
                create: false,
            };
            let registered = connection.subscribe(OPERATION, &subscribe, number, to.clone()).await?;
            let seen = if wanted.durable { last(&registered).await? } else { None };
            sources.push(Source {
                registered,
                partition: *partition,
                flow: Flow::new(wanted.ahead, wanted.bytes),
                ledger: Ledger::new(core.settles_by_index),
                seen,
                unconfirmed: None,
            });
        }
        // Only now, since what comes of one partition is to be taken as soon as it comes.
        sources.iter_mut().for_each(Source::grant);
        Ok(Self { topic: wanted.topic.clone(), sources, incoming, ready: VecDeque::new() })
    }

    fn take(&mut self, number: usize, incoming: Incoming) -> Result<()> {
        match incoming {
            Incoming::Lost => Err(error::disconnected(OPERATION)),
            Incoming::Entry(entry, payload) => {
                let source = &mut self.sources[number];
                source.take(number, &self.topic, entry, *payload, &mut self.ready)
            }
        }
    }
}

/// The last message of a partition, where there is one.
async fn last(registered: &Registered) -> Result<Option<Position>> {
    let ask = |request| command::last_message_id(request, registered.id());
    let answer = registered.connection().request(OPERATION, ask).await?;
    let last = answer.get_last_message_id_response.map(|response| Position::of(&response.last_message_id));
    // −1 is none, in both numbers.
    Ok(last.filter(|last| last.entry != u64::MAX && last.ledger != u64::MAX))
}

impl Source {
    fn take(
        &mut self,
        number: usize,
        topic: &TopicName,
        entry: CommandMessage,
        payload: Payload,
        ready: &mut VecDeque<Claimed<Handle>>,
    ) -> Result<()> {
        let position = Position::of(&entry.message_id);
        let redelivered = entry.redelivery_count.is_some_and(|count| count > 0) || Some(position) <= self.seen;
        let bytes = payload.data.len();
        let batch = wire::batch_size(&payload).map(|size| Unacknowledged::new(size, &entry.ack_set));
        let messages = wire::messages(topic, &entry.message_id, payload)?;
        let wanted = |index: u32| batch.as_ref().is_none_or(|batch| batch.contains(index));
        let before = ready.len();
        for (index, message) in (0..).zip(messages).filter(|(index, _)| wanted(*index)) {
            let handle = Handle { source: number, position, index: batch.is_some().then_some(index) };
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

    /// The broker answers when it has taken this and everything before it.
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
            let (number, incoming) = self.incoming.recv().await.ok_or_else(|| error::disconnected(OPERATION))?;
            self.take(number, incoming)?;
        }
        while self.ready.len() < AT_ONCE
            && let Ok((number, incoming)) = self.incoming.try_recv()
        {
            self.take(number, incoming)?;
        }
        let count = self.ready.len().min(AT_ONCE);
        Ok(self.ready.drain(..count).collect())
    }

    fn settle(&mut self, handles: Vec<Handle>) {
        if let [source] = self.sources.as_mut_slice() {
            return source.settle(handles);
        }
        let mut by_source: Vec<Vec<Handle>> = vec![Vec::new(); self.sources.len()];
        handles.into_iter().for_each(|handle| by_source[handle.source].push(handle));
        for (source, handles) in self.sources.iter_mut().zip(by_source) {
            if !handles.is_empty() {
                source.settle(handles);
            }
        }
    }

    async fn flush(&mut self) -> Result<()> {
        for source in &mut self.sources {
            source.flush().await?;
        }
        Ok(())
    }

    async fn release(mut self) -> Result<()> {
        let flushed = self.flush().await;
        let mut closed: Result<(), Error> = Ok(());
        for source in self.sources {
            closed = closed.and(source.registered.close("release").await);
        }
        flushed.and(closed)
    }
}
