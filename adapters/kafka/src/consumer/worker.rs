use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use partitura_broker::telemetry::{self, TARGET};
use partitura_broker::{Error, ErrorKind, TopicName};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::message::Message as _;
use rdkafka::{Offset, TopicPartitionList};

use super::Shared;
use super::committer::Committer;
use super::context::{Callbacks, Change};
use super::janitor::Janitor;
use super::log::Log;
use super::source::Source;
use crate::error;
use crate::position::Position;

/// The longest wait for an event. Rebalances wake the thread at once; flushing and releasing wait for it.
const TICK: Duration = Duration::from_millis(10);
/// How often settlements are committed.
const COMMIT_EVERY: Duration = Duration::from_millis(150);
/// The pause before a commit that failed is tried again.
const AGAIN: Duration = Duration::from_millis(50);
/// How long a request may take that the thread waits for.
const PATIENCE: Duration = Duration::from_secs(2);
/// How long the last commit of partitions that go may take.
const LAST_COMMIT: Duration = Duration::from_secs(10);

/// Drives one librdkafka consumer, on a thread of its own: hears the group and commits. Messages do not come by here; each
/// partition has its [source](Source).
pub(super) struct Worker {
    consumer: Arc<BaseConsumer<Callbacks>>,
    committer: Committer,
    shared: Arc<Shared>,
    /// The topics, in order of name. The group is balanced over the first one's partitions; the others follow.
    topics: Vec<TopicName>,
    janitor: Janitor,
    within: Duration,
    assigning: Option<Vec<u32>>,
    revoking: Option<Revocation>,
    commit: Option<Commit>,
    commit_next: Instant,
    /// How many commits failed.
    failures: u64,
}

/// Partitions that the group wants back.
struct Revocation {
    partitions: Vec<u32>,
    deadline: Instant,
    /// Until when the last commit is tried, once nobody works on them any more.
    closing: Option<Instant>,
}

/// A commit that was sent.
struct Commit {
    settled: u64,
    positions: Vec<(usize, u32, Position)>,
    last: bool,
}

impl Worker {
    pub(super) fn new(
        consumer: BaseConsumer<Callbacks>,
        shared: Arc<Shared>,
        topics: Vec<TopicName>,
        janitor: Janitor,
        within: Duration,
    ) -> std::io::Result<Self> {
        let (assigning, revoking, commit, commit_next, failures) = (None, None, None, Instant::now(), 0);
        let consumer = Arc::new(consumer);
        let committer = Committer::start(consumer.clone())?;
        Ok(Self {
            consumer,
            committer,
            shared,
            topics,
            janitor,
            within,
            assigning,
            revoking,
            commit,
            commit_next,
            failures,
        })
    }

    /// Works until it is stopped, and then leaves the group.
    pub(super) fn run(mut self) {
        if let Err(source) = self.consumer.subscribe(&[self.topics[0].as_str()]) {
            self.end(error::error("subscribe", source));
        }
        while !self.shared.stop.load(Ordering::Relaxed) {
            self.listen();
            self.take_up_changes();
            self.revoke();
            self.commit();
            self.janitor.clean(&self.topics);
            self.shared.progress.send_replace(());
        }
        self.leave();
    }

    /// Hears what the group says, which comes as a callback, and what goes wrong.
    fn listen(&self) {
        let wait = if self.commit.is_some() { TICK / 10 } else { TICK };
        match self.consumer.poll(wait) {
            Some(Ok(record)) => {
                // To skip it would be to lose it.
                let place = format!("{}/{}/{}", record.topic(), record.partition(), record.offset());
                let text = format!("the message {place} did not come by its partition's queue");
                self.end(Error::new(ErrorKind::Disconnected, "consume", text));
            }
            Some(Err(error)) => self.failed(error),
            None => {}
        }
        let troubles = self.shared.state().troubles();
        troubles.into_iter().for_each(|error| self.failed(error));
    }

    /// librdkafka goes on by itself after most failures.
    fn failed(&self, error: KafkaError) {
        let fatal = matches!(error, KafkaError::MessageConsumptionFatal(_));
        let kind = error.rdkafka_error_code().map_or(ErrorKind::Disconnected, error::kind);
        let error = error::error("consume", error);
        if fatal || kind == ErrorKind::Unauthorized {
            self.end(error);
        } else {
            telemetry::reconnecting("kafka", &error, 1);
        }
    }

    /// Takes everything from the consumer, and says why.
    fn end(&self, error: Error) {
        let mut state = self.shared.state();
        let all = state.owned();
        state.lose(&all);
        state.end.get_or_insert(error);
        drop(state);
        self.shared.arrived.notify_one();
        self.shared.stop.store(true, Ordering::Relaxed);
    }

    fn take_up_changes(&mut self) {
        while self.assigning.is_none() && self.revoking.is_none() {
            match self.consumer.context().change() {
                Some(Change::Assign(partitions)) => self.assigning = Some(partitions),
                Some(Change::Revoke { partitions, lost: true }) => self.lost(&partitions),
                Some(Change::Revoke { partitions, lost: false }) => self.asked_back(partitions),
                None => break,
            }
        }
        let Some(partitions) = self.assigning.take() else { return };
        if let Err(error) = self.assign(&partitions) {
            tracing::warn!(target: TARGET, %error, "taking over partitions is tried again");
            self.assigning = Some(partitions);
        }
    }

    /// Finds out where earlier owners were, and begins there.
    fn assign(&mut self, partitions: &[u32]) -> KafkaResult<()> {
        let mut start = self.list(partitions)?;
        // After a first try that failed.
        self.shared.state().forget(partitions);
        if !partitions.is_empty() {
            let committed = self.consumer.committed_offsets(self.list(partitions)?, PATIENCE)?;
            let mut ends = self.list(partitions)?;
            ends.set_all_offsets(Offset::End)?;
            let ends = self.consumer.offsets_for_times(ends, PATIENCE)?;
            let mut state = self.shared.state();
            for partition in partitions {
                let mut shares = Vec::with_capacity(self.topics.len());
                for topic in &self.topics {
                    let number = number(*partition);
                    let log = read_place(&committed, &ends, topic.as_str(), number)?;
                    start.set_partition_offset(topic.as_str(), number, Offset::Offset(log.start()))?;
                    let source = Source::split(&self.consumer, topic, number, &self.shared.arrived);
                    shares.push((log, source.ok_or(KafkaError::Subscription(topic.to_string()))?));
                }
                state.take_over(*partition, shares);
            }
        }
        self.consumer.incremental_assign(&start)?;
        // So that the brokers learn at once that an owner is at work.
        self.commit_next = Instant::now();
        self.shared.state().joined = true;
        Ok(())
    }

    fn asked_back(&mut self, partitions: Vec<u32>) {
        self.shared.state().revoke(&partitions, self.within);
        self.shared.arrived.notify_one();
        self.revoking = Some(Revocation { partitions, deadline: Instant::now() + self.within, closing: None });
    }

    fn lost(&mut self, partitions: &[u32]) {
        let mut state = self.shared.state();
        state.lose(partitions);
        state.forget(partitions);
        drop(state);
        self.shared.arrived.notify_one();
        self.unassign(partitions);
    }

    /// Goes on with giving partitions back: waits for the consumer, then for the last commit.
    fn revoke(&mut self) {
        let Some(revocation) = &mut self.revoking else { return };
        if self.consumer.assignment_lost() {
            let Some(Revocation { partitions, .. }) = self.revoking.take() else { return };
            return self.lost(&partitions);
        }
        if revocation.closing.is_none() {
            let mut state = self.shared.state();
            if state.awaits(&revocation.partitions) {
                if Instant::now() < revocation.deadline {
                    return;
                }
                state.lose(&revocation.partitions);
                self.shared.arrived.notify_one();
            }
            revocation.closing = Some(Instant::now() + LAST_COMMIT);
        }
        if self.commit.is_none() && revocation.closing.is_some_and(|until| Instant::now() < until) {
            let positions = self.shared.state().closing(&revocation.partitions);
            self.send(positions, true);
        } else if self.commit.is_none() {
            self.hand_over();
        }
    }

    fn hand_over(&mut self) {
        let Some(Revocation { partitions, .. }) = self.revoking.take() else { return };
        self.shared.state().forget(&partitions);
        self.unassign(&partitions);
    }

    fn unassign(&self, partitions: &[u32]) {
        let done = self.list(partitions).and_then(|list| self.consumer.incremental_unassign(&list));
        if let Err(error) = done {
            tracing::warn!(target: TARGET, %error, "giving partitions up");
        }
    }

    /// Hears what became of the last commit, and sends the next.
    fn commit(&mut self) {
        self.hear();
        let hurry = self.shared.hurry.load(Ordering::Relaxed);
        let now = Instant::now();
        let closing = self.revoking.as_ref().is_some_and(|revocation| revocation.closing.is_some());
        if self.commit.is_some() || closing || (now < self.commit_next && !hurry) {
            return;
        }
        self.commit_next = now + COMMIT_EVERY;
        self.shared.hurry.store(false, Ordering::Relaxed);
        let mut state = self.shared.state();
        let positions = state.changes();
        if positions.is_empty() {
            state.committed = state.settled;
            return;
        }
        drop(state);
        self.send(positions, false);
    }

    fn send(&mut self, positions: Vec<(usize, u32, Position)>, last: bool) {
        let settled = self.shared.state().settled;
        let mut list = TopicPartitionList::with_capacity(positions.len());
        for (topic, partition, position) in &positions {
            let mut element = list.add_partition(self.topics[*topic].as_str(), number(*partition));
            element.set_metadata(position.encode());
            if let Err(error) = element.set_offset(Offset::Offset(position.offset)) {
                tracing::warn!(target: TARGET, %error, "an offset cannot be committed");
            }
        }
        self.commit = Some(Commit { settled, positions, last });
        self.committer.send(list);
    }

    /// Hears what became of the commit, if it has come to an end.
    fn hear(&mut self) {
        let Some(result) = self.commit.as_ref().and_then(|_| self.committer.answer()) else { return };
        let Some(commit) = self.commit.take() else { return };
        let mut state = self.shared.state();
        match result {
            Ok(()) => {
                state.committed = state.committed.max(commit.settled);
                for (topic, partition, position) in &commit.positions {
                    self.janitor.committed(*topic, *partition, position.offset);
                }
                if !commit.last {
                    let partitions: Vec<u32> = commit.positions.iter().map(|(_, partition, _)| *partition).collect();
                    state.opened(&partitions);
                    self.shared.arrived.notify_one();
                }
                drop(state);
                if commit.last {
                    self.hand_over();
                }
            }
            Err(error) => {
                tracing::debug!(target: TARGET, %error, "a commit is tried again");
                state.undo(&commit.positions);
                self.failures += 1;
                self.commit_next = Instant::now() + AGAIN;
            }
        }
    }

    /// These partitions of all topics.
    fn list(&self, partitions: &[u32]) -> KafkaResult<TopicPartitionList> {
        let mut list = TopicPartitionList::with_capacity(partitions.len() * self.topics.len());
        for topic in &self.topics {
            for partition in partitions {
                list.add_partition(topic.as_str(), number(*partition));
            }
        }
        Ok(list)
    }

    /// Commits what is settled, and leaves the group at once.
    fn leave(mut self) {
        let all = self.shared.state().owned();
        self.commit_all(&all);
        self.consumer.context().close();
        if let Some(partitions) = self.assigning.take() {
            self.unanswered(&partitions);
        }
        while let Some(change) = self.consumer.context().change() {
            match change {
                Change::Assign(partitions) => self.unanswered(&partitions),
                Change::Revoke { partitions, .. } => self.unassign(&partitions),
            }
        }
        if let Some(Revocation { partitions, .. }) = self.revoking.take() {
            self.unassign(&partitions);
        }
        self.unassign_followers();
        self.shared.state().forget(&all);
        self.shared.left.store(true, Ordering::Relaxed);
        let Self { consumer, committer, shared, .. } = self;
        committer.end();
        // Leaves the group. Waits for librdkafka's threads.
        drop(consumer);
        shared.gone.store(true, Ordering::Relaxed);
        shared.progress.send_replace(());
    }

    /// Commits for the last time. The group is not answered before, so that nobody else begins meanwhile.
    fn commit_all(&mut self, all: &[u32]) {
        let until = Instant::now() + LAST_COMMIT;
        // The failures before the commit that says everything; none before it was sent.
        let mut last = None;
        while Instant::now() < until && !all.is_empty() {
            if self.consumer.assignment_lost() {
                // Then there is nothing to commit: it comes again, to others.
                let mut state = self.shared.state();
                state.forget(all);
                state.committed = state.settled;
                return;
            }
            if self.commit.is_none() {
                if last == Some(self.failures) {
                    return;
                }
                last = Some(self.failures);
                let positions = self.shared.state().closing(all);
                self.send(positions, false);
            }
            // What still comes is not ours any more.
            drop(self.consumer.poll(TICK / 10));
            self.hear();
        }
    }

    /// Gives up the topics that the group does not know of. No list of librdkafka's may outlive this: the consumer could
    /// not be dropped.
    fn unassign_followers(&self) {
        let rest = self.consumer.assignment().unwrap_or_default();
        let mut followers = TopicPartitionList::new();
        for element in rest.elements().iter().filter(|element| element.topic() != self.topics[0].as_str()) {
            followers.add_partition(element.topic(), element.partition());
        }
        if followers.count() > 0
            && let Err(error) = self.consumer.incremental_unassign(&followers)
        {
            tracing::debug!(target: TARGET, %error, "leaving the group");
        }
    }

    fn unanswered(&self, partitions: &[u32]) {
        let done = self.list(partitions).and_then(|list| self.consumer.incremental_assign(&list));
        if let Err(error) = done {
            tracing::debug!(target: TARGET, %error, "leaving the group");
        }
    }
}

fn number(partition: u32) -> i32 {
    i32::try_from(partition).unwrap_or(i32::MAX)
}

/// Where a partition is to be taken up.
fn read_place(
    committed: &TopicPartitionList,
    ends: &TopicPartitionList,
    topic: &str,
    partition: i32,
) -> KafkaResult<Log> {
    let missing = || KafkaError::OffsetFetch(RDKafkaErrorCode::NoOffset);
    let place = committed.find_partition(topic, partition).ok_or_else(missing)?;
    place.error()?;
    let end = ends.find_partition(topic, partition).ok_or_else(missing)?;
    end.error()?;
    let Offset::Offset(end) = end.offset() else { return Err(missing()) };
    let position = match place.offset() {
        Offset::Offset(offset) if offset <= end => Position::decode(offset, place.metadata()),
        // It has no place, or one beyond the end: somebody made the topic anew. Everything that is there is promised.
        _ => Position::decode(0, ""),
    };
    Ok(Log::new(position, end))
}
