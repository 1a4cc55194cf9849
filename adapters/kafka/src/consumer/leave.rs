//! The end of a consumer's membership.

use std::sync::atomic::Ordering;
use std::time::Instant;

use partitura_broker::telemetry::TARGET;
use rdkafka::TopicPartitionList;
use rdkafka::consumer::Consumer;

use super::worker::{LAST_COMMIT_TIMEOUT, Revocation, TICK, Worker};
use crate::callbacks::Change;

impl Worker {
    /// Commits all settlements, and leaves the group at once.
    pub(super) fn leave(mut self) {
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
