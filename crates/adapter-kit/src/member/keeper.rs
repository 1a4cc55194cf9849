use std::collections::HashMap;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use partitura_broker::{Error, ErrorKind, Partition, Result};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout};

use super::News;
use super::roster::{BEAT, Roster, Word, decode, encode};
use super::tenure::{self, End, Office, Order};
use crate::{Backoff, Claims, rendezvous};

/// The time for which a new member listens before it claims anything, so that it asks for no more than its share.
const LISTEN: Duration = Duration::from_millis(150);
/// The wait before listening again after a failure.
const DEAF: Backoff = Backoff { first: Duration::from_millis(50), longest: Duration::from_secs(2) };
/// The number of beats that may wait to be sent.
const WORDS: usize = 8;
/// The number of received beats that may wait. A beat that is dropped for lack of room comes again.
const BEATS: usize = 1_024;

/// The requests of the consumer to its keeper.
#[derive(Debug)]
pub(super) enum Ask {
    Release(Partition, oneshot::Sender<Result<()>>),
    Close(oneshot::Sender<Result<()>>),
}

/// Decides which partitions this member holds, and claims or releases them.
#[derive(Debug)]
pub(super) struct Keeper<C: Claims> {
    office: Arc<Office<C>>,
    roster: Roster,
    me: u64,
    /// The channels to the running tenures, and whether each was told to end.
    orders: HashMap<Partition, (mpsc::UnboundedSender<Order>, bool)>,
    tenures: JoinSet<(Partition, End)>,
}

impl<C: Claims> Keeper<C> {
    pub(super) fn new(office: Arc<Office<C>>, me: u64) -> Self {
        Self { office, roster: Roster::new(me), me, orders: HashMap::new(), tenures: JoinSet::new() }
    }

    /// Serves subscriptions without owners: holds partition 0, which does not exclude other members.
    pub(super) async fn hold_all(mut self, mut asks: mpsc::UnboundedReceiver<Ask>) {
        self.begin(Partition(0));
        loop {
            tokio::select! {
                Some(ended) = self.tenures.join_next() => {
                    if let Some(error) = self.ended(ended) {
                        return self.fail(error);
                    }
                }
                ask = asks.recv() => match ask {
                    Some(Ask::Release(partition, reply)) => self.release(partition, reply),
                    Some(Ask::Close(reply)) => return drop(reply.send(self.end_all().await)),
                    None => return,
                },
            }
        }
    }

    /// Holds this member's share of the partitions, while members join and leave.
    pub(super) async fn hold_share(mut self, mut asks: mpsc::UnboundedReceiver<Ask>) {
        let (heard, mut beats) = mpsc::channel(BEATS);
        // This task is in a set, so that it ends with the keeper. The speaker ends when its channel is closed.
        let mut listening = JoinSet::new();
        listening.spawn(listen(self.office.clone(), heard.clone()));
        let (say, words) = mpsc::channel(WORDS);
        let speaker = tokio::spawn(speak(self.office.clone(), self.me, words, heard));
        let _ = say.try_send(Word::Joining);
        let mut beat = interval(BEAT);
        beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut settled = pin!(sleep(LISTEN));
        let mut may_claim = false;
        loop {
            let (changed, word) = tokio::select! {
                () = &mut settled, if !may_claim => {
                    may_claim = true;
                    (true, None)
                }
                _ = beat.tick() => (self.roster.expire(Instant::now()), Some(Word::Here)),
                Some(beat) = beats.recv() => match beat {
                    Err(error) if !error.is_retryable() => return self.fail(error),
                    beat => self.heard(beat.ok()),
                },
                Some(ended) = self.tenures.join_next() => {
                    if let Some(error) = self.ended(ended) {
                        return self.fail(error);
                    }
                    (true, Some(Word::Released))
                }
                ask = asks.recv() => match ask {
                    Some(Ask::Release(partition, reply)) => {
                        self.release(partition, reply);
                        (false, None)
                    }
                    Some(Ask::Close(reply)) => {
                        let ended = self.end_all().await;
                        let _ = say.try_send(Word::Leaving);
                        drop(say);
                        // The last beat. Without it the others would notice the end of this member a little later.
                        let _ = timeout(BEAT, speaker).await;
                        return drop(reply.send(ended));
                    }
                    None => return,
                },
            };
            if let Some(word) = word {
                // A beat that finds no room is sent with the next one.
                let _ = say.try_send(word);
            }
            if changed && may_claim {
                self.decide();
            }
        }
    }

    /// Begins and ends tenures so that this member holds its share.
    fn decide(&mut self) {
        let owners = rendezvous(self.office.partitions, &self.roster.members());
        for (partition, owner) in (0..).map(Partition).zip(owners) {
            let wanted = owner == Some(self.me);
            match self.orders.get_mut(&partition) {
                None if wanted => self.begin(partition),
                Some((order, told @ false)) if !wanted => {
                    *told = true;
                    // One that has ended just now needs no order.
                    let _ = order.send(Order::Revoke);
                }
                // A tenure that is wanted again was told to end, and is begun again when it has ended.
                _ => {}
            }
        }
    }

    fn begin(&mut self, partition: Partition) {
        let (order, orders) = mpsc::unbounded_channel();
        self.orders.insert(partition, (order, false));
        let office = self.office.clone();
        self.tenures.spawn(async move { (partition, tenure::hold(office, partition, orders).await) });
    }

    fn release(&mut self, partition: Partition, reply: oneshot::Sender<Result<()>>) {
        // Without a tenure the reply is dropped, which means the same: nothing is held.
        if let Some((order, told)) = self.orders.get_mut(&partition) {
            *told = true;
            let _ = order.send(Order::Release(reply));
        }
    }

    /// Takes note of the end of a tenure. The error is one that ends the consumer.
    fn ended(&mut self, ended: Result<(Partition, End), tokio::task::JoinError>) -> Option<Error> {
        match ended {
            Ok((partition, End::GivenUp)) => {
                self.orders.remove(&partition);
                None
            }
            Ok((_, End::Failed(error))) => Some(error),
            Err(panic) => {
                let message = "the adapter panicked; this is a bug in it, and everything held is given up";
                Some(Error::new(ErrorKind::Closed, "consume", message).because(panic))
            }
        }
    }

    fn fail(&self, error: Error) {
        let _ = self.office.news.send(News::Failed(error));
    }

    /// Gives up everything that is held. The first error of the last settlements.
    async fn end_all(&mut self) -> Result<()> {
        let mut replies = Vec::new();
        for (order, _) in self.orders.values() {
            let (reply, answer) = oneshot::channel();
            let _ = order.send(Order::Release(reply));
            replies.push(answer);
        }
        let mut result = Ok(());
        for reply in replies {
            if let Ok(Err(error)) = reply.await {
                result = result.and(Err(error));
            }
        }
        while self.tenures.join_next().await.is_some() {}
        result
    }

    /// Takes a received beat, or `None` after an error. Returns whether the membership changes, and the answer.
    fn heard(&mut self, beat: Option<Bytes>) -> (bool, Option<Word>) {
        let now = Instant::now();
        let Some(beat) = beat else {
            self.roster.excuse(now);
            return (false, None);
        };
        let Some((word, id)) = decode(&beat) else { return (false, None) };
        if matches!(word, Word::Released | Word::Leaving) {
            self.office.released.notify_waiters();
        }
        let answer = (word == Word::Joining && id != self.me).then_some(Word::Here);
        (self.roster.heard(word, id, now), answer)
    }
}

/// Passes on the beats of members, and errors of listening.
async fn listen<C: Claims>(office: Arc<Office<C>>, heard: mpsc::Sender<Result<Bytes>>) {
    let mut failures = 0;
    loop {
        let beat = office.claims.next_heartbeat().await;
        failures = if beat.is_ok() { 0 } else { failures + 1 };
        if heard.send(beat).await.is_err() {
            return;
        }
        if failures > 0 {
            sleep(DEAF.delay(failures, 0)).await;
        }
    }
}

/// Sends beats one after another, and reports failures.
async fn speak<C: Claims>(
    office: Arc<Office<C>>,
    me: u64,
    mut words: mpsc::Receiver<Word>,
    heard: mpsc::Sender<Result<Bytes>>,
) {
    while let Some(word) = words.recv().await {
        if let Err(error) = office.claims.send_heartbeat(encode(word, me)).await {
            tracing::debug!(%error, ?word, "telling the other members again");
            if heard.send(Err(error)).await.is_err() {
                return;
            }
        }
    }
}
