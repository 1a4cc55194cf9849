use std::future::Future;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures::future::try_join_all;
use partitura_broker::{Error, ErrorKind, Partition, Result, telemetry};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, sleep_until, timeout};

use super::messages::{Order, Report};
use super::reader::{Phase, Reader};
use super::state::MemberState;
use crate::{Backoff, Claims};

/// The wait before a partition that another member holds is tried again, unless a member reports that it gave one up.
const BUSY: Backoff = Backoff { first: Duration::from_millis(40), longest: Duration::from_millis(250) };
/// The same after a failure of the broker.
const FAILED: Backoff = Backoff { first: Duration::from_millis(50), longest: Duration::from_secs(2) };

/// The reason why a lease ended.
#[derive(Debug)]
pub(super) enum End {
    /// It was asked to.
    GivenUp,
    /// For good: the consumer ends with it.
    Failed(Error),
}

/// Claims a partition of all topics, keeps it, and claims it again when it is lost, until it is given up.
pub(super) async fn hold<C: Claims>(
    state: Arc<MemberState<C>>,
    partition: Partition,
    mut orders: mpsc::UnboundedReceiver<Order>,
) -> End {
    let mut attempt = 0;
    loop {
        let claimed = tokio::select! {
            claimed = claim_all(&state, partition) => claimed,
            order = orders.recv() => match order {
                Some(Order::Renew) => continue,
                // Nothing is held yet, so there is nothing to hand over.
                order => return give_up(order),
            },
        };
        let error = match claimed {
            Ok(claims) => {
                attempt = 0;
                match keep(&state, partition, claims, &mut orders).await {
                    Ok(()) => return End::GivenUp,
                    Err(error) => error,
                }
            }
            Err(error) => error,
        };
        if !error.is_retryable() {
            return End::Failed(error);
        }
        attempt += 1;
        telemetry::reconnecting(state.system, &error, attempt);
        tokio::select! {
            () = tokio::time::sleep(FAILED.delay(attempt, random())) => {}
            order = orders.recv() => match order {
                Some(Order::Renew) => {}
                order => return give_up(order),
            },
        }
    }
}

fn give_up(order: Option<Order>) -> End {
    if let Some(Order::Release(reply)) = order {
        let _ = reply.send(Ok(()));
    }
    End::GivenUp
}

/// Claims the partition of each topic. Waits for those that another member holds.
async fn claim_all<C: Claims>(state: &MemberState<C>, partition: Partition) -> Result<Vec<C::Claim>> {
    let mut claims = Vec::with_capacity(state.topics.len());
    for topic in &state.topics {
        let mut attempt = 0;
        claims.push(loop {
            let released = state.released.notified();
            match state.claims.claim(&topic.name, partition, state.ahead).await {
                Err(error) if error.kind() == ErrorKind::Busy => {
                    attempt += 1;
                    // Whichever comes first.
                    let _ = timeout(BUSY.delay(attempt, random()), released).await;
                }
                claimed => break claimed?,
            }
        });
    }
    Ok(claims)
}

/// Keeps the claims. Ends with `Ok` when they were given up, and with an error when they are lost.
async fn keep<C: Claims>(
    state: &MemberState<C>,
    partition: Partition,
    claims: Vec<C::Claim>,
    orders: &mut mpsc::UnboundedReceiver<Order>,
) -> Result<()> {
    let epoch = state.next_epoch();
    let (phase, _) = watch::channel(Phase::Reading);
    let (mut readers, mut running) = (Vec::new(), Vec::new());
    for (topic, claim) in claims.into_iter().enumerate() {
        let (task, received) = mpsc::unbounded_channel();
        readers.push(task);
        let pool = state.topics[topic].pool.clone();
        let (reports, phase, clock) = (state.reports.clone(), phase.subscribe(), state.claims.clock());
        running.push(Reader { claim, topic, partition, epoch, pool, tasks: received, reports, phase, clock }.run());
    }
    state.report(Report::Assigned { partition, epoch, readers });
    let served = serve(state, partition, try_join_all(running), &phase, orders).await;
    if !matches!(served, Ok(Served::Released)) {
        // The readers are gone by now: nothing of this epoch comes after this.
        state.report(Report::Lost { partition, epoch });
    }
    served.map(drop)
}

/// The way in which a lease ended, if the end was intended.
enum Served {
    Released,
    /// It was not released in time.
    Expired,
}

async fn serve<C: Claims>(
    state: &MemberState<C>,
    partition: Partition,
    readers: impl Future<Output = Result<Vec<()>>>,
    phase: &watch::Sender<Phase>,
    orders: &mut mpsc::UnboundedReceiver<Order>,
) -> Result<Served> {
    let mut readers = pin!(readers);
    let mut deadline: Option<Instant> = None;
    let mut reply: Option<oneshot::Sender<Result<()>>> = None;
    loop {
        tokio::select! {
            ended = &mut readers => {
                let Some(reply) = reply else { return ended.map(|_| Served::Released) };
                // The partition is given up in any case. An error of the last settlements goes to the caller.
                let _ = reply.send(ended.map(drop));
                return Ok(Served::Released);
            }
            Some(order) = orders.recv() => {
                match order {
                    Order::Revoke if deadline.is_some() => continue,
                    Order::Renew if deadline.is_some() => continue,
                    Order::Renew => return Err(grown()),
                    Order::Revoke => {
                        phase.send_replace(Phase::Draining);
                        state.report(Report::Revoking { partition, within: state.revoke_within });
                    }
                    Order::Release(to) => {
                        phase.send_replace(Phase::Releasing);
                        reply = Some(to);
                    }
                }
                deadline.get_or_insert_with(|| Instant::now() + state.revoke_within);
            }
            () = sleep_until(deadline.unwrap_or_else(Instant::now)), if deadline.is_some() => {
                tracing::warn!(%partition, "a revoked partition was not released in time and is taken away");
                return Ok(Served::Expired);
            }
        }
    }
}

/// The error that ends a claim of all partitions of a topic that has more of them by now.
fn grown() -> Error {
    Error::new(ErrorKind::Disconnected, "consume", "the topic has more partitions than were claimed")
}

/// Returns a number that spreads retries.
fn random() -> u64 {
    RandomState::new().build_hasher().finish()
}
