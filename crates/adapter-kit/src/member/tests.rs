//! Members over a broker in memory, in virtual time.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use partitura_broker::{
    Consumer, ConsumerOptions, Credit, Delivery, Error, ErrorKind, Event, Message, Partition, Result, SubscriptionName,
    TopicName,
};
use tokio::sync::{Notify, broadcast, watch};
use tokio::time::timeout;

use crate::{Claim, Claimed, Claims, Member};

/// Longer than any step takes, in virtual time.
const EVENT_LIMIT: Duration = Duration::from_secs(60);

/// A log for each partition, with one owner.
#[derive(Debug)]
struct World {
    logs: Mutex<BTreeMap<(TopicName, u32), Log>>,
    changed: Notify,
    heartbeats: broadcast::Sender<Bytes>,
    exclusive: bool,
    grown: watch::Sender<u32>,
}

#[derive(Debug, Default)]
struct Log {
    messages: Vec<Message>,
    settled: BTreeSet<usize>,
    /// The number of claims so far; the last one is alive while `held`.
    claims: u32,
    held: bool,
}

impl World {
    fn new(exclusive: bool) -> Arc<Self> {
        let (heartbeats, _) = broadcast::channel(64);
        let (logs, changed, grown) = (Mutex::default(), Notify::new(), watch::Sender::default());
        Arc::new(Self { logs, changed, heartbeats, exclusive, grown })
    }

    fn logs(&self) -> MutexGuard<'_, BTreeMap<(TopicName, u32), Log>> {
        self.logs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn publish(&self, partition: u32, ids: impl IntoIterator<Item = u32>, size: usize) {
        let messages = ids.into_iter().map(|id| Message::new(topic(), id.to_string(), vec![0; size]));
        self.logs().entry((topic(), partition)).or_default().messages.extend(messages);
        self.changed.notify_waiters();
    }

    /// Takes a partition from its owner, like a failing broker.
    fn cut(&self, partition: u32) {
        self.logs().entry((topic(), partition)).or_default().claims += 1;
        self.logs().entry((topic(), partition)).or_default().held = false;
        self.changed.notify_waiters();
    }

    fn unsettled(&self, partition: u32) -> Vec<String> {
        let logs = self.logs();
        let Some(log) = logs.get(&(topic(), partition)) else { return Vec::new() };
        let open = log.messages.iter().enumerate().filter(|(at, _)| !log.settled.contains(at));
        open.map(|(_, message)| message.id.to_string()).collect()
    }
}

#[derive(Debug)]
struct Fake {
    world: Arc<World>,
    receiver: tokio::sync::Mutex<broadcast::Receiver<Bytes>>,
    refuses: Option<ErrorKind>,
}

#[derive(Debug)]
struct FakeClaim {
    world: Arc<World>,
    place: (TopicName, u32),
    number: u32,
    next: usize,
}

#[async_trait]
impl Claims for Fake {
    type Claim = FakeClaim;

    async fn claim(&self, topic: &TopicName, partition: Partition, _ahead: usize) -> Result<FakeClaim> {
        if let Some(kind) = self.refuses {
            return Err(Error::new(kind, "claim", "refused"));
        }
        let place = (topic.clone(), partition.0);
        let mut logs = self.world.logs();
        let log = logs.entry(place.clone()).or_default();
        if log.held && self.world.exclusive {
            return Err(Error::new(ErrorKind::Busy, "claim", "held by another"));
        }
        log.held = true;
        log.claims += u32::from(self.world.exclusive);
        Ok(FakeClaim { world: self.world.clone(), place, number: log.claims, next: 0 })
    }

    async fn grown(&self, known: u32) -> u32 {
        *self.world.grown.subscribe().wait_for(|grown| *grown > known).await.expect("the world is there")
    }

    async fn send_heartbeat(&self, heartbeat: Bytes) -> Result<()> {
        let _ = self.world.heartbeats.send(heartbeat);
        Ok(())
    }

    async fn next_heartbeat(&self) -> Result<Bytes> {
        let received = self.receiver.lock().await.recv().await;
        received.map_err(|error| Error::new(ErrorKind::Disconnected, "receive a heartbeat", error.to_string()))
    }
}

#[async_trait]
impl Claim for FakeClaim {
    type Handle = usize;

    async fn next(&mut self) -> Result<Vec<Claimed<usize>>> {
        loop {
            let changed = self.world.changed.notified();
            {
                let logs = self.world.logs();
                let log = &logs[&self.place];
                if log.claims != self.number {
                    return Err(Error::new(ErrorKind::Disconnected, "consume", "the partition went elsewhere"));
                }
                let new = (self.next..log.messages.len()).filter(|at| !log.settled.contains(at));
                let claimed = |at: usize| Claimed {
                    partition: Partition(self.place.1),
                    message: log.messages[at].clone(),
                    redelivered: false,
                    handle: at,
                };
                let new: Vec<_> = new.map(claimed).collect();
                self.next = log.messages.len();
                if !new.is_empty() {
                    return Ok(new);
                }
            }
            changed.await;
        }
    }

    fn settle(&mut self, handles: Vec<usize>) {
        if let Some(log) = self.world.logs().get_mut(&self.place) {
            log.settled.extend(handles);
        }
    }

    async fn flush(&mut self) -> Result<()> {
        Ok(())
    }

    async fn release(self) -> Result<()> {
        Ok(())
    }
}

impl Drop for FakeClaim {
    fn drop(&mut self) {
        if let Some(log) = self.world.logs().get_mut(&self.place)
            && log.claims == self.number
        {
            log.held = false;
        }
    }
}

fn topic() -> TopicName {
    TopicName::new("orders").expect("a name")
}

fn options() -> ConsumerOptions {
    ConsumerOptions::new(SubscriptionName::new("billing").expect("a name"), [topic()])
}

fn fake(world: &Arc<World>) -> Arc<Fake> {
    Arc::new(Fake {
        world: world.clone(),
        receiver: tokio::sync::Mutex::new(world.heartbeats.subscribe()),
        refuses: None,
    })
}

fn join(world: &Arc<World>, partitions: u32) -> Member<Fake> {
    Member::ordered(fake(world), &options(), partitions, "fake")
}

async fn next(member: &mut Member<Fake>) -> Event {
    timeout(EVENT_LIMIT, member.next()).await.expect("an event").expect("no failure")
}

/// Nothing more comes.
async fn quiet(member: &mut Member<Fake>) {
    let event = timeout(EVENT_LIMIT, member.next()).await;
    assert!(event.is_err(), "nothing was expected: {event:?}");
}

async fn deliveries(member: &mut Member<Fake>, count: usize) -> Vec<Delivery> {
    let mut got = Vec::new();
    while got.len() < count {
        match next(member).await {
            Event::Deliveries(new) => got.extend(new),
            Event::Assigned(_) => {}
            other => panic!("deliveries were expected: {other:?}"),
        }
    }
    got
}

fn ids(deliveries: &[Delivery]) -> Vec<&str> {
    deliveries.iter().map(|delivery| delivery.message.id.as_str()).collect()
}

/// Takes events until this many partitions are assigned, and returns them with their epochs.
async fn assigned(member: &mut Member<Fake>, count: usize) -> BTreeMap<Partition, u32> {
    let mut all = BTreeMap::new();
    while all.len() < count {
        if let Event::Assigned(assignments) = next(member).await {
            all.extend(assignments.iter().map(|assignment| (assignment.partition, assignment.epoch)));
        }
    }
    all
}

#[tokio::test(start_paused = true)]
async fn a_single_member_gets_everything_in_order_and_settles_in_any() {
    let world = World::new(true);
    let mut member = join(&world, 2);
    assigned(&mut member, 2).await;
    world.publish(1, 0..4, 1);
    let got = deliveries(&mut member, 4).await;
    assert_eq!(ids(&got), ["0", "1", "2", "3"]);
    member.settle(&[got[2].token, got[0].token, got[2].token]);
    member.flush().await.expect("flushed");
    assert_eq!(world.unsettled(1), ["1", "3"]);
}

#[tokio::test(start_paused = true)]
async fn a_second_member_is_handed_its_share_when_the_first_has_released_it() {
    let world = World::new(true);
    let mut first = join(&world, 4);
    assigned(&mut first, 4).await;
    (0..4).for_each(|partition| world.publish(partition, [partition], 1));
    let held = deliveries(&mut first, 4).await;
    let mut second = join(&world, 4);
    let mut revoked = BTreeSet::new();
    while revoked.len() < 2 {
        let Event::Revoking { partitions, .. } = next(&mut first).await else { panic!("a hand-over was expected") };
        revoked.extend(partitions);
    }
    world.publish(revoked.first().expect("two").0, [9], 1);
    assert!(timeout(Duration::from_secs(5), second.next()).await.is_err(), "the successor started early");
    let done: Vec<_> = held.iter().filter(|d| revoked.contains(&d.partition)).take(1).map(|d| d.token).collect();
    first.settle(&done);
    first.release(&revoked.iter().copied().collect::<Vec<_>>()).await.expect("released");
    let got = deliveries(&mut second, 2).await;
    assert!(got.iter().all(|delivery| revoked.contains(&delivery.partition)), "{:?}", ids(&got));
    assert_eq!(got.len(), 2, "the one that was not settled, and the new one");
    first.settle(&held.iter().map(|delivery| delivery.token).collect::<Vec<_>>());
    quiet(&mut first).await;
}

#[tokio::test(start_paused = true)]
async fn a_partition_that_is_not_released_in_time_is_lost_and_goes_to_the_successor() {
    let world = World::new(true);
    let mut first = join(&world, 2);
    assigned(&mut first, 2).await;
    (0..2).for_each(|partition| world.publish(partition, [partition], 1));
    deliveries(&mut first, 2).await;
    let mut second = join(&world, 2);
    let Event::Revoking { partitions, .. } = next(&mut first).await else { panic!("a hand-over was expected") };
    let Event::Lost(lost) = next(&mut first).await else { panic!("a loss was expected") };
    assert_eq!(lost, partitions);
    assert_eq!(deliveries(&mut second, 1).await[0].partition, partitions[0]);
    first.release(&partitions).await.expect("a no-op");
}

#[tokio::test(start_paused = true)]
async fn a_member_that_is_dropped_is_replaced() {
    let world = World::new(true);
    let mut first = join(&world, 3);
    let mut second = join(&world, 3);
    assigned(&mut first, 1).await;
    world.publish(0, 0..3, 1);
    drop(first);
    world.publish(1, 3..5, 1);
    let got = deliveries(&mut second, 5).await;
    let of_first: Vec<_> = got.iter().filter(|d| d.partition.0 == 0).cloned().collect();
    assert_eq!(ids(&of_first), ["0", "1", "2"]);
}

#[tokio::test(start_paused = true)]
async fn a_member_that_closes_hands_over_at_once() {
    let world = World::new(true);
    let mut first = join(&world, 2);
    assigned(&mut first, 2).await;
    let mut second = join(&world, 2);
    Box::new(first).close().await.expect("closed");
    let began = tokio::time::Instant::now();
    assigned(&mut second, 2).await;
    assert!(began.elapsed() < Duration::from_secs(2), "it took {:?}", began.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_lost_partition_is_told_and_claimed_again_with_a_new_epoch() {
    let world = World::new(true);
    let mut member = join(&world, 1);
    let before = assigned(&mut member, 1).await;
    world.publish(0, 0..2, 1);
    let old = deliveries(&mut member, 2).await;
    world.cut(0);
    assert!(matches!(next(&mut member).await, Event::Lost(lost) if lost == [Partition(0)]));
    member.settle(&[old[0].token]);
    let after = assigned(&mut member, 1).await;
    assert!(after[&Partition(0)] > before[&Partition(0)]);
    let again = deliveries(&mut member, 2).await;
    member.settle(&[old[1].token]);
    member.flush().await.expect("flushed");
    assert_eq!(world.unsettled(0), ["0", "1"], "an old token settles nothing");
    member.settle(&[again[0].token]);
    member.flush().await.expect("flushed");
    assert_eq!(world.unsettled(0), ["1"]);
}

#[tokio::test(start_paused = true)]
async fn no_more_than_the_credit_is_out() {
    let world = World::new(true);
    let of = |n| NonZeroUsize::new(n).expect("more than nothing");
    let options = options().credit(Credit { messages: of(3), bytes: of(10) });
    let mut member = Member::ordered(fake(&world), &options, 2, "fake");
    assigned(&mut member, 2).await;
    world.publish(0, 0..4, 1);
    let first = deliveries(&mut member, 3).await;
    quiet(&mut member).await;
    member.settle(&[first[0].token]);
    assert_eq!(ids(&deliveries(&mut member, 1).await), ["3"]);
    world.publish(1, [10], 1_000);
    member.settle(&[first[1].token]);
    quiet(&mut member).await;
    world.cut(0);
    // The unsettled deliveries go with the partition, and their credit is free: the large message may come, alone.
    while !matches!(next(&mut member).await, Event::Deliveries(got) if ids(&got).contains(&"10")) {}
}

#[tokio::test(start_paused = true)]
async fn members_of_a_shared_subscription_own_nothing_and_are_told_of_no_loss() {
    let world = World::new(false);
    let mut member = Member::shared(fake(&world), &options(), "fake");
    world.publish(0, 0..2, 1);
    let Event::Deliveries(got) = next(&mut member).await else { panic!("deliveries were expected first") };
    member.settle(&[got[0].token]);
    member.flush().await.expect("flushed");
    assert_eq!(world.unsettled(0), ["1"]);
    world.cut(0);
    assert_eq!(ids(&deliveries(&mut member, 1).await), ["1"]);
    Box::new(member).close().await.expect("closed");
}

#[tokio::test(start_paused = true)]
async fn a_broadcast_is_assigned_all_partitions_at_once() {
    let world = World::new(false);
    let mut member = Member::broadcast(fake(&world), &options(), 3, "fake");
    let Event::Assigned(all) = next(&mut member).await else { panic!("an assignment was expected") };
    assert_eq!(all.len(), 3);
    world.publish(0, [1], 1);
    assert_eq!(ids(&deliveries(&mut member, 1).await), ["1"]);
}

#[tokio::test(start_paused = true)]
async fn partitions_that_are_added_are_assigned() {
    let (world, stream) = (World::new(true), World::new(false));
    let (mut member, mut listener) = (join(&world, 2), Member::broadcast(fake(&stream), &options(), 2, "fake"));
    tokio::join!(assigned(&mut member, 2), assigned(&mut listener, 2));
    world.grown.send_replace(3);
    stream.grown.send_replace(3);
    assert!(assigned(&mut member, 1).await.contains_key(&Partition(2)));
    assert!(matches!(next(&mut listener).await, Event::Lost(lost) if lost.len() == 2));
    assigned(&mut listener, 3).await;
}

#[tokio::test(start_paused = true)]
async fn an_error_that_is_not_retryable_ends_the_consumer() {
    let world = World::new(true);
    let refusing = Fake { refuses: Some(ErrorKind::Unauthorized), ..Arc::into_inner(fake(&world)).expect("one") };
    let mut member = Member::ordered(Arc::new(refusing), &options(), 1, "fake");
    for _ in 0..2 {
        let error = timeout(EVENT_LIMIT, member.next()).await.expect("an answer").expect_err("a refusal");
        assert_eq!(error.kind(), ErrorKind::Unauthorized);
    }
}
