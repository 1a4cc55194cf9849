use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use partitura_adapter_kit::Backoff;
use partitura_broker::telemetry::{self, TARGET};
use partitura_broker::{Error, ErrorKind};
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

/// The longest pause between two rounds, and the same after a second without a settlement. Requests of the group, of
/// the consumer's owner, and outcomes of commits end it.
pub(super) const TICK: Duration = Duration::from_millis(10);
const TICK_AT_REST: Duration = Duration::from_millis(50);
const AT_REST: Duration = Duration::from_secs(1);
/// The largest number of events that are taken up in a round.
const EVENTS: usize = 16;
/// The interval of commits, and of comparing births of topics.
const COMMIT_EVERY: Duration = Duration::from_millis(150);
/// The pause before a failed commit is tried again.
const COMMIT_BACKOFF: Backoff = Backoff { first: Duration::from_millis(50), longest: Duration::from_secs(2) };
/// The longest time that the last commit of a partition may take.
pub(super) const LAST_COMMIT_TIMEOUT: Duration = Duration::from_secs(10);

/// Drives one librdkafka consumer: answers the group and commits. Messages take another way: each partition has its
/// [source](super::source::Source).
pub(super) struct Worker {
    pub(super) consumer: Arc<BaseConsumer<Callbacks>>,
    pub(super) committer: Committer,
    pub(super) membership: Arc<Membership>,
    pub(super) topics: SubscribedTopics,
    cleanup: Cleanup,
    within: Duration,
    pending: PendingPartitions,
    pub(super) revoking: Option<Revocation>,
    commit_next: Instant,
    /// The time of the last commit.
    committed: Instant,
    renew_next: Instant,
    next_round: Instant,
    /// The number of failed commits, and of those since the last successful one.
    pub(super) failures: u64,
    failures_in_a_row: u32,
}

/// Partitions that are given back.
pub(super) struct Revocation {
    pub(super) partitions: Vec<u32>,
    deadline: Instant,
    /// The time until which the last commit is tried, once the consumer has given the partitions back.
    closing: Option<Instant>,
    /// Whether this consumer takes them over again, because the group did not ask for them.
    again: bool,
}

impl Worker {
    pub(super) fn new(
        mut consumer: BaseConsumer<Callbacks>,
        membership: Arc<Membership>,
        topics: SubscribedTopics,
        cleanup: Cleanup,
        within: Duration,
    ) -> Self {
        let woken = Arc::downgrade(&membership);
        consumer.set_nonempty_callback(move || woken.upgrade().into_iter().for_each(|membership| membership.wake()));
        let consumer = Arc::new(consumer);
        let committer = Committer::new(consumer.clone(), topics.runtime.clone(), membership.clone());
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
            next_round: Instant::now(),
            failures: 0,
            failures_in_a_row: 0,
        }
    }

    /// Begins to join the group.
    pub(super) fn join(&self) {
        if let Err(source) = self.consumer.subscribe(&[self.topics.names[0].as_str()]) {
            self.end(error::error("subscribe", source));
        }
    }

    /// Whether there is something to do.
    pub(super) fn is_due(&self) -> bool {
        self.membership.woken.swap(false, Ordering::AcqRel) || self.is_stopped() || Instant::now() >= self.next_round
    }

    pub(super) fn next_round(&self) -> Instant {
        self.next_round
    }

    /// Whether it is to leave the group.
    pub(super) fn is_stopped(&self) -> bool {
        self.membership.stop.load(Ordering::Relaxed)
    }

    /// Takes up events, and works if that takes no time. Returns whether it did.
    pub(super) fn poll_and_work(&mut self) -> bool {
        self.poll();
        let asked = self.revoking.is_none() && (self.consumer.context().has_change() || self.pending.are_due());
        let stays = !asked && !self.is_stopped();
        if stays {
            self.work();
        }
        stays
    }

    /// A round of work.
    pub(super) fn work(&mut self) {
        self.take_up_changes();
        self.revoke();
        self.commit();
        self.renew();
        self.cleanup.clean();
        self.membership.rounds.send_replace(());
        let at_rest = self.revoking.is_none() && self.committed.elapsed() > AT_REST && !self.committer.is_busy();
        self.next_round = Instant::now() + if at_rest { TICK_AT_REST } else { TICK };
    }

    /// Ends the consumer after a panic.
    pub(super) fn panicked(&self) {
        self.end(Error::new(ErrorKind::Disconnected, "consume", "the consumer panicked; see the log"));
    }

    /// Takes up requests of the group, which come as callbacks, and failures, which come as results.
    fn poll(&self) {
        for _ in 0..EVENTS {
            match self.consumer.poll(Duration::ZERO) {
                Some(Ok(record)) => {
                    // Skipping the message would lose it.
                    let place = format!("{}/{}/{}", record.topic(), record.partition(), record.offset());
                    let text = format!("the message {place} did not come by its partition's queue");
                    self.end(Error::new(ErrorKind::Disconnected, "consume", text));
                }
                Some(Err(error)) => self.failed(error),
                None => {}
            }
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
        self.membership.stop();
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

    pub(super) fn unassign(&self, partitions: &[u32]) {
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

    pub(super) fn send(&mut self, positions: Vec<PartitionPosition>, last: bool) {
        let settled = self.membership.state().settled;
        self.committed = Instant::now();
        self.committer.send(&self.topics.names, Commit { settled, positions, last });
    }

    /// Takes note of the outcome of the commit, once there is one.
    pub(super) fn take_outcome(&mut self) {
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
}
