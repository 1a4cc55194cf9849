use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use partitura_adapter_kit::Backoff;
use partitura_broker::telemetry::{self, TARGET};
use partitura_broker::{Error, ErrorKind};
use rdkafka::TopicPartitionList;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::Message as _;

use super::cleanup::Cleanup;
use super::committer::{Commit, Committer, Outcome};
use super::membership::Membership;
use super::progress::PartitionPosition;
use super::takeover::{PendingPartitions, SubscribedTopics};
use crate::callbacks::{Callbacks, Change, only_assigned};
use crate::core::SYSTEM;
use crate::error;

/// The longest wait for an event, and the same after a second without a settlement. Rebalances wake the thread at
/// once; flushing and releasing wait for it.
const TICK: Duration = Duration::from_millis(10);
const TICK_AT_REST: Duration = Duration::from_millis(50);
const AT_REST: Duration = Duration::from_secs(1);
/// The interval of commits, and of comparing births of topics.
const COMMIT_EVERY: Duration = Duration::from_millis(150);
/// The pause before a failed commit is tried again.
const COMMIT_BACKOFF: Backoff = Backoff { first: Duration::from_millis(50), longest: Duration::from_secs(2) };
/// The longest time that the last commit of a partition may take.
const LAST_COMMIT_TIMEOUT: Duration = Duration::from_secs(10);

/// Drives one librdkafka consumer on a thread of its own: answers the group and commits. Messages take another way:
/// each partition has its [source](super::source::Source).
pub(super) struct Worker {
    consumer: Arc<BaseConsumer<Callbacks>>,
    committer: Committer,
    membership: Arc<Membership>,
    topics: SubscribedTopics,
    cleanup: Cleanup,
    within: Duration,
    pending: PendingPartitions,
    revoking: Option<Revocation>,
    commit_next: Instant,
    /// The time of the last commit.
    committed: Instant,
    renew_next: Instant,
    /// The number of failed commits, and of those since the last successful one.
    failures: u64,
    failures_in_a_row: u32,
}

/// Partitions that are given back.
struct Revocation {
    partitions: Vec<u32>,
    deadline: Instant,
    /// The time until which the last commit is tried, once the consumer has given the partitions back.
    closing: Option<Instant>,
    /// Whether this consumer takes them over again, because the group did not ask for them.
    again: bool,
}

impl Worker {
    pub(super) fn new(
        consumer: BaseConsumer<Callbacks>,
        membership: Arc<Membership>,
        topics: SubscribedTopics,
        cleanup: Cleanup,
        within: Duration,
    ) -> Self {
        let consumer = Arc::new(consumer);
        let committer = Committer::new(consumer.clone(), topics.runtime.clone());
        Self {
            consumer,
            committer,
            membership,
            topics,
            cleanup,
            within,
            pending: PendingPartitions::new(),
            revoking: None,
            commit_next: Instant::now(),
            committed: Instant::now(),
            renew_next: Instant::now(),
            failures: 0,
            failures_in_a_row: 0,
        }
    }

    /// Works until it is stopped, and then leaves the group.
    pub(super) fn run(mut self) {
        if let Err(source) = self.consumer.subscribe(&[self.topics.names[0].as_str()]) {
            self.end(error::error("subscribe", source));
        }
        while !self.membership.stop.load(Ordering::Relaxed) {
            self.poll();
            self.take_up_changes();
            self.revoke();
            self.commit();
            self.renew();
            self.cleanup.clean();
            self.membership.rounds.send_replace(());
        }
        self.leave();
    }

    /// Polls: requests of the group come as callbacks, failures as results.
    fn poll(&self) {
        let at_rest = self.revoking.is_none() && self.committed.elapsed() > AT_REST;
        let wait = match self.committer.is_busy() {
            true => TICK / 10,
            false if at_rest => TICK_AT_REST,
            false => TICK,
        };
        match self.consumer.poll(wait) {
            Some(Ok(record)) => {
                // Skipping the message would lose it.
                let place = format!("{}/{}/{}", record.topic(), record.partition(), record.offset());
                let text = format!("the message {place} did not come by its partition's queue");
                self.end(Error::new(ErrorKind::Disconnected, "consume", text));
            }
            Some(Err(error)) => self.failed(error),
            None => {}
        }
        let failures = self.membership.state().failures();
        failures.into_iter().for_each(|error| self.failed(error));
    }

    /// Logs a failure. librdkafka recovers by itself from most of them; the others end the consumer.
    fn failed(&self, error: KafkaError) {
        let fatal = matches!(error, KafkaError::MessageConsumptionFatal(_));
        let kind = error.rdkafka_error_code().map_or(ErrorKind::Disconnected, error::kind);
        let error = error::error("consume", error);
        if fatal || kind == ErrorKind::Unauthorized {
            self.end(error);
        } else {
            telemetry::reconnecting(SYSTEM, &error, 1);
        }
    }

    /// Takes all partitions from the consumer, which returns this error from now on.
    fn end(&self, error: Error) {
        let mut state = self.membership.state();
        let all = state.owned();
        state.lose(&all);
        state.end.get_or_insert(error);
        drop(state);
        self.membership.arrived.notify_one();
        self.membership.stop.store(true, Ordering::Relaxed);
    }

    fn take_up_changes(&mut self) {
        while self.revoking.is_none() {
            match self.consumer.context().change() {
                Some(Change::Assign(partitions)) => {
                    self.pending.add(partitions);
                    self.take_over(true);
                }
                Some(Change::Revoke { partitions, lost: true }) => self.lost(&partitions),
                Some(Change::Revoke { partitions, lost: false }) => self.give_back(partitions, false),
                None => break,
            }
        }
        if self.revoking.is_none() && self.pending.are_due() {
            self.take_over(false);
        }
    }

    fn take_over(&mut self, answer: bool) {
        self.pending.take_over(&self.consumer, &self.topics, &self.membership, answer);
        // The next commit tells the brokers at once that an owner is at work.
        self.commit_next = Instant::now();
    }

    fn give_back(&mut self, partitions: Vec<u32>, again: bool) {
        self.pending.forget(&partitions);
        self.membership.state().revoke(&partitions, self.within);
        self.membership.arrived.notify_one();
        let deadline = Instant::now() + self.within;
        self.revoking = Some(Revocation { partitions, deadline, closing: None, again });
    }

    /// Gives back the partitions of a topic that was created again, and takes them over again.
    fn renew(&mut self) {
        if self.revoking.is_some() || Instant::now() < self.renew_next {
            return;
        }
        self.renew_next = Instant::now() + COMMIT_EVERY;
        let outdated = self.membership.state().outdated(&self.topics.births());
        for (partition, rewound) in &outdated {
            for (topic, _) in rewound.iter().enumerate().filter(|(_, rewound)| **rewound) {
                let topic_name = &self.topics.names[topic];
                tracing::warn!(target: TARGET, topic = %topic_name, partition, "restarting after offsets went back");
                self.pending.distrust(*partition, topic);
                self.topics.suspect();
            }
        }
        if !outdated.is_empty() {
            self.give_back(outdated.into_keys().collect(), true);
        }
    }

    fn lost(&mut self, partitions: &[u32]) {
        let mut state = self.membership.state();
        state.lose(partitions);
        state.forget(partitions);
        drop(state);
        self.pending.forget(partitions);
        self.membership.arrived.notify_one();
        self.unassign(partitions);
    }

    /// Continues to give partitions back: waits for the consumer, then for the last commit.
    fn revoke(&mut self) {
        let Some(revocation) = &mut self.revoking else { return };
        if self.consumer.assignment_lost() {
            let Some(Revocation { partitions, .. }) = self.revoking.take() else { return };
            return self.lost(&partitions);
        }
        if revocation.closing.is_none() {
            let mut state = self.membership.state();
            if state.awaits(&revocation.partitions) {
                if Instant::now() < revocation.deadline {
                    return;
                }
                state.lose(&revocation.partitions);
                self.membership.arrived.notify_one();
            }
            revocation.closing = Some(Instant::now() + LAST_COMMIT_TIMEOUT);
        }
        if !self.committer.is_busy() && revocation.closing.is_some_and(|until| Instant::now() < until) {
            let positions = self.membership.state().closing(&revocation.partitions);
            self.send(positions, true);
        } else if !self.committer.is_busy() {
            self.hand_over();
        }
    }

    fn hand_over(&mut self) {
        let Some(Revocation { partitions, again, .. }) = self.revoking.take() else { return };
        self.membership.state().forget(&partitions);
        self.unassign(&partitions);
        if again {
            self.pending.add(partitions);
        }
    }

    fn unassign(&self, partitions: &[u32]) {
        let list = only_assigned(&self.consumer, &self.topics.list(partitions.iter().copied()));
        if let Err(error) = self.consumer.incremental_unassign(&list) {
            tracing::warn!(target: TARGET, %error, "unassigning partitions");
        }
    }

    /// Takes note of the outcome of the last commit, and sends the next one.
    fn commit(&mut self) {
        self.take_outcome();
        let hurry = self.membership.hurry.load(Ordering::Relaxed);
        let now = Instant::now();
        let closing = self.revoking.as_ref().is_some_and(|revocation| revocation.closing.is_some());
        if self.committer.is_busy() || closing || (now < self.commit_next && !hurry) {
            return;
        }
        self.commit_next = now + COMMIT_EVERY;
        self.membership.hurry.store(false, Ordering::Relaxed);
        let mut state = self.membership.state();
        let positions = state.changes();
        if positions.is_empty() {
            state.committed = state.settled;
            return;
        }
        drop(state);
        self.send(positions, false);
    }

    fn send(&mut self, positions: Vec<PartitionPosition>, last: bool) {
        let settled = self.membership.state().settled;
        self.committed = Instant::now();
        self.committer.send(&self.topics.names, Commit { settled, positions, last });
    }

    /// Takes note of the outcome of the commit, once there is one.
    fn take_outcome(&mut self) {
        let Some(Outcome { commit, result }) = self.committer.outcome() else { return };
        let mut state = self.membership.state();
        match result {
            Ok(()) => {
                self.failures_in_a_row = 0;
                state.committed = state.committed.max(commit.settled);
                for committed in &commit.positions {
                    self.cleanup.committed(committed);
                }
                if !commit.last {
                    let partitions: Vec<u32> = commit.positions.iter().map(|committed| committed.partition).collect();
                    state.opened(&partitions);
                    self.membership.arrived.notify_one();
                }
                drop(state);
                if commit.last {
                    self.hand_over();
                }
            }
            Err(error) => {
                tracing::debug!(target: TARGET, %error, "retrying a commit");
                state.undo(&commit.positions);
                self.failures += 1;
                self.failures_in_a_row += 1;
                self.commit_next = Instant::now() + COMMIT_BACKOFF.delay(self.failures_in_a_row, u64::MAX);
            }
        }
    }

    /// Commits all settlements, and leaves the group at once.
    fn leave(mut self) {
        let all = self.membership.state().owned();
        self.commit_all(&all);
        self.consumer.context().close();
        while let Some(change) = self.consumer.context().change() {
            match change {
                Change::Assign(_) => self.assign_nothing(),
                Change::Revoke { partitions, .. } => self.unassign(&partitions),
            }
        }
        if let Some(Revocation { partitions, .. }) = self.revoking.take() {
            self.unassign(&partitions);
        }
        self.unassign_followers();
        self.membership.state().forget(&all);
        self.membership.left.store(true, Ordering::Relaxed);
        let Self { consumer, committer, membership, .. } = self;
        committer.end();
        // This leaves the group, and waits for the threads of librdkafka.
        drop(consumer);
        membership.gone.store(true, Ordering::Relaxed);
        membership.rounds.send_replace(());
    }

    /// Commits for the last time. The group gets its answer later, so that no other member begins before.
    fn commit_all(&mut self, all: &[u32]) {
        let until = Instant::now() + LAST_COMMIT_TIMEOUT;
        // The number of failures when the last commit was sent; `None` before.
        let mut last = None;
        while Instant::now() < until && !all.is_empty() {
            if self.consumer.assignment_lost() {
                // Then no commit is possible: the messages are delivered again, to other members.
                let mut state = self.membership.state();
                state.forget(all);
                state.committed = state.settled;
                return;
            }
            if !self.committer.is_busy() {
                if last == Some(self.failures) {
                    return;
                }
                last = Some(self.failures);
                let positions = self.membership.state().closing(all);
                self.send(positions, false);
            }
            // Further results belong to other members.
            drop(self.consumer.poll(TICK / 10));
            self.take_outcome();
        }
    }

    /// Unassigns the topics of which the group does not know. No list of librdkafka may outlive this call, since
    /// the consumer could not be dropped.
    fn unassign_followers(&self) {
        let rest = self.consumer.assignment().unwrap_or_default();
        let mut followers = TopicPartitionList::new();
        for element in rest.elements().iter().filter(|element| element.topic() != self.topics.names[0].as_str()) {
            followers.add_partition(element.topic(), element.partition());
        }
        if followers.count() > 0
            && let Err(error) = self.consumer.incremental_unassign(&followers)
        {
            tracing::debug!(target: TARGET, %error, "leaving the group");
        }
    }

    /// Answers an assignment without taking its partitions.
    fn assign_nothing(&self) {
        if let Err(error) = self.consumer.incremental_assign(&TopicPartitionList::new()) {
            tracing::debug!(target: TARGET, %error, "leaving the group");
        }
    }
}
