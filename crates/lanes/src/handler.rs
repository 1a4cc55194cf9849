use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use partitura_broker::{Delivery, Partition};

use crate::Batch;

/// Handles messages.
///
/// A handler is called from many tasks at once, but for each key from one at a time, in order. It may be called twice
/// with the same message (a crash came between the work and its settlement), so its effects should be idempotent, by
/// the [id](partitura_broker::Message::id) of the message for example.
///
/// A panic counts as [`Outcome::Retry`] with the reason "panicked: …". The future is never dropped half-way, except
/// when a shutdown takes longer than [`LaneOptions::drain_within`](crate::LaneOptions::drain_within).
pub trait Handler: Send + Sync + 'static {
    /// Handles up to [`LaneOptions::batch`](crate::LaneOptions::batch) messages of one key, oldest first; one by
    /// default.
    fn handle(&self, batch: Batch) -> impl Future<Output = Outcome> + Send;

    /// The process was lost too often while this message ran: it is not run again. See
    /// [`LaneOptions::crashes`](crate::LaneOptions::crashes). By default it becomes a dead letter with that reason.
    fn give_up(&self, batch: Batch, reason: String) -> impl Future<Output = Outcome> + Send {
        let _ = batch;
        async { Outcome::dead(reason) }
    }

    /// This message has been received; it is handled when its turn comes. Must return at once.
    fn received(&self, delivery: &Delivery) {
        let _ = delivery;
    }

    /// These partitions are owned from now on. Called before any of their messages is handled.
    fn assigned(&self, partitions: &[Partition]) {
        let _ = partitions;
    }

    /// These partitions are about to be given up in good order: nothing of them runs any more, and no successor has
    /// begun. The last chance to finish postponed work. It is dropped after
    /// [`LaneOptions::revoke_within`](crate::LaneOptions::revoke_within). [`released`](Self::released) follows.
    fn releasing(&self, partitions: &[Partition]) -> impl Future<Output = ()> + Send {
        let _ = partitions;
        async {}
    }

    /// These partitions are no longer ours: all that was kept in memory for their keys is out of date from now on.
    ///
    /// Called before a successor may start where the broker lets us choose, otherwise as soon as we know.
    fn released(&self, partitions: &[Partition]) {
        let _ = partitions;
    }

    /// This message came before it was due by [our clock](crate::LaneOptions::clock), and is held back until then. It
    /// is a sign that clocks differ; there is nothing else to do.
    fn early(&self, delivery: &Delivery) {
        let _ = delivery;
    }
}

impl<H: Handler> Handler for Arc<H> {
    fn handle(&self, batch: Batch) -> impl Future<Output = Outcome> + Send {
        (**self).handle(batch)
    }

    fn give_up(&self, batch: Batch, reason: String) -> impl Future<Output = Outcome> + Send {
        (**self).give_up(batch, reason)
    }

    fn received(&self, delivery: &Delivery) {
        (**self).received(delivery);
    }

    fn assigned(&self, partitions: &[Partition]) {
        (**self).assigned(partitions);
    }

    fn releasing(&self, partitions: &[Partition]) -> impl Future<Output = ()> + Send {
        (**self).releasing(partitions)
    }

    fn released(&self, partitions: &[Partition]) {
        (**self).released(partitions);
    }

    fn early(&self, delivery: &Delivery) {
        (**self).early(delivery);
    }
}

/// The outcome of a batch.
///
/// Of a batch of several messages, any outcome but [`Done`](Self::Done) and [`Settled`](Self::Settled) says nothing
/// about a single one of them: they come again one by one, so that the one to blame is found. That run does not count
/// as an attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Outcome {
    /// It is done: settle all of the batch.
    Done,
    /// It is done, and the handler has settled it already, by a [transaction](partitura_broker::Transactions) that
    /// named the tokens.
    Settled,
    /// Not yet: the message stays at the head of its lane, unsettled. Its key waits, the others flow.
    Retry {
        /// Why, for the log and for the dead letter, should it come to that.
        reason: String,
        /// How long to wait, in place of what the [policy](crate::Retry) says. The limit of attempts holds
        /// nevertheless.
        after: Option<Duration>,
    },
    /// Never: publish it as a dead letter, and settle it when that is confirmed.
    Dead {
        /// Why, in a few words.
        reason: String,
        /// The error, where there is one.
        error: Option<String>,
    },
    /// Another consumer owns it by now: forget it, settle nothing.
    Lost,
}

impl Outcome {
    /// Try again as the policy says.
    pub fn retry(reason: impl Into<String>) -> Self {
        Self::Retry { reason: reason.into(), after: None }
    }

    /// Try again after a time that the handler chooses.
    pub fn retry_after(after: Duration, reason: impl Into<String>) -> Self {
        Self::Retry { reason: reason.into(), after: Some(after) }
    }

    /// Give up on it.
    pub fn dead(reason: impl Into<String>) -> Self {
        Self::Dead { reason: reason.into(), error: None }
    }
}
