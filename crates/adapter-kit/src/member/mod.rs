//! A consumer made of claims.
//!
//! ```text
//! Member ── the consumer: tokens, credit, events in order
//!   └ Keeper ── who is there, and which partitions are therefore ours
//!       └ tenure, one per partition ── claims it, keeps it, gives it up
//!           └ Reader, one per topic ── reads as far as the credit goes, settles
//! ```

mod keeper;
mod pool;
mod reader;
mod roster;
mod tenure;
#[cfg(test)]
mod tests;
mod waiting;

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use partitura_broker::{
    AckToken, Assignment, Consumer, ConsumerOptions, Delivery, Error, ErrorKind, Event, Partition, Result, telemetry,
};
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::task::JoinHandle;

use self::keeper::{Ask, Keeper};
use self::pool::Pool;
use self::reader::Task;
use self::tenure::Office;
use crate::{Claim, Claimed, Claims, TokenSlab};

/// The largest number of unsettled messages that a single claim may hold, with any credit.
const MOST_AHEAD: usize = 4_096;

/// One member of a subscription: the [`Consumer`] of a broker whose partitions are claimed one by one.
///
/// The adapter claims and reads single partitions ([`Claims`]). The other promises of the contract are implemented
/// here, once: members find each other and share the partitions evenly; a partition is handed over in good order;
/// partitions of a lost connection are reported as lost, and claimed again; each topic has no more than the credit
/// unsettled.
///
/// Dropping it drops every claim, which is a crash for the broker.
pub struct Member<C: Claims> {
    office: Arc<Office<C>>,
    kind: Kind,
    news: mpsc::UnboundedReceiver<News<Handle<C>>>,
    asks: mpsc::UnboundedSender<Ask>,
    keeper: JoinHandle<()>,
    held: TokenSlab<Held<Handle<C>>>,
    terms: HashMap<Partition, Term<Handle<C>>>,
    revoking: HashSet<Partition>,
    /// The reason why it has ended.
    ended: Option<Error>,
}

type Handle<C> = <<C as Claims>::Claim as Claim>::Handle;

/// The meaning of partitions for this member.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Each has one owner.
    Ordered,
    /// There are none: members compete for single messages.
    Competing,
    /// All of them, without owning any.
    Listening,
}

/// The reports of tenures and the keeper, in order.
#[derive(Debug)]
enum News<H> {
    Assigned { partition: Partition, epoch: u32, tasks: Vec<mpsc::UnboundedSender<Task<H>>> },
    Deliveries { topic: usize, partition: Partition, epoch: u32, messages: Vec<Claimed<H>> },
    Revoking { partition: Partition, within: Duration },
    Lost { partition: Partition, epoch: u32 },
    Failed(Error),
}

/// A partition while this member holds it.
#[derive(Debug)]
struct Term<H> {
    epoch: u32,
    /// One for each topic.
    lines: Vec<Line<H>>,
}

/// The way to a reader.
#[derive(Debug)]
struct Line<H> {
    tasks: mpsc::UnboundedSender<Task<H>>,
    /// Settled in this call, and not yet passed on.
    settled: Vec<H>,
    unflushed: bool,
}

/// An unsettled delivery.
#[derive(Debug)]
struct Held<H> {
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
    pub fn competing(claims: Arc<C>, options: &ConsumerOptions, system: &'static str) -> Self {
        Self::new(claims, options, 1, system, Kind::Competing)
    }

    /// A listener that gets all messages that are published from now on, in all of `partitions`; 0 if the topic is
    /// shared.
    pub fn listening(claims: Arc<C>, options: &ConsumerOptions, partitions: u32, system: &'static str) -> Self {
        Self::new(claims, options, partitions, system, Kind::Listening)
    }

    fn new(claims: Arc<C>, options: &ConsumerOptions, partitions: u32, system: &'static str, kind: Kind) -> Self {
        static MEMBERS: AtomicU32 = AtomicU32::new(1);
        let (news, received) = mpsc::unbounded_channel();
        let (asks, asked) = mpsc::unbounded_channel();
        let mut topics = options.topics.clone();
        topics.sort_unstable();
        let office = Arc::new(Office {
            claims,
            topics: topics.into_iter().map(|topic| (topic, Arc::new(Pool::new(options.credit)))).collect(),
            partitions,
            ahead: options.credit.messages.get().min(MOST_AHEAD),
            revoke_within: options.revoke_within,
            epochs: AtomicU32::new(0),
            news,
            released: Notify::new(),
            system,
        });
        let keeper = Keeper::new(office.clone(), RandomState::new().build_hasher().finish());
        let keeper = match kind {
            Kind::Ordered => tokio::spawn(keeper.hold_share(asked)),
            Kind::Competing | Kind::Listening => tokio::spawn(keeper.hold_all(asked)),
        };
        let held = TokenSlab::new(MEMBERS.fetch_add(1, Ordering::Relaxed));
        let (terms, revoking) = (HashMap::new(), HashSet::new());
        Self { office, kind, news: received, asks, keeper, held, terms, revoking, ended: None }
    }

    /// Returns the event for the consumer's caller; `None` if the report is only for this member.
    fn take(&mut self, news: News<Handle<C>>) -> Option<Event> {
        match news {
            News::Assigned { partition, epoch, tasks } => {
                let line = |tasks| Line { tasks, settled: Vec::new(), unflushed: false };
                self.terms.insert(partition, Term { epoch, lines: tasks.into_iter().map(line).collect() });
                self.of(partition)
                    .map(|of| Event::Assigned(of.map(|partition| Assignment { partition, epoch }).collect()))
            }
            News::Deliveries { topic, partition, epoch, messages } => {
                Some(Event::Deliveries(self.deliver(topic, partition, epoch, messages)))
            }
            News::Revoking { partition, within } => {
                self.revoking.insert(partition);
                Some(Event::Revoking { partitions: vec![partition], within })
            }
            News::Lost { partition, epoch } => {
                if self.terms.get(&partition).is_none_or(|term| term.epoch != epoch) {
                    // It was released just before, so no one needs it.
                    return None;
                }
                self.forget(partition);
                self.of(partition).map(|of| Event::Lost(of.collect()))
            }
            News::Failed(error) => {
                self.ended = Some(error);
                None
            }
        }
    }

    /// The partitions of a claim for the consumer's caller; `None` if there are none.
    fn of(&self, claim: Partition) -> Option<Box<dyn Iterator<Item = Partition>>> {
        match self.kind {
            Kind::Ordered => Some(Box::new(std::iter::once(claim))),
            Kind::Listening if self.office.partitions > 0 => Some(Box::new((0..self.office.partitions).map(Partition))),
            Kind::Listening | Kind::Competing => None,
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
            let held = Held { handle, claim, topic, size: message.size() };
            let token = self.held.insert(partition, epoch, held);
            Delivery { message, partition, redelivered, token }
        };
        messages.into_iter().map(give).collect()
    }

    /// Forgets a partition and its unsettled deliveries.
    fn forget(&mut self, claim: Partition) {
        self.terms.remove(&claim);
        self.revoking.remove(&claim);
        for held in self.held.take_unless(|_, held| held.claim != claim) {
            self.office.topics[held.topic].1.give_back([held.size]);
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
            let news = self.news.recv().await.ok_or_else(Self::closed)?;
            if let Some(event) = self.take(news) {
                return Ok(event);
            }
        }
    }

    fn settle(&mut self, tokens: &[AckToken]) {
        let (mut touched, mut stale) = (Vec::new(), 0);
        for token in tokens {
            let Some(Held { handle, claim, topic, size }) = self.held.remove(token) else {
                stale += 1;
                continue;
            };
            self.office.topics[topic].1.give_back([size]);
            if let Some(line) = self.terms.get_mut(&claim).and_then(|term| term.lines.get_mut(topic)) {
                if line.settled.is_empty() {
                    touched.push((claim, topic));
                }
                line.settled.push(handle);
            }
        }
        for (claim, topic) in touched {
            if let Some(line) = self.terms.get_mut(&claim).and_then(|term| term.lines.get_mut(topic)) {
                line.unflushed = true;
                // A reader that is gone will soon be reported as lost.
                let _ = line.tasks.send(Task::Settle(std::mem::take(&mut line.settled)));
            }
        }
        telemetry::stale_settlements(self.office.system, stale);
    }

    async fn flush(&mut self) -> Result<()> {
        let mut answers = Vec::new();
        for line in self.terms.values_mut().flat_map(|term| &mut term.lines).filter(|line| line.unflushed) {
            let (reply, answer) = oneshot::channel();
            let _ = line.tasks.send(Task::Flush(reply));
            answers.push((line, answer));
        }
        let mut result = Ok(());
        for (line, answer) in answers {
            match answer.await {
                Ok(Ok(())) => line.unflushed = false,
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
            let _ = self.asks.send(Ask::Release(*partition, reply));
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
        let _ = self.asks.send(Ask::Close(reply));
        answer.await.unwrap_or(Ok(()))
    }
}

impl<C: Claims> Drop for Member<C> {
    fn drop(&mut self) {
        // The tenures end with the keeper, and their claims with them.
        self.keeper.abort();
    }
}

impl<C: Claims> std::fmt::Debug for Member<C> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Member").field("kind", &self.kind).field("claims", &self.office.claims).finish_non_exhaustive()
    }
}
