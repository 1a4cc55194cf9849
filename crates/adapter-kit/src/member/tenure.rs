use std::future::Future;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use futures::future::try_join_all;
use partitura_broker::{Error, ErrorKind, Partition, Result, TopicName, telemetry};
use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio::time::{Instant, sleep_until, timeout};

use super::News;
use super::pool::Pool;
use super::reader::{Phase, Reader};
use crate::{Backoff, Claim, Claims};

/// The wait before a partition that another member holds is tried again, unless a member reports that it gave one up.
const BUSY: Backoff = Backoff { first: Duration::from_millis(40), longest: Duration::from_millis(250) };
/// The same after a failure of the broker.
const FAILED: Backoff = Backoff { first: Duration::from_millis(50), longest: Duration::from_secs(2) };

/// The common state of all tenures of a member.
#[derive(Debug)]
pub(super) struct Office<C: Claims> {
    pub(super) claims: Arc<C>,
    /// The topics in the order of their names. Members claim several in this order, so that no two wait for each other.
    pub(super) topics: Vec<(TopicName, Arc<Pool>)>,
    /// The partitions that a tenure covers; more than its own only in a broadcast.
    pub(super) partitions: u32,
    pub(super) ahead: usize,
    pub(super) revoke_within: Duration,
    pub(super) epochs: AtomicU32,
    pub(super) news: mpsc::UnboundedSender<News<<C::Claim as Claim>::Handle>>,
    /// A member gave a partition up.
    pub(super) released: Notify,
    pub(super) system: &'static str,
}

/// The orders to a tenure.
#[derive(Debug)]
pub(super) enum Order {
    /// Another member should have the partition.
    Revoke,
    /// Release the partition: its deliveries are settled, or given up.
    Release(oneshot::Sender<Result<()>>),
}

/// The reason why a tenure ended.
#[derive(Debug)]
pub(super) enum End {
    /// It was asked to.
    GivenUp,
    /// For good: the consumer ends with it.
    Failed(Error),
}

/// Claims a partition of all topics, keeps it, and claims it again when it is lost, until it is given up.
pub(super) async fn hold<C: Claims>(
    office: Arc<Office<C>>,
    partition: Partition,
    mut orders: mpsc::UnboundedReceiver<Order>,
) -> End {
    let mut attempt = 0;
    loop {
        let claimed = tokio::select! {
            claimed = claim_all(&office, partition) => claimed,
            // Nothing is held yet, so there is nothing to hand over.
            order = orders.recv() => return give_up(order),
        };
        let error = match claimed {
            Ok(claims) => {
                attempt = 0;
                match keep(&office, partition, claims, &mut orders).await {
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
        telemetry::reconnecting(office.system, &error, attempt);
        tokio::select! {
            () = tokio::time::sleep(FAILED.delay(attempt, random())) => {}
            order = orders.recv() => return give_up(order),
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
async fn claim_all<C: Claims>(office: &Office<C>, partition: Partition) -> Result<Vec<C::Claim>> {
    let mut claims = Vec::with_capacity(office.topics.len());
    for (topic, _) in &office.topics {
        let mut attempt = 0;
        claims.push(loop {
            let released = office.released.notified();
            match office.claims.claim(topic, partition, office.ahead).await {
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
    office: &Office<C>,
    partition: Partition,
    claims: Vec<C::Claim>,
    orders: &mut mpsc::UnboundedReceiver<Order>,
) -> Result<()> {
    let epoch = office.epochs.fetch_add(1, Ordering::Relaxed).wrapping_add(1);
    let (phase, _) = watch::channel(Phase::Reading);
    let (mut tasks, mut readers) = (Vec::new(), Vec::new());
    for (topic, claim) in claims.into_iter().enumerate() {
        let (task, received) = mpsc::unbounded_channel();
        tasks.push(task);
        let pool = office.topics[topic].1.clone();
        let (news, phase, clock) = (office.news.clone(), phase.subscribe(), office.claims.clock());
        readers.push(Reader { claim, topic, partition, epoch, pool, tasks: received, news, phase, clock }.run());
    }
    let _ = office.news.send(News::Assigned { partition, epoch, tasks });
    let served = serve(office, partition, try_join_all(readers), &phase, orders).await;
    if !matches!(served, Ok(Served::Released)) {
        // The readers are gone by now: nothing of this epoch comes after this.
        let _ = office.news.send(News::Lost { partition, epoch });
    }
    served.map(drop)
}

/// The way in which a term of ownership ended, if the end was intended.
enum Served {
    Released,
    /// It was not released in time.
    Expired,
}

async fn serve<C: Claims>(
    office: &Office<C>,
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
                    Order::Revoke => {
                        phase.send_replace(Phase::Draining);
                        let _ = office.news.send(News::Revoking { partition, within: office.revoke_within });
                    }
                    Order::Release(to) => {
                        phase.send_replace(Phase::Releasing);
                        reply = Some(to);
                    }
                }
                deadline.get_or_insert_with(|| Instant::now() + office.revoke_within);
            }
            () = sleep_until(deadline.unwrap_or_else(Instant::now)), if deadline.is_some() => {
                tracing::warn!(%partition, "a revoked partition was not released in time and is taken away");
                return Ok(Served::Expired);
            }
        }
    }
}

/// Returns a number that spreads retries.
fn random() -> u64 {
    RandomState::new().build_hasher().finish()
}
