use std::collections::HashMap;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use partitura_broker::{Error, ErrorKind, Partition, Result};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout};

use super::lease::{self, End};
use super::membership::{HEARTBEAT_INTERVAL, Heartbeat, Membership, decode, encode};
use super::messages::{Order, Report, Request};
use super::state::MemberState;
use crate::{Backoff, Claims, MemberId, rendezvous};

/// The time for which a new member listens before it claims anything, so that it asks for no more than its share.
const LISTEN: Duration = Duration::from_millis(150);
/// The wait before listening again after a failure.
const LISTEN_AGAIN: Backoff = Backoff { first: Duration::from_millis(50), longest: Duration::from_secs(2) };
/// The number of heartbeats that may wait to be sent.
const SENDING: usize = 8;
/// The number of received heartbeats that may wait. A heartbeat that is dropped for lack of room comes again.
const RECEIVED: usize = 1_024;

/// Decides which partitions this member holds, and claims or releases them.
#[derive(Debug)]
pub(super) struct Coordinator<C: Claims> {
    state: Arc<MemberState<C>>,
    membership: Membership,
    me: MemberId,
    leases: HashMap<Partition, Lease>,
    running: JoinSet<(Partition, End)>,
}

/// A running lease.
#[derive(Debug)]
struct Lease {
    orders: mpsc::UnboundedSender<Order>,
    /// It was told to end.
    is_ending: bool,
}

impl<C: Claims> Coordinator<C> {
    pub(super) fn new(state: Arc<MemberState<C>>, me: MemberId) -> Self {
        Self { state, membership: Membership::new(me), me, leases: HashMap::new(), running: JoinSet::new() }
    }

    /// Serves subscriptions without owners: holds partition 0, which does not exclude other members. For a broadcast
    /// that is a claim of all partitions, which is renewed when there are more of them.
    pub(super) async fn hold_all(mut self, mut requests: mpsc::UnboundedReceiver<Request>) {
        self.begin(Partition(0));
        loop {
            tokio::select! {
                partitions = self.state.claims.grown(self.partitions()) => {
                    self.state.partitions.store(partitions, Ordering::Relaxed);
                    self.leases.values().for_each(|lease| drop(lease.orders.send(Order::Renew)));
                }
                Some(ended) = self.running.join_next() => {
                    if let Some(error) = self.ended(ended) {
                        return self.fail(error);
                    }
                }
                request = requests.recv() => match request {
                    Some(Request::Release(partition, reply)) => self.release(partition, reply),
                    Some(Request::Close(reply)) => return drop(reply.send(self.end_all().await)),
                    None => return,
                },
            }
        }
    }

    /// Holds this member's share of the partitions, while members join and leave.
    pub(super) async fn hold_share(mut self, mut requests: mpsc::UnboundedReceiver<Request>) {
        let (to, mut received) = mpsc::channel(RECEIVED);
        // This task is in a set, so that it ends with the coordinator. The sender ends when its channel is closed.
        let mut receiver = JoinSet::new();
        receiver.spawn(receive_heartbeats(self.state.clone(), to.clone()));
        let (send, sending) = mpsc::channel(SENDING);
        let sender = tokio::spawn(send_heartbeats(self.state.clone(), self.me, sending, to));
        let _ = send.try_send(Heartbeat::Joining);
        let mut interval = interval(HEARTBEAT_INTERVAL);
        interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut settled = pin!(sleep(LISTEN));
        let mut may_claim = false;
        loop {
            let (changed, heartbeat) = tokio::select! {
                () = &mut settled, if !may_claim => {
                    may_claim = true;
                    (true, None)
                }
                partitions = self.state.claims.grown(self.partitions()) => {
                    self.state.partitions.store(partitions, Ordering::Relaxed);
                    (true, None)
                }
                _ = interval.tick() => (self.membership.expire(Instant::now()), Some(Heartbeat::Present)),
                Some(bytes) = received.recv() => match bytes {
                    Err(error) if !error.is_retryable() => return self.fail(error),
                    bytes => self.receive(bytes.ok()),
                },
                Some(ended) = self.running.join_next() => {
                    if let Some(error) = self.ended(ended) {
                        return self.fail(error);
                    }
                    (true, Some(Heartbeat::Released))
                }
                request = requests.recv() => match request {
                    Some(Request::Release(partition, reply)) => {
                        self.release(partition, reply);
                        (false, None)
                    }
                    Some(Request::Close(reply)) => {
                        let ended = self.end_all().await;
                        let _ = send.try_send(Heartbeat::Leaving);
                        drop(send);
                        // Without this heartbeat the others would notice the end of this member a little later.
                        let _ = timeout(HEARTBEAT_INTERVAL, sender).await;
                        return drop(reply.send(ended));
                    }
                    None => return,
                },
            };
            if let Some(heartbeat) = heartbeat {
                // One that finds no room is made up for by the next one.
                let _ = send.try_send(heartbeat);
            }
            if changed && may_claim {
                self.decide();
            }
        }
    }

    fn partitions(&self) -> u32 {
        self.state.partitions.load(Ordering::Relaxed)
    }

    /// Begins and ends leases so that this member holds its share.
    fn decide(&mut self) {
        let owners = rendezvous(self.partitions(), &self.membership.members());
        for (partition, owner) in (0..).map(Partition).zip(owners) {
            let wanted = owner == Some(self.me);
            match self.leases.get_mut(&partition) {
                None if wanted => self.begin(partition),
                Some(lease) if !wanted && !lease.is_ending => {
                    lease.is_ending = true;
                    // One that has ended just now needs no order.
                    let _ = lease.orders.send(Order::Revoke);
                }
                // A lease that is wanted again was told to end, and is begun again when it has ended.
                _ => {}
            }
        }
    }

    fn begin(&mut self, partition: Partition) {
        let (orders, received) = mpsc::unbounded_channel();
        self.leases.insert(partition, Lease { orders, is_ending: false });
        let state = self.state.clone();
        self.running.spawn(async move { (partition, lease::hold(state, partition, received).await) });
    }

    fn release(&mut self, partition: Partition, reply: oneshot::Sender<Result<()>>) {
        // Without a lease the reply is dropped, which means the same: nothing is held.
        if let Some(lease) = self.leases.get_mut(&partition) {
            lease.is_ending = true;
            let _ = lease.orders.send(Order::Release(reply));
        }
    }

    /// Takes note of the end of a lease. The error is one that ends the consumer.
    fn ended(&mut self, ended: Result<(Partition, End), tokio::task::JoinError>) -> Option<Error> {
        match ended {
            Ok((partition, End::GivenUp)) => {
                self.leases.remove(&partition);
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
        self.state.report(Report::Failed(error));
    }

    /// Gives up everything that is held. Returns the first error of the last settlements.
    async fn end_all(&mut self) -> Result<()> {
        let mut replies = Vec::new();
        for lease in self.leases.values() {
            let (reply, answer) = oneshot::channel();
            let _ = lease.orders.send(Order::Release(reply));
            replies.push(answer);
        }
        let mut result = Ok(());
        for reply in replies {
            if let Ok(Err(error)) = reply.await {
                result = result.and(Err(error));
            }
        }
        while self.running.join_next().await.is_some() {}
        result
    }

    /// Takes a received heartbeat, or `None` after an error. Returns whether the membership changes, and the answer.
    fn receive(&mut self, bytes: Option<Bytes>) -> (bool, Option<Heartbeat>) {
        let now = Instant::now();
        let Some(bytes) = bytes else {
            self.membership.restart_limits(now);
            return (false, None);
        };
        let Some((heartbeat, id)) = decode(&bytes) else { return (false, None) };
        if matches!(heartbeat, Heartbeat::Released | Heartbeat::Leaving) {
            self.state.released.notify_waiters();
        }
        let answer = (heartbeat == Heartbeat::Joining && id != self.me).then_some(Heartbeat::Present);
        (self.membership.receive(heartbeat, id, now), answer)
    }
}

/// Passes on the heartbeats of members, and errors of receiving.
async fn receive_heartbeats<C: Claims>(state: Arc<MemberState<C>>, to: mpsc::Sender<Result<Bytes>>) {
    let mut failures = 0;
    loop {
        let heartbeat = state.claims.next_heartbeat().await;
        failures = if heartbeat.is_ok() { 0 } else { failures + 1 };
        if to.send(heartbeat).await.is_err() {
            return;
        }
        if failures > 0 {
            sleep(LISTEN_AGAIN.delay(failures, 0)).await;
        }
    }
}

/// Sends heartbeats one after another, and reports failures.
async fn send_heartbeats<C: Claims>(
    state: Arc<MemberState<C>>,
    me: MemberId,
    mut heartbeats: mpsc::Receiver<Heartbeat>,
    failures: mpsc::Sender<Result<Bytes>>,
) {
    while let Some(heartbeat) = heartbeats.recv().await {
        if let Err(error) = state.claims.send_heartbeat(encode(heartbeat, me)).await {
            tracing::debug!(%error, ?heartbeat, "telling the other members again");
            if failures.send(Err(error)).await.is_err() {
                return;
            }
        }
    }
}
