use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use partitura_adapter_kit::Claimed;
use partitura_broker::{Error, ErrorKind, Result, SubscriptionName, TopicKind, TopicName};
use rdkafka::admin::AdminOptions;
use rdkafka::client::Client;
use rdkafka::message::{BorrowedMessage, Message as _};
use rdkafka::{Offset, TopicPartitionList};
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::time::{MissedTickBehavior, interval};

use super::entry::{Entry, Name, pack, unpack};
use super::ledger::{Change, Grant, Ledger};
use super::log::{LogEntry, follow_to, read_messages, replay, write};
use super::messages::{ClaimedMessages, TURN};
use crate::client::REQUEST_TIMEOUT;
use crate::core::Core;
use crate::position::Position;
use crate::reader::{Reader, Start};
use crate::ready::once_ready;
use crate::record_producer::RecordProducer;
use crate::watch::Watched;
use crate::wire::Stored;
use crate::{names, subscription};

/// The interval of heartbeats, and of looks for silent members.
const HEARTBEAT: Duration = Duration::from_secs(1);
/// The number of entries after which one member writes a snapshot and deletes them.
const COMPACT_AFTER: i64 = 10_000;

type Answer = oneshot::Sender<Result<()>>;

/// A request of the consumer.
#[derive(Debug)]
pub(super) enum Task {
    Settle(Vec<i64>),
    Flush(Answer),
    Leave(Answer),
}

/// Follows the log of claims of one topic, and claims and settles messages.
pub(super) struct ClaimLogWorker {
    core: Arc<Core>,
    topic: TopicName,
    log: String,
    group: String,
    watched: Arc<Watched>,
    /// Outlives the close of the connection, so that the member can write that it leaves.
    producer: Arc<RecordProducer>,
    me: Name,
    ahead: usize,
    entries: Reader<LogEntry>,
    messages: Reader<Stored>,
    ledger: Ledger,
    claimed: ClaimedMessages,
    /// The members, and the time of the last entry of each.
    members: HashMap<Name, Instant>,
    /// The offset behind the last entry that was read, and the one from which the log is kept.
    read: i64,
    kept: i64,
    unconfirmed: Arc<Unconfirmed>,
}

/// Settlements that the brokers have not confirmed.
#[derive(Debug, Default)]
struct Unconfirmed {
    count: AtomicUsize,
    failed: AtomicBool,
    changed: Notify,
}

impl ClaimLogWorker {
    /// Reads the log to its end, and begins to read the messages from the ack floor on.
    pub(super) async fn open(
        core: &Arc<Core>,
        topic: &TopicName,
        subscription: &SubscriptionName,
        group: &str,
        ahead: usize,
    ) -> Result<Self> {
        let (log, producer) = (names::claims(topic, subscription), core.client.producer()?);
        let (first, end) = {
            let name = log.clone();
            let ask = move |client: &Client<_>| once_ready(|| client.fetch_watermarks(&name, 0, REQUEST_TIMEOUT));
            core.client.ask("subscribe", ask).await?
        };
        let read = |record: &BorrowedMessage<'_>| {
            let entry = record.payload().and_then(|text| Entry::decode(std::str::from_utf8(text).ok()?));
            Some(LogEntry { offset: record.offset(), entry })
        };
        let mut entries = Reader::open(core, &log, [0], Start::Offset(first), read).await?;
        let watched = core.topics.watch(topic.as_str());
        core.topics.look_at(&watched).await?;
        let start = subscription::offset(core, group, topic, watched.birth()).await?;
        let (mut ledger, mut read) = replay(&mut entries, Ledger::new(start), first, end).await?;
        if watched.birth().is_known() && watched.birth() != ledger.birth() {
            let topic = Entry::Topic(watched.birth());
            write(&producer, &log, &topic, Box::new(|_| {}))?;
            read = follow_to(&mut entries, &mut ledger, &topic).await?;
        }
        let messages = read_messages(core, topic, ledger.ack_floor()).await?;
        Ok(Self {
            core: core.clone(),
            topic: topic.clone(),
            log,
            group: group.to_owned(),
            watched,
            producer,
            me: uuid::Uuid::now_v7().simple().to_string(),
            ahead,
            entries,
            messages,
            ledger,
            claimed: ClaimedMessages::default(),
            members: HashMap::new(),
            read,
            kept: first,
            unconfirmed: Arc::default(),
        })
    }

    /// Works until the consumer leaves, or the log says that this member is gone.
    pub(super) async fn work(
        mut self,
        mut tasks: mpsc::UnboundedReceiver<Task>,
        granted: mpsc::UnboundedSender<Result<Vec<Claimed<i64>>>>,
    ) {
        let mut heartbeat = interval(HEARTBEAT);
        heartbeat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let done = tokio::select! {
                task = tasks.recv() => match task {
                    Some(Task::Leave(answer)) => {
                        self.leave();
                        return drop(answer.send(self.unconfirmed.all().await));
                    }
                    Some(task) => self.perform(task),
                    // The consumer was dropped: its messages are free at once.
                    None => return self.leave(),
                },
                entries = self.entries.next() => self.follow(entries, &granted).await,
                messages = self.messages.next(), if self.claimed.have_room() => self.arrive(messages),
                _ = heartbeat.tick() => self.send_heartbeat().await,
                () = tokio::time::sleep(TURN), if self.claimed.may_claim(self.ahead) => Ok(()),
            };
            if let Err(error) = done.and_then(|()| self.claim()) {
                self.leave();
                let _gone = granted.send(Err(error));
                return;
            }
        }
    }

    fn perform(&mut self, task: Task) -> Result<()> {
        match task {
            Task::Settle(offsets) => {
                let mut done: Vec<i64> = offsets.into_iter().filter(|offset| self.claimed.settle(*offset)).collect();
                done.sort_unstable();
                if !done.is_empty() {
                    self.append(&Entry::Settle(self.me.clone(), pack(done)))?;
                }
            }
            Task::Flush(answer) | Task::Leave(answer) => {
                let unconfirmed = self.unconfirmed.clone();
                tokio::spawn(async move { drop(answer.send(unconfirmed.all().await)) });
            }
        }
        Ok(())
    }

    /// Applies new entries of the log.
    async fn follow(
        &mut self,
        entries: Result<Vec<LogEntry>>,
        granted: &mpsc::UnboundedSender<Result<Vec<Claimed<i64>>>>,
    ) -> Result<()> {
        let mut mine = Vec::new();
        let mut freed: Option<i64> = None;
        for LogEntry { offset, entry } in entries? {
            self.read = offset + 1;
            let Some(entry) = entry else { continue };
            match &entry {
                Entry::Heartbeat(name) | Entry::Claim(name, _) | Entry::Settle(name, _) => {
                    self.members.insert(name.clone(), Instant::now());
                }
                Entry::Gone(name) if *name == self.me => {
                    let text = "the other members declared this one gone; its messages went to them";
                    return Err(Error::new(ErrorKind::Disconnected, "consume", text).of(&self.topic));
                }
                Entry::Gone(name) => drop(self.members.remove(name)),
                Entry::Topic(_) => {}
                Entry::Snapshot(snapshot) => self.kept = self.kept.max(snapshot.as_of),
            }
            match self.ledger.apply(&entry) {
                Change::Granted(name, offsets) if name == self.me => mine.extend(self.granted(&entry, &offsets)),
                Change::Granted(_, offsets) => {
                    offsets.iter().for_each(|grant| self.claimed.drop_if_not_requested(grant.offset))
                }
                Change::CreatedAgain => return Err(self.created_again()),
                Change::Freed(offsets) => freed = freed.into_iter().chain(offsets).min(),
                Change::None => {}
            }
        }
        if !mine.is_empty() {
            let _gone = granted.send(Ok(mine));
        }
        if let Some(first) = freed {
            // Their contents were dropped when another member claimed them. Read them again.
            self.messages = read_messages(&self.core, &self.topic, first).await?;
        }
        Ok(())
    }

    /// Takes note of the decision about a claim of this member.
    fn granted(&mut self, claim: &Entry, granted: &[Grant]) -> Vec<Claimed<i64>> {
        let Entry::Claim(_, asked) = claim else { return Vec::new() };
        self.claimed.decided(unpack(asked), granted)
    }

    fn arrive(&mut self, messages: Result<Vec<Stored>>) -> Result<()> {
        let messages = messages?;
        if let Some(first) = messages.first()
            && self.claimed.are_empty()
        {
            // Retention deleted the messages before.
            self.ledger.truncated(first.offset);
        }
        let now = Instant::now();
        for stored in messages {
            if self.ledger.is_free(stored.offset) {
                self.claimed.take(stored, now);
            }
        }
        Ok(())
    }

    /// Claims free messages.
    fn claim(&mut self) -> Result<()> {
        if !self.claimed.may_claim(self.ahead) {
            return Ok(());
        }
        let mut members: Vec<&Name> = self.members.keys().collect();
        members.sort_unstable();
        let (turn, turns) = match members.binary_search(&&self.me) {
            Ok(turn) => (turn, members.len()),
            Err(_) => (0, 1),
        };
        let wanted = self.claimed.claim(self.ahead, turn, turns);
        if wanted.is_empty() { Ok(()) } else { self.append(&Entry::Claim(self.me.clone(), pack(wanted))) }
    }

    /// The error after the topic was created again. The held messages belong to the earlier topic. The claim begins
    /// again.
    fn created_again(&self) -> Error {
        let text = "the topic was deleted and created again; its subscription begins at its beginning";
        Error::new(ErrorKind::Disconnected, "consume", text).of(&self.topic)
    }

    async fn send_heartbeat(&mut self) -> Result<()> {
        if self.watched.birth().differs(self.ledger.birth()) {
            return Err(self.created_again());
        }
        let now = Instant::now();
        let session = self.core.target().session();
        // A member that does not read its own heartbeats cannot judge others: the brokers may have been away.
        let is_connected = self.members.get(&self.me).is_some_and(|last| now - *last < 2 * HEARTBEAT);
        self.append(&Entry::Heartbeat(self.me.clone()))?;
        if !is_connected {
            self.members.values_mut().for_each(|last| *last = now);
            return Ok(());
        }
        let holders: Vec<Name> = self.ledger.holders().into_iter().cloned().collect();
        for name in holders {
            // A holder of messages that has been silent since this member came gets one session from now on.
            let last = *self.members.entry(name.clone()).or_insert(now);
            if name != self.me && now - last > session {
                tracing::warn!(topic = %self.topic, member = name, "declaring a silent member gone");
                self.append(&Entry::Gone(name))?;
            }
        }
        self.members.retain(|_, last| now - *last <= session);
        if self.members.keys().min() == Some(&self.me) && self.read - self.kept > COMPACT_AFTER {
            self.compact().await?;
        }
        Ok(())
    }

    /// Writes a snapshot of the log, and deletes the entries before it and the settled messages.
    async fn compact(&mut self) -> Result<()> {
        let snapshot = self.ledger.snapshot(self.read);
        let (as_of, ack_floor) = (snapshot.as_of, snapshot.ack_floor);
        self.append(&Entry::Snapshot(snapshot))?;
        self.unconfirmed.all().await?;
        self.kept = as_of;
        let position = Position::fresh(self.ledger.birth(), ack_floor);
        subscription::move_to(&self.core, &self.group, &self.topic, position).await?;
        // If the topic was created again, unsettled messages would be deleted.
        self.core.topics.look_at(&self.watched).await?;
        if self.watched.birth().differs(self.ledger.birth()) {
            return Err(self.created_again());
        }
        let mut before = TopicPartitionList::new();
        let failed = |source| crate::error::error("settle", source);
        before.add_partition_offset(&self.log, 0, Offset::Offset(as_of)).map_err(failed)?;
        if self.core.topics.route(&self.topic).await?.kind == Some(TopicKind::Queue) {
            before.add_partition_offset(self.topic.as_str(), 0, Offset::Offset(ack_floor)).map_err(failed)?;
        }
        let options = AdminOptions::new().request_timeout(Some(REQUEST_TIMEOUT));
        if let Err(error) = self.core.client.admin()?.delete_records(&before, &options).await {
            tracing::debug!(topic = self.log, %error, "retrying later to delete old entries");
        }
        Ok(())
    }

    /// Gives all held messages back.
    fn leave(&self) {
        if let Err(error) = self.append(&Entry::Gone(self.me.clone())) {
            tracing::debug!(topic = %self.topic, %error, "leaving without an entry; the other members notice");
        }
    }

    fn append(&self, entry: &Entry) -> Result<()> {
        let unconfirmed = self.unconfirmed.clone();
        unconfirmed.count.fetch_add(1, Ordering::AcqRel);
        let confirm = Box::new(move |result: Result<(), _>| unconfirmed.confirmed(result.is_err()));
        write(&self.producer, &self.log, entry, confirm).inspect_err(|_| self.unconfirmed.confirmed(true))
    }
}

impl Unconfirmed {
    fn confirmed(&self, failed: bool) {
        self.failed.fetch_or(failed, Ordering::AcqRel);
        self.count.fetch_sub(1, Ordering::AcqRel);
        self.changed.notify_waiters();
    }

    /// Waits until all entries so far are confirmed, or have failed.
    async fn all(&self) -> Result<()> {
        loop {
            let changed = self.changed.notified();
            if self.count.load(Ordering::Acquire) == 0 {
                break;
            }
            changed.await;
        }
        if self.failed.swap(false, Ordering::AcqRel) {
            let text = "a settlement was not confirmed; its message will be delivered again";
            return Err(Error::new(ErrorKind::Disconnected, "settle", text));
        }
        Ok(())
    }
}
