//! A consumer made of claims.
//!
//! ```text
//! Member ── the consumer: tokens, credit, events in order
//!   └ Coordinator ── the members that are present, and therefore the partitions of this one
//!       └ lease, one per partition ── claims it, keeps it, gives it up
//!           └ Reader, one per topic ── reads as far as the credit goes, settles
//! ```

mod coordinator;
mod lease;
mod membership;
mod messages;
mod pool;
mod reader;
mod state;
#[cfg(test)]
mod tests;
mod waiting;

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use async_trait::async_trait;
use partitura_broker::{
    AckToken, Assignment, Consumer, ConsumerOptions, Delivery, Error, ErrorKind, Event, Partition, Result, telemetry,
};
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::task::JoinHandle;

use self::coordinator::Coordinator;
use self::messages::{ReaderTask, Report, Request};
use self::pool::Pool;
use self::state::{Handle, MemberState, TopicState};
use crate::{Claimed, Claims, TokenSlab};

/// The largest number of unsettled messages that a single claim may hold, with any credit.
const MOST_AHEAD: usize = 4_096;

/// Reads a heartbeat, for `fuzzing`.
#[cfg(any(test, fuzzing))]
pub(crate) fn read_heartbeat(bytes: &[u8]) {
    if let Some((heartbeat, id)) = membership::decode(bytes) {
        assert_eq!(membership::encode(heartbeat, id), bytes, "a heartbeat is what it is written as");
    }
}

/// One member of a subscription: the [`Consumer`] of a broker whose partitions are claimed one by one.
///
/// The adapter claims and reads single partitions ([`Claims`]). The other promises of the contract are implemented
/// here, once: members find each other and share the partitions evenly; a partition is handed over in good order;
/// partitions of a lost connection are reported as lost, and claimed again; each topic has no more than the credit
/// unsettled.
///
/// Dropping it drops every claim, which is a crash for the broker.
pub struct Member<C: Claims> {
    state: Arc<MemberState<C>>,
    kind: Kind,
    reports: mpsc::UnboundedReceiver<Report<Handle<C>>>,
    requests: mpsc::UnboundedSender<Request>,
    coordinator: JoinHandle<()>,
    unsettled: TokenSlab<Unsettled<Handle<C>>>,
    held: HashMap<Partition, HeldPartition<Handle<C>>>,
    revoking: HashSet<Partition>,
    /// The reason why it has ended.
    ended: Option<Error>,
}

/// The meaning of partitions for this member.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Each has one owner.
    Ordered,
    /// There are none: members compete for single messages.
    Shared,
    /// Each member reads all of them, and owns none.
    Broadcast,
}

/// A partition while this member holds it.
#[derive(Debug)]
struct HeldPartition<H> {
    epoch: u32,
    /// The number of partitions of the topics at that time.
    partitions: u32,
    /// One for each topic.
    readers: Vec<ReaderHandle<H>>,
}

#[derive(Debug)]
struct ReaderHandle<H> {
    tasks: mpsc::UnboundedSender<ReaderTask<H>>,
    /// Settled in this call, and not yet passed on.
    settled: Vec<H>,
    unflushed: bool,
}

/// An unsettled delivery.
#[derive(Debug)]
struct Unsettled<H> {
    handle: H,
    /// The claim's partition, which in a broadcast is not the message's.
    claim: Partition,
    topic: usize,
    size: usize,
}

impl<C: Claims> Member<C> {
    /// A member of an ordered subscription: it gets its share of the partitions, each entirely.
    ///
    /// `system` names the broker in telemetry. Must be called within tokio's runtime.
    pub fn ordered(claims: Arc<C>, options: &ConsumerOptions, partitions: u32, system: &'static str) -> Self {
        Self::new(claims, options, partitions, system, Kind::Ordered)
    }

    /// A member of a shared subscription: it competes for single messages.
    pub fn shared(claims: Arc<C>, options: &ConsumerOptions, system: &'static str) -> Self {
        Self::new(claims, options, 1, system, Kind::Shared)
    }

    /// A consumer without a subscription: it gets all messages that are published from now on, in all of `partitions`;
    /// 0 if the topic is shared.
    pub fn broadcast(claims: Arc<C>, options: &ConsumerOptions, partitions: u32, system: &'static str) -> Self {
        Self::new(claims, options, partitions, system, Kind::Broadcast)
    }

    fn new(claims: Arc<C>, options: &ConsumerOptions, partitions: u32, system: &'static str, kind: Kind) -> Self {
        static MEMBERS: AtomicU32 = AtomicU32::new(1);
        let (report, reports) = mpsc::unbounded_channel();
        let (requests, requested) = mpsc::unbounded_channel();
        let mut topics = options.topics.clone();
        topics.sort_unstable();
        let state = Arc::new(MemberState {
            claims,
            topics: topics
                .into_iter()
                .map(|name| TopicState { name, pool: Arc::new(Pool::new(options.credit)) })
                .collect(),
            partitions: AtomicU32::new(partitions),
            ahead: options.credit.messages.get().min(MOST_AHEAD),
            revoke_within: options.revoke_within,
            epochs: AtomicU32::new(0),
            reports: report,
            released: Notify::new(),
            system,
        });
        let coordinator = Coordinator::new(state.clone(), RandomState::new().build_hasher().finish());
        let coordinator = match kind {
            Kind::Ordered => tokio::spawn(coordinator.hold_share(requested)),
            Kind::Shared | Kind::Broadcast => tokio::spawn(coordinator.hold_all(requested)),
        };
        let unsettled = TokenSlab::new(MEMBERS.fetch_add(1, Ordering::Relaxed));
        let (held, revoking) = (HashMap::new(), HashSet::new());
        Self { state, kind, reports, requests, coordinator, unsettled, held, revoking, ended: None }
    }

    /// Returns the event for the consumer's caller; `None` if the report is only for this member.
    fn take(&mut self, report: Report<Handle<C>>) -> Option<Event> {
        match report {
            Report::Assigned { partition, epoch, readers } => {
                let handle = |tasks| ReaderHandle { tasks, settled: Vec::new(), unflushed: false };
                let readers = readers.into_iter().map(handle).collect();
                let partitions = self.state.partitions.load(Ordering::Relaxed);
                self.held.insert(partition, HeldPartition { epoch, partitions, readers });
                let assignment = |partition| Assignment { partition, epoch };
                self.partitions_of(partition, partitions)
                    .map(|partitions| Event::Assigned(partitions.map(assignment).collect()))
            }
            Report::Deliveries { topic, partition, epoch, messages } => {
                Some(Event::Deliveries(self.deliver(topic, partition, epoch, messages)))
            }
            Report::Revoking { partition, within } => {
                self.revoking.insert(partition);
                Some(Event::Revoking { partitions: vec![partition], within })
            }
            Report::Lost { partition, epoch } => {
                // If it was released just before, no one needs this.
                let partitions = self.held.get(&partition).filter(|held| held.epoch == epoch)?.partitions;
                self.forget(partition);
                self.partitions_of(partition, partitions).map(|partitions| Event::Lost(partitions.collect()))
            }
            Report::Failed(error) => {
                self.ended = Some(error);
                None
            }
        }
    }

    /// The partitions of a claim, of `all` of the topics, for the consumer's caller; `None` if there are none.
    fn partitions_of(&self, claim: Partition, all: u32) -> Option<Box<dyn Iterator<Item = Partition>>> {
        match self.kind {
            Kind::Ordered => Some(Box::new(std::iter::once(claim))),
            Kind::Broadcast if all > 0 => Some(Box::new((0..all).map(Partition))),
            Kind::Broadcast | Kind::Shared => None,
        }
    }

    fn deliver(
        &mut self,
        topic: usize,
        claim: Partition,
        epoch: u32,
        messages: Vec<Claimed<Handle<C>>>,
    ) -> Vec<Delivery> {
        let give = |claimed: Claimed<_>| {
            let Claimed { partition, message, redelivered, handle } = claimed;
            let unsettled = Unsettled { handle, claim, topic, size: message.size() };
            let token = self.unsettled.insert(partition, epoch, unsettled);
            Delivery { message, partition, redelivered, token }
        };
        messages.into_iter().map(give).collect()
    }

    fn reader(&mut self, claim: Partition, topic: usize) -> Option<&mut ReaderHandle<Handle<C>>> {
        self.held.get_mut(&claim).and_then(|held| held.readers.get_mut(topic))
    }

    /// Forgets a partition and its unsettled deliveries.
    fn forget(&mut self, claim: Partition) {
        self.held.remove(&claim);
        self.revoking.remove(&claim);
        for unsettled in self.unsettled.take_unless(|_, unsettled| unsettled.claim != claim) {
            self.state.topics[unsettled.topic].pool.give_back([unsettled.size]);
        }
    }

    fn closed() -> Error {
        Error::new(ErrorKind::Closed, "consume", "the consumer has ended; join the subscription again")
    }
}

#[async_trait]
impl<C: Claims> Consumer for Member<C> {
    async fn next(&mut self) -> Result<Event> {
        loop {
            if let Some(error) = &self.ended {
                return Err(error.duplicate());
            }
            let report = self.reports.recv().await.ok_or_else(Self::closed)?;
            if let Some(event) = self.take(report) {
                return Ok(event);
            }
        }
    }

    fn settle(&mut self, tokens: &[AckToken]) {
        let (mut touched, mut stale) = (Vec::new(), 0);
        for token in tokens {
            let Some(Unsettled { handle, claim, topic, size }) = self.unsettled.remove(token) else {
                stale += 1;
                continue;
            };
            self.state.topics[topic].pool.give_back([size]);
            if let Some(reader) = self.reader(claim, topic) {
                if reader.settled.is_empty() {
                    touched.push((claim, topic));
                }
                reader.settled.push(handle);
            }
        }
        for (claim, topic) in touched {
            if let Some(reader) = self.reader(claim, topic) {
                reader.unflushed = true;
                // A reader that is gone will soon be reported as lost.
                let _ = reader.tasks.send(ReaderTask::Settle(std::mem::take(&mut reader.settled)));
            }
        }
        telemetry::stale_settlements(self.state.system, stale);
    }

    async fn flush(&mut self) -> Result<()> {
        let mut answers = Vec::new();
        for reader in self.held.values_mut().flat_map(|held| &mut held.readers).filter(|reader| reader.unflushed) {
            let (reply, answer) = oneshot::channel();
            let _ = reader.tasks.send(ReaderTask::Flush(reply));
            answers.push((reader, answer));
        }
        let mut result = Ok(());
        for (reader, answer) in answers {
            match answer.await {
                Ok(Ok(())) => reader.unflushed = false,
                Ok(Err(error)) => result = result.and(Err(error)),
                Err(_) => {
                    let message = "a partition was lost; its settled messages may come again";
                    result = result.and(Err(Error::new(ErrorKind::Disconnected, "flush settlements", message)));
                }
            }
        }
        result
    }

    async fn release(&mut self, partitions: &[Partition]) -> Result<()> {
        let mut answers = Vec::new();
        for partition in partitions {
            if !self.revoking.contains(partition) {
                continue;
            }
            let (reply, answer) = oneshot::channel();
            let _ = self.requests.send(Request::Release(*partition, reply));
            // The partition is given up in any case: its tokens are void from here on.
            self.forget(*partition);
            answers.push(answer);
        }
        let mut result = Ok(());
        for answer in answers {
            // Without an answer it was taken away before, and this has been reported.
            if let Ok(Err(error)) = answer.await {
                result = result.and(Err(error));
            }
        }
        result
    }

    async fn close(self: Box<Self>) -> Result<()> {
        let (reply, answer) = oneshot::channel();
        let _ = self.requests.send(Request::Close(reply));
        answer.await.unwrap_or(Ok(()))
    }
}

impl<C: Claims> Drop for Member<C> {
    fn drop(&mut self) {
        // The leases end with the coordinator, and their claims with them.
        self.coordinator.abort();
    }
}

impl<C: Claims> std::fmt::Debug for Member<C> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Member").field("kind", &self.kind).field("claims", &self.state.claims).finish_non_exhaustive()
    }
}
