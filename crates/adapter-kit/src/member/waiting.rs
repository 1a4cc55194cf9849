use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use partitura_broker::{Clock, CorrectedClock, Timestamp};
use tokio::time::Instant;

use crate::Claimed;

/// A message that comes after its time waits until no other such message has come for this long, and no longer than
/// `GATHER`. A broker that was away, or had no consumer, passes overdue messages on in an order of its own.
const QUIET: Duration = Duration::from_millis(25);
const GATHER: Duration = Duration::from_millis(500);
/// The broker can name a message this long after the moment at which it counts as stored: in a cluster, it gets its
/// time before the other servers have it.
const STORING: Duration = Duration::from_millis(50);
/// The clock is read this often, since it may have been set.
const LOOK: Duration = Duration::from_secs(1);

/// The messages that were read and are not given out yet. Those that are not due are held back, and join the others in
/// the order in which they fall due.
///
/// A message's place is the moment at which it joined the order of its key: when it fell due or, without a delay, when
/// the broker stored it. A message that was held back is given out once everything with a place before it has come, so
/// that the next owner, who finds all of them stored, gives out the same order. If no later message shows that, the
/// broker is asked. There are at most as many as a claim may hold.
#[derive(Debug)]
pub(super) struct Waiting<H> {
    /// `None`: the broker gives out nothing too early, and all in order.
    clock: Option<CorrectedClock>,
    /// The messages to be given out now.
    pub(super) ready: VecDeque<Claimed<H>>,
    /// The messages that are held back, and those with a place after them.
    held: BTreeMap<(Timestamp, u64), Held<H>>,
    arrived: u64,
    /// All messages that the broker stored before this moment have come.
    complete_before: Timestamp,
    /// The number of answers after which the first message still waits for earlier ones.
    inconclusive: u32,
    /// The broker is not asked before this moment.
    ask_after: Option<Instant>,
    overdue: Option<Overdue>,
}

/// When messages came after their time, since nothing did for a while.
#[derive(Debug, Clone, Copy)]
struct Overdue {
    first: Instant,
    last: Instant,
}

#[derive(Debug)]
struct Held<H> {
    claimed: Claimed<H>,
    /// The broker passed it on after its time.
    overdue: bool,
}

impl<H> Waiting<H> {
    pub(super) fn new(clock: Option<CorrectedClock>) -> Self {
        Self {
            clock,
            ready: VecDeque::new(),
            held: BTreeMap::new(),
            arrived: 0,
            complete_before: Timestamp::default(),
            inconclusive: 0,
            ask_after: None,
            overdue: None,
        }
    }

    pub(super) fn clear(&mut self) {
        self.ready.clear();
        self.held.clear();
    }

    /// Adds a message that arrived. `stored` is when the broker stored it, if that is known.
    pub(super) fn add(&mut self, claimed: Claimed<H>, stored: Option<Timestamp>) {
        let Some(clock) = &self.clock else { return self.ready.push_back(claimed) };
        let now = clock.now();
        // Not later than now, even if another clock is ahead: a message without a delay waits for none that is not due.
        let stored = stored.map_or(now, |stored| stored.min(now));
        self.complete_before = self.complete_before.max(stored);
        let place = claimed.message.not_before.unwrap_or(stored);
        let overdue = claimed.message.not_before.is_some() && place <= stored;
        let behind = self.held.first_key_value().is_some_and(|((first, _), _)| *first <= place);
        if claimed.message.not_before.is_none() && !behind {
            return self.ready.push_back(claimed);
        }
        if overdue {
            let now = Instant::now();
            self.overdue = Some(Overdue { first: self.overdue.map_or(now, |overdue| overdue.first), last: now });
        }
        self.arrived += 1;
        self.held.insert((place, self.arrived), Held { claimed, overdue });
    }

    /// The moment of a question to the broker, if there is one to ask: the first message that is held back is due, and
    /// earlier ones may still be to come.
    pub(super) fn question(&self) -> Option<Timestamp> {
        let ((due, _), _) = self.held.first_key_value()?;
        let now = self.clock.as_ref()?.now();
        let may_ask = self.ask_after.is_none_or(|after| after <= Instant::now());
        (may_ask && *due + STORING <= now && self.complete_before < *due).then_some(now)
    }

    /// Takes the broker's answer to a question of the moment `asked`: when it stored the first message that had not
    /// come then; nothing if there was no such message.
    pub(super) fn answered(&mut self, asked: Timestamp, first_missing: Option<Timestamp>) {
        self.complete_before = self.complete_before.max(first_missing.unwrap_or(asked - STORING));
        self.ask_later();
    }

    /// Waits before the next question, for longer after each one that has not made a message ready.
    pub(super) fn ask_later(&mut self) {
        self.ask_after = Some(Instant::now() + (STORING * (1 << self.inconclusive.min(6))).min(LOOK));
        self.inconclusive += 1;
    }

    /// The number of messages that are held back.
    pub(super) fn held_back(&self) -> usize {
        self.held.len()
    }

    /// Makes the messages ready that are due.
    pub(super) fn release(&mut self) {
        let Some(clock) = &self.clock else { return };
        let (now, gathering) = (clock.now().min(self.complete_before), self.gathering());
        while let Some(first) = self.held.first_entry()
            && first.key().0 <= now
            && !(first.get().overdue && gathering.is_some())
        {
            self.ready.push_back(first.remove().claimed);
            (self.inconclusive, self.ask_after) = (0, None);
        }
        if gathering.is_none() {
            self.overdue = None;
        }
    }

    /// The time for which overdue messages are still gathered.
    fn gathering(&self) -> Option<Duration> {
        let Overdue { first, last } = self.overdue?;
        let until = (last + QUIET).min(first + GATHER);
        Some(until.saturating_duration_since(Instant::now())).filter(|left| !left.is_zero())
    }

    /// The time until a message may become ready, or the broker may have to be asked.
    pub(super) fn wait(&self) -> Option<Duration> {
        let ((due, _), first) = self.held.first_key_value()?;
        let now = self.clock.as_ref()?.now();
        let gathering = self.gathering().filter(|_| first.overdue).unwrap_or_default();
        let asking = self.ask_after.map(|after| after.saturating_duration_since(Instant::now())).unwrap_or_default();
        Some((*due + STORING).since(now).max(gathering).max(asking).min(LOOK))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};

    use partitura_broker::{Message, Partition, TopicName};
    use tokio::time::advance;

    use super::*;

    #[derive(Debug, Default)]
    struct ManualClock(AtomicU64);

    impl Clock for ManualClock {
        fn now(&self) -> Timestamp {
            Timestamp::from_millis(self.0.load(Ordering::Relaxed))
        }
    }

    struct Fixture {
        clock: Arc<ManualClock>,
        waiting: Waiting<()>,
    }

    impl Fixture {
        fn at(now: u64) -> Self {
            let clock = Arc::new(ManualClock(AtomicU64::new(now)));
            Self { waiting: Waiting::new(Some(CorrectedClock::over(clock.clone()))), clock }
        }

        fn add(&mut self, id: &str, due: Option<u64>, stored: u64) {
            let mut message = Message::new(TopicName::new("t").expect("a name"), id, "");
            message.not_before = due.map(Timestamp::from_millis);
            let claimed = Claimed { partition: Partition(0), message, redelivered: false, handle: () };
            self.waiting.add(claimed, Some(Timestamp::from_millis(stored)));
        }

        /// Returns what is ready when everything that was stored until `now` has come.
        fn ready_at(&mut self, now: u64) -> Vec<String> {
            self.set(now);
            if let Some(asked) = self.waiting.question() {
                self.waiting.answered(asked, None);
            }
            self.ready()
        }

        /// Sets the clock so that the broker can name everything that was stored until `now`.
        fn set(&self, now: u64) {
            self.clock.0.store(now + STORING.as_millis() as u64, Ordering::Relaxed);
        }

        fn ready(&mut self) -> Vec<String> {
            self.waiting.release();
            self.waiting.ready.drain(..).map(|claimed| claimed.message.id.to_string()).collect()
        }
    }

    #[tokio::test(start_paused = true)]
    async fn early_messages_are_given_out_when_they_are_due_in_the_order_of_the_times() {
        let mut fixture = Fixture::at(100);
        fixture.add("third", Some(205), 100);
        fixture.add("first", Some(201), 100);
        fixture.add("second", Some(201), 100);
        assert_eq!(fixture.waiting.wait(), Some(Duration::from_millis(101) + STORING));
        assert!(fixture.ready_at(200).is_empty());
        assert_eq!(fixture.ready_at(201), ["first", "second"]);
        assert_eq!(fixture.ready_at(300), ["third"]);
        assert_eq!(fixture.waiting.wait(), None);
    }

    #[tokio::test(start_paused = true)]
    async fn messages_without_a_delay_pass_those_that_are_not_due() {
        let mut fixture = Fixture::at(100);
        fixture.add("delayed", Some(200), 100);
        fixture.add("plain", None, 101);
        // Another clock is far ahead.
        fixture.add("ahead", None, 999_999);
        assert_eq!(fixture.ready_at(101), ["plain", "ahead"]);
        assert_eq!(fixture.ready_at(200), ["delayed"]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_delayed_message_comes_behind_those_that_were_stored_before_it_was_due() {
        let mut fixture = Fixture::at(300);
        fixture.add("delayed", Some(200), 150);
        assert!(fixture.ready().is_empty(), "earlier ones may be waiting in the broker");
        fixture.add("earlier", None, 190);
        assert_eq!(fixture.ready(), ["earlier"]);
        fixture.add("later", None, 210);
        assert_eq!(fixture.ready(), ["delayed", "later"]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_delayed_message_waits_for_earlier_ones_for_as_long_as_the_broker_names_one() {
        let mut fixture = Fixture::at(100);
        fixture.add("delayed", Some(200), 150);
        fixture.set(199);
        assert_eq!(fixture.waiting.question(), None, "it is not due");
        let mut asked = 0;
        for now in (200..60_000).step_by(10) {
            fixture.set(now);
            advance(Duration::from_millis(10)).await;
            if let Some(moment) = fixture.waiting.question() {
                fixture.waiting.answered(moment, Some(Timestamp::from_millis(190)));
                asked += 1;
            }
            assert!(fixture.ready().is_empty(), "a message that was stored before it has not come");
        }
        assert!((50..70).contains(&asked), "{asked} questions in a minute");
        fixture.add("earlier", None, 190);
        assert_eq!(fixture.ready(), ["earlier"]);
        advance(LOOK).await;
        let moment = fixture.waiting.question().expect("another may be on its way");
        fixture.waiting.answered(moment, Some(Timestamp::from_millis(205)));
        assert_eq!(fixture.ready(), ["delayed"]);
        assert_eq!(fixture.waiting.question(), None);
    }

    #[tokio::test(start_paused = true)]
    async fn late_messages_are_sorted_before_they_are_given_out() {
        let mut fixture = Fixture::at(500);
        fixture.add("before", None, 205);
        fixture.add("second", Some(208), 210);
        fixture.add("behind", None, 310);
        assert_eq!(fixture.ready_at(500), ["before"]);
        advance(QUIET - Duration::from_millis(1)).await;
        fixture.add("first", Some(206), 211);
        assert!(fixture.ready_at(500).is_empty());
        advance(QUIET).await;
        assert_eq!(fixture.ready_at(500), ["first", "second", "behind"]);
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_waits_for_ever_while_messages_keep_coming_late() {
        let mut fixture = Fixture::at(500);
        let mut waited = Duration::ZERO;
        fixture.add("late", Some(1), 1);
        while fixture.ready_at(500).is_empty() {
            assert!(waited <= GATHER);
            fixture.add("more", Some(2), 2);
            advance(QUIET / 2).await;
            waited += QUIET / 2;
        }
    }
}
