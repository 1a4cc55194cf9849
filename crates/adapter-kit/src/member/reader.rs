use std::sync::Arc;

use futures::FutureExt;
use futures::future::{BoxFuture, OptionFuture};
use partitura_broker::{CorrectedClock, Error, ErrorKind, Partition, Result, Timestamp};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep, sleep_until};

use super::messages::{ReaderTask, Report};
use super::pool::Pool;
use super::waiting::Waiting;
use crate::Claim;

/// The phase of a lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// Messages are given out.
    Reading,
    /// Nothing new is given out; the lease waits until the deliveries are settled.
    Draining,
    /// Settlements are sent, and the partition is given up.
    Releasing,
}

/// A question to the broker for the first message that has not come: the moment at which it was asked, and the answer.
type Question = BoxFuture<'static, (Timestamp, Result<Option<Timestamp>>)>;

/// Reads one topic of one partition, as far as the credit goes, and settles.
#[derive(Debug)]
pub(super) struct Reader<C: Claim> {
    pub(super) claim: C,
    /// The topic's place among those of the subscription.
    pub(super) topic: usize,
    pub(super) partition: Partition,
    pub(super) epoch: u32,
    pub(super) pool: Arc<Pool>,
    /// This channel has no bound of its own. The credit bounds it, since only deliveries are settled.
    pub(super) tasks: mpsc::UnboundedReceiver<ReaderTask<C::Handle>>,
    /// Bounded by the credit, too.
    pub(super) reports: mpsc::UnboundedSender<Report<C::Handle>>,
    pub(super) phase: watch::Receiver<Phase>,
    /// The clock by which messages that come too early are held back.
    pub(super) clock: Option<CorrectedClock>,
}

impl<C: Claim> Reader<C> {
    /// Works until the partition is released, or lost: then it ends with the error.
    pub(super) async fn run(mut self) -> Result<()> {
        // Messages that were read ahead and have no credit yet: the result of one call of `next`, and those not yet
        // due.
        let mut waiting = Waiting::new(self.clock.take());
        let mut question: Option<Question> = None;
        loop {
            waiting.release();
            match *self.phase.borrow_and_update() {
                Phase::Reading => {}
                Phase::Draining => {
                    waiting.clear();
                    question = None;
                }
                Phase::Releasing => break,
            }
            let reading = *self.phase.borrow() == Phase::Reading;
            let next_size = waiting.ready.front().map(|claimed| claimed.message.size());
            let held = waiting.wait();
            let deadline = self.claim.deadline();
            tokio::select! {
                biased;
                Some(task) = self.tasks.recv() => self.perform(task).await?,
                changed = self.phase.changed() => if changed.is_err() { break },
                () = sleep_until(deadline.unwrap_or_else(Instant::now)), if deadline.is_some() => return Err(held_too_long()),
                () = self.pool.take(next_size.unwrap_or(0)), if next_size.is_some() => {
                    self.give_out(&mut waiting);
                }
                batch = self.claim.next(), if reading && next_size.is_none() => {
                    for claimed in batch? {
                        let stored = self.claim.stored(&claimed.handle);
                        waiting.add(claimed, stored);
                    }
                    waiting.release();
                    if waiting.ready.front().is_some_and(|first| self.pool.try_take(first.message.size())) {
                        self.give_out(&mut waiting);
                    }
                }
                Some((asked, answer)) = OptionFuture::from(question.as_mut()), if question.is_some() => {
                    question = None;
                    match answer {
                        Ok(first_missing) => waiting.answered(asked, first_missing),
                        // If the connection is lost, `next` ends with an error, too.
                        Err(error) if error.is_retryable() => waiting.ask_later(),
                        Err(error) => return Err(error),
                    }
                }
                () = sleep(held.unwrap_or_default()), if next_size.is_none() && question.is_none() && held.is_some() => {
                    question = waiting.question().map(|asked| {
                        let first_missing = self.claim.first_missing(waiting.held_back());
                        first_missing.map(move |answer| (asked, answer)).boxed()
                    });
                }
            }
        }
        while let Ok(task) = self.tasks.try_recv() {
            self.perform(task).await?;
        }
        self.claim.release().await
    }

    /// Gives out the first message, which has credit, and the next ones as far as the credit goes.
    fn give_out(&mut self, waiting: &mut Waiting<C::Handle>) {
        let rest = waiting.ready.iter().skip(1);
        let paid = 1 + rest.take_while(|claimed| self.pool.try_take(claimed.message.size())).count();
        let messages = waiting.ready.drain(..paid).collect();
        // Without a receiver the lease will soon end.
        let Self { topic, partition, epoch, .. } = *self;
        let _ = self.reports.send(Report::Deliveries { topic, partition, epoch, messages });
    }

    async fn perform(&mut self, task: ReaderTask<C::Handle>) -> Result<()> {
        match task {
            ReaderTask::Settle(handles) => {
                self.claim.settle(handles);
                Ok(())
            }
            ReaderTask::Flush(reply) => {
                let flushed = self.claim.flush().await;
                // An error goes to the waiting caller and to the lease, which is lost with it.
                let answer = flushed.as_ref().copied().map_err(Error::duplicate);
                let _ = reply.send(answer);
                flushed
            }
        }
    }
}

/// The error that ends a claim at its deadline. Otherwise the broker would take the partition away, at a moment that is
/// not known here.
fn held_too_long() -> Error {
    let message = "a message was held for nearly as long as the broker allows; the partition is given up and claimed \
                   again, and its unsettled messages come again";
    Error::new(ErrorKind::Timeout, "consume", message)
}
