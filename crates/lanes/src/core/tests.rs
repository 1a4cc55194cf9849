use std::time::Duration;

use partitura_broker::{AckToken, Delivery, Message, Partition, Timestamp};

use super::{Actions, Core, Move, Now, Parking, Settings};
use crate::headers::SUSPECT;
use crate::{Outcome, Retry, Trials};

fn core(retry: Retry, batch: usize) -> Core {
    Core::new(Settings {
        concurrency: 10,
        batch,
        retry,
        ordered: true,
        assigned: false,
        parking: None,
        crashes: 0,
        most_begun: 0,
        trials: Trials::default(),
        seed: 1,
    })
}

fn delivery(slot: u32, key: Option<&'static str>, not_before: Option<u64>) -> Delivery {
    let mut message = Message::new("orders".parse().unwrap(), slot.to_string(), "");
    message.key = key.map(Into::into);
    message.not_before = not_before.map(Timestamp::from_millis);
    let token = AckToken { consumer: 1, partition: Partition(0), epoch: 1, slot };
    Delivery { message, partition: Partition(0), redelivered: false, token }
}

fn at(millis: u64) -> Now {
    Now { steady: Duration::from_millis(millis), wall: Timestamp::from_millis(1_000_000 + millis) }
}

fn actions(core: &mut Core) -> Actions {
    let mut actions = Actions::default();
    core.take_actions(&mut actions);
    actions
}

fn settled(core: &mut Core) -> Vec<u32> {
    actions(core).settle.iter().map(|token| token.slot).collect()
}

#[test]
fn a_message_that_comes_early_joins_the_tail_of_its_lane_when_it_is_due() {
    let mut core = core(Retry::default(), 1);
    core.deliver(delivery(1, Some("a"), Some(1_000_050)), at(0));
    core.deliver(delivery(2, Some("a"), None), at(0));
    let first = core.start(at(0)).unwrap();
    assert_eq!(first.batch[0].token.slot, 2);
    core.finished(first.lane, Outcome::Done, at(10));
    core.tick(at(49));
    assert!(core.start(at(0)).is_none());
    assert_eq!(core.idle_for(at(49)), Some(Duration::from_millis(1)));
    core.tick(at(50));
    assert_eq!(core.start(at(0)).unwrap().batch[0].token.slot, 1);
}

#[test]
fn messages_without_a_key_wait_for_nobody() {
    let mut core = core(Retry::default(), 1);
    (0..3).for_each(|slot| core.deliver(delivery(slot, None, None), at(0)));
    let started = std::iter::from_fn(|| core.start(at(0))).collect::<Vec<_>>();
    assert_eq!(started.len(), 3);
    started.into_iter().rev().for_each(|start| core.finished(start.lane, Outcome::Done, at(1)));
    assert_eq!(settled(&mut core), [2, 1, 0]);
}

#[test]
fn a_batch_that_fails_comes_again_one_by_one_without_counting() {
    let mut core = core(Retry::fixed(Duration::from_millis(5)), 3);
    (1..=4).for_each(|slot| core.deliver(delivery(slot, Some("a"), None), at(0)));
    let batch = core.start(at(0)).unwrap();
    assert_eq!(batch.batch.iter().map(|delivery| delivery.token.slot).collect::<Vec<_>>(), [1, 2, 3]);
    core.finished(batch.lane, Outcome::retry("one of them"), at(0));
    for slot in 1..=3 {
        let single = core.start(at(0)).unwrap();
        assert_eq!((single.batch.len(), single.batch[0].token.slot, single.batch.attempt()), (1, slot, 1));
        core.finished(single.lane, Outcome::Done, at(0));
    }
    assert_eq!(core.start(at(0)).unwrap().batch[0].token.slot, 4);
}

#[test]
fn attempts_are_counted_and_the_last_one_is_the_end() {
    let mut core = core(Retry::fixed(Duration::from_millis(5)).max_attempts(2), 1);
    core.deliver(delivery(1, Some("a"), None), at(0));
    core.deliver(delivery(2, Some("a"), None), at(0));
    let first = core.start(at(0)).unwrap();
    core.finished(first.lane, Outcome::retry("busy"), at(0));
    assert!(core.start(at(0)).is_none() && actions(&mut core).burials.is_empty());
    core.tick(at(5));
    let second = core.start(at(0)).unwrap();
    assert_eq!(second.batch.attempt(), 2);
    core.finished(second.lane, Outcome::retry("still busy"), at(5));
    let burial = actions(&mut core).burials.remove(0);
    assert_eq!((burial.attempts, burial.death.reason.as_str()), (2, "gave up after 2 attempts"));
    assert_eq!(burial.death.error.as_deref(), Some("still busy"));
    assert!(core.start(at(0)).is_none() && settled(&mut core).is_empty(), "the key waits for the letter");
    core.buried(burial.lane, false, at(6));
    assert!(settled(&mut core).is_empty());
    core.tick(at(1_006));
    let again = actions(&mut core).burials.remove(0);
    core.buried(again.lane, true, at(1_006));
    assert_eq!(settled(&mut core), [1]);
    assert_eq!(core.start(at(0)).unwrap().batch[0].token.slot, 2);
}

#[test]
fn what_finishes_after_the_partition_was_lost_is_neither_settled_nor_overlapped() {
    let mut core = core(Retry::default(), 1);
    core.deliver(delivery(1, Some("a"), None), at(0));
    let old = core.start(at(0)).unwrap();
    core.lost(Partition(0), at(1));
    core.deliver(delivery(2, Some("a"), None), at(2));
    assert!(core.start(at(0)).is_none(), "the old run is still under way");
    core.finished(old.lane, Outcome::Done, at(3));
    assert!(settled(&mut core).is_empty());
    assert_eq!(core.start(at(0)).unwrap().batch[0].token.slot, 2);
}

#[test]
fn a_partition_is_released_when_what_runs_has_finished() {
    let mut core = core(Retry::default(), 1);
    (1..=2).for_each(|slot| core.deliver(delivery(slot, Some("a"), None), at(0)));
    let running = core.start(at(0)).unwrap();
    core.revoking(Partition(0));
    assert!(actions(&mut core).released.is_empty());
    core.finished(running.lane, Outcome::Done, at(1));
    assert!(core.start(at(0)).is_none(), "nothing new is begun");
    let actions = actions(&mut core);
    assert_eq!(actions.settle.iter().map(|token| token.slot).collect::<Vec<_>>(), [1]);
    assert_eq!(actions.released, [Partition(0)]);
    assert!(core.is_quiet());
}

fn with_parking(trials: Trials, seed: u64, ordered: bool) -> Core {
    let topic = "orders.billing.parking".parse().unwrap();
    let parking =
        Parking { topic, hold: Duration::from_secs(60), behind: 100, full_messages: 100, full_bytes: 1 << 20 };
    Core::new(Settings {
        concurrency: 10,
        batch: 1,
        retry: Retry::default(),
        ordered,
        assigned: false,
        parking: Some(parking),
        crashes: 5,
        most_begun: 100,
        trials,
        seed,
    })
}

/// A core of a process that shares `trials`, with a copy of a message that has this note.
fn with_suspect(note: &str, trials: &Trials, seed: u64) -> Core {
    let mut core = with_parking(trials.clone(), seed, false);
    let mut suspect = delivery(1, Some("a"), None);
    suspect.message.headers.insert(SUSPECT, note.to_owned());
    core.deliver(suspect, at(0));
    core
}

#[test]
fn messages_behind_a_handler_that_always_runs_are_parked_when_they_were_held_too_long() {
    let mut core = with_parking(Trials::default(), 1, true);
    core.deliver(delivery(1, Some("a"), None), at(0));
    let marker = actions(&mut core).markers.remove(0);
    core.marker_returned(marker.term, delivery(9, None, None).token, at(0));
    (2..=3).for_each(|slot| core.deliver(delivery(slot, Some("a"), None), at(0)));
    let first = core.start(at(0)).unwrap();
    core.tick(at(59_999));
    core.finished(first.lane, Outcome::Done, at(59_999));
    let second = core.start(at(59_999)).unwrap();
    core.tick(at(60_500));
    assert!(actions(&mut core).moves.is_empty(), "the first is with the handler");
    core.finished(second.lane, Outcome::Done, at(60_501));
    let parked = actions(&mut core).moves.into_iter().map(|parking| parking.moved.token.slot).collect::<Vec<_>>();
    assert_eq!(parked, [3]);
    assert!(core.start(at(60_501)).is_none(), "it comes again from there");
}

#[test]
fn a_dead_letter_counts_the_runs_and_the_crashes_but_the_first_which_is_not_certain() {
    for (note, attempts) in [("1 begins", 1), ("5", 5)] {
        let mut core = with_suspect(note, &Trials::default(), 1);
        let start = core.start(at(0)).unwrap();
        core.finished(start.lane, Outcome::dead("on purpose"), at(0));
        assert_eq!(actions(&mut core).burials.remove(0).attempts, attempts, "{note}");
    }
}

/// Two cores of one process, each with a copy of a message that was running in two crashes.
fn two_accused() -> [Core; 2] {
    let trials = Trials::default();
    [1, 2].map(|seed| with_suspect("2", &trials, seed))
}

#[test]
fn accused_messages_of_a_process_are_on_trial_one_at_a_time() {
    let [mut one, mut other] = two_accused();
    assert!(one.start(at(0)).is_none() && other.start(at(0)).is_none());
    assert!(actions(&mut other).moves.is_empty(), "another is on trial");
    let Move { moved, message } = actions(&mut one).moves.remove(0);
    assert_eq!(message.headers.get_str(SUSPECT), Some("2 begins"));
    one.moved(moved, true, at(1));
    let copy = Delivery { message, ..delivery(2, None, None) };
    one.deliver(copy, at(2));
    let tried = one.start(at(2)).unwrap();
    assert!(other.start(at(2)).is_none() && actions(&mut other).moves.is_empty());
    one.finished(tried.lane, Outcome::Done, at(3));
    assert!(other.start(at(3)).is_none());
    assert_eq!(actions(&mut other).moves.len(), 1, "now it is on trial");
}

#[test]
fn an_accused_message_that_takes_its_time_keeps_the_others_waiting_for_a_second() {
    let [mut one, mut other] = two_accused();
    one.start(at(0));
    let Move { moved, message } = actions(&mut one).moves.remove(0);
    one.moved(moved, true, at(1));
    one.deliver(Delivery { message, ..delivery(2, None, None) }, at(2));
    assert!(one.start(at(2)).is_some());
    one.tick(at(1_001));
    assert!(other.start(at(1_001)).is_none() && actions(&mut other).moves.is_empty());
    one.tick(at(1_002));
    other.start(at(1_002));
    assert_eq!(actions(&mut other).moves.len(), 1);
}

#[test]
fn a_message_with_the_note_that_it_begins_still_begins_while_lanes_drain() {
    let [mut core, _] = two_accused();
    let mut noted = delivery(2, None, None);
    noted.message.headers.insert(SUSPECT, "1 begins");
    core.deliver(noted, at(1));
    core.deliver(delivery(3, None, None), at(1));
    core.drain();
    assert_eq!(core.start(at(1)).unwrap().batch[0].token.slot, 2);
    assert!(core.start(at(1)).is_none());
}
