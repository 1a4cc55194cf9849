//! Random lives of several consumers against a model that fits on a page.

use std::collections::BTreeMap;
use std::time::Duration;

use partitura_broker::{AckToken, Broker, Consumer, ErrorKind, Event, Expect, Partition, Put, Unit};
use proptest::prelude::*;

use crate::support::*;

const PARTITIONS: u32 = 4;

#[derive(Debug, Clone)]
enum Step {
    Publish(u8),
    Join,
    Leave(usize),
    /// Asks for one event.
    Poll(usize),
    Settle(usize, usize),
    /// Settles by a commit, which succeeds or not.
    Commit(usize, usize, bool),
    Release(usize),
    /// Longer than a revoked partition may be held.
    Wait,
}

fn step() -> impl Strategy<Value = Step> {
    let who = 0_usize..4;
    prop_oneof![
        4 => any::<u8>().prop_map(Step::Publish),
        1 => Just(Step::Join),
        1 => who.clone().prop_map(Step::Leave),
        8 => who.clone().prop_map(Step::Poll),
        4 => (who.clone(), any::<usize>()).prop_map(|(who, which)| Step::Settle(who, which)),
        3 => (who.clone(), any::<usize>(), any::<bool>()).prop_map(|(who, which, good)| Step::Commit(who, which, good)),
        3 => who.prop_map(Step::Release),
        1 => Just(Step::Wait),
    ]
}

struct Player {
    consumer: Box<dyn Consumer>,
    /// As it was told.
    own: Vec<Partition>,
    revoked: Vec<Partition>,
    /// Number, partition, token.
    held: Vec<(u32, Partition, AckToken)>,
}

/// The published and unsettled messages, by partition, with their consumers.
#[derive(Default)]
struct Model {
    unsettled: BTreeMap<Partition, BTreeMap<u32, Option<u64>>>,
    seen: Vec<u32>,
    /// The consumers that were too slow, and have not been told yet.
    overdue: Vec<(u64, Partition)>,
    /// Whether a consumer can have been too slow.
    waited: bool,
}

impl Model {
    /// A delivery is the first of its partition that no consumer has.
    fn deliver(&mut self, player: u64, partition: Partition, number: u32, redelivered: bool) {
        let held_by = self.unsettled.entry(partition).or_default().get(&number).copied().flatten();
        if let Some(other) = held_by.filter(|other| *other != player && self.waited) {
            self.overdue.push((other, partition));
            self.give_back(other, |of| of == partition);
        }
        assert!(!self.overdue.contains(&(player, partition)), "more is delivered of what is lost");
        let waiting = self.unsettled.entry(partition).or_default();
        let first = waiting.iter_mut().find(|(_, holder)| holder.is_none());
        let (expected, holder) = first.expect("something was delivered that is settled, or that another has");
        assert_eq!(*expected, number, "out of order in partition {partition}");
        *holder = Some(player);
        assert!(redelivered || !self.seen.contains(&number), "{number} came again without saying so");
        self.seen.push(number);
    }

    fn settle(&mut self, partition: Partition, number: u32) {
        assert!(self.unsettled.entry(partition).or_default().remove(&number).is_some());
    }

    fn give_back(&mut self, player: u64, of: impl Fn(Partition) -> bool) {
        for (_, waiting) in self.unsettled.iter_mut().filter(|(partition, _)| of(**partition)) {
            waiting.values_mut().filter(|holder| **holder == Some(player)).for_each(|holder| *holder = None);
        }
    }
}

async fn poll(id: u64, player: &mut Player, model: &mut Model) -> bool {
    let Ok(event) = tokio::time::timeout(Duration::ZERO, player.consumer.next()).await else { return false };
    match event.unwrap() {
        Event::Assigned(assignments) => player.own.extend(assignments.iter().map(|a| a.partition)),
        Event::Revoking { partitions, .. } => player.revoked.extend(partitions),
        Event::Lost(partitions) => {
            player.own.retain(|partition| !partitions.contains(partition));
            player.revoked.retain(|partition| !partitions.contains(partition));
            player.held.retain(|(_, partition, _)| !partitions.contains(partition));
            model.give_back(id, |partition| partitions.contains(&partition));
            model.overdue.retain(|(who, partition)| *who != id || !partitions.contains(partition));
        }
        Event::Deliveries(deliveries) => {
            for delivery in deliveries {
                assert!(player.own.contains(&delivery.partition) && !player.revoked.contains(&delivery.partition));
                let number = text(&delivery).parse().unwrap();
                model.deliver(id, delivery.partition, number, delivery.redelivered);
                player.held.push((number, delivery.partition, delivery.token));
            }
        }
        other => panic!("{other:?}"),
    }
    true
}

async fn run(steps: Vec<Step>) {
    let broker = memory(&queue(by_key(PARTITIONS))).await;
    let mut players: BTreeMap<u64, Player> = BTreeMap::new();
    let mut model = Model::default();
    let (mut number, mut next) = (0, 0);
    for step in steps {
        let chosen = |players: &BTreeMap<u64, Player>, who: usize| players.keys().nth(who).copied();
        match step {
            Step::Publish(key) => {
                let receipt = publish_one(&broker, message(&key.to_string(), number)).await.unwrap();
                model.unsettled.entry(receipt.partition).or_default().insert(number, None);
                number += 1;
            }
            Step::Join if players.len() < 4 => {
                let options = options().credit(credit(5)).revoke_within(Duration::from_secs(1));
                let consumer = broker.consumer(options).await.unwrap();
                players.insert(next, Player { consumer, own: vec![], revoked: vec![], held: vec![] });
                next += 1;
            }
            Step::Leave(who) => {
                if let Some(id) = chosen(&players, who) {
                    players.remove(&id);
                    model.give_back(id, |_| true);
                }
            }
            Step::Poll(who) => {
                if let Some((id, player)) = players.iter_mut().nth(who) {
                    poll(*id, player, &mut model).await;
                }
            }
            Step::Settle(who, which) => {
                if let Some((_, player)) = players.iter_mut().nth(who).filter(|(_, player)| !player.held.is_empty()) {
                    let (number, partition, token) = player.held.swap_remove(which % player.held.len());
                    player.consumer.settle(&[token, token]);
                    model.settle(partition, number);
                }
            }
            Step::Commit(who, which, good) => {
                if let Some((_, player)) = players.iter_mut().nth(who).filter(|(_, player)| !player.held.is_empty()) {
                    let at = which % player.held.len();
                    let (number, partition, token) = player.held[at];
                    let expect = if good { Expect::Any } else { Expect::Version(u64::MAX) };
                    let put = Put { space: "t", key: bytes("k"), expect, value: Some(bytes("v")) };
                    let unit = Unit { settle: vec![token], put: vec![put], ..Unit::default() };
                    let result = broker.transactions().unwrap().commit(vec![unit]).await.remove(0);
                    assert_eq!(
                        result.map_err(|error| error.kind()),
                        if good { Ok(()) } else { Err(ErrorKind::Conflict) }
                    );
                    if good {
                        player.held.swap_remove(at);
                        model.settle(partition, number);
                    }
                }
            }
            Step::Release(who) => {
                if let Some((id, player)) = players.iter_mut().nth(who) {
                    let released = std::mem::take(&mut player.revoked);
                    player.consumer.release(&released).await.unwrap();
                    player.own.retain(|partition| !released.contains(partition));
                    player.held.retain(|(_, partition, _)| !released.contains(partition));
                    model.give_back(*id, |partition| released.contains(&partition));
                }
            }
            Step::Wait => {
                tokio::time::advance(Duration::from_secs(2)).await;
                // All consumers learn of it before the next step, in any order.
                model.waited = true;
                for player in players.values_mut() {
                    player.consumer.release(&[]).await.unwrap();
                }
                for (id, player) in &mut players {
                    while poll(*id, player, &mut model).await {}
                }
                assert_eq!(model.overdue, []);
                model.waited = false;
            }
            Step::Join => {}
        }
    }
    drop(players);
    // One consumer gets everything that is left, in order.
    model.unsettled.values_mut().flat_map(BTreeMap::values_mut).for_each(|holder| *holder = None);
    let mut consumer = broker.consumer(options()).await.unwrap();
    let left: usize = model.unsettled.values().map(BTreeMap::len).sum();
    for delivery in receive(&mut consumer, left).await {
        model.deliver(0, delivery.partition, text(&delivery).parse().unwrap(), delivery.redelivered);
    }
    nothing(&mut consumer).await;
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn order_exclusion_and_completeness_hold_for_any_steps_of_consumers(steps in prop::collection::vec(step(), 0..150)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
        runtime.block_on(run(steps));
    }
}
