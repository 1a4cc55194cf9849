use std::collections::{BTreeMap, HashMap, VecDeque};
use std::time::Duration;

use partitura_broker::{Clock, CorrectedClock, Timestamp};
use tokio::time::Instant;

use crate::Claimed;

/// A message that the broker stored after its time is overdue: the broker was away, or is slow. It passes on what is
/// overdue in an order of its own. Overdue messages are gathered until none was stored for this long after the last one,
/// and no longer than `GATHER`.
const QUIET: Duration = Duration::from_millis(25);
const GATHER: Duration = Duration::from_millis(500);
/// The broker can name a message this long after the moment at which it counts as stored: in a cluster, it gets its
/// time before the other servers have it.
const STORING: Duration = Duration::from_millis(25);
/// The clock is read this often, since it may have been set.
const LOOK: Duration = Duration::from_secs(1);

/// The messages that were read and are not given out yet. Those that are not due are held back, and join the others in
/// the order in which they fall due.
///
/// A message's place is the moment at which it joined the order of its key: when it fell due or, if it has no delay or
/// is overdue, when the broker stored it. A message that was held back is given out once everything with a place before
/// it has come. If no later message shows that, the broker is asked. Of a key, overdue messages that follow each other
/// are sorted by their due times. All this depends on what is stored, and not on when it is read, so that the next owner
/// gives out the same order. There are at most as many messages as a claim may hold.
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
}

/// A place, and a number that tells messages of one place apart.
type Place = (Timestamp, u64);

#[derive(Debug)]
struct Held<H> {
    claimed: Claimed<H>,
    /// The moment at which it fell due, before the broker stored it.
    overdue: Option<Timestamp>,
}

/// The messages that are given out next, together.
#[derive(Debug)]
struct Group {
    last: Place,
    /// They are given out when everything has come that was stored before this moment.
    complete_before: Timestamp,
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
        }
    }

    pub(super) fn clear(&mut self) {
        self.ready.clear();
        self.held.clear();
    }

    /// Adds a message that arrived. `stored` is when the broker stored it, if that is known.
    pub(super) fn add(&mut self, claimed: Claimed<H>, stored: Option<Timestamp>) {
        let Some(clock) = &self.clock else { return self.ready.push_back(claimed) };
        let (now, due) = (clock.now(), claimed.message.not_before);
        let stored = stored.unwrap_or(now);
        let overdue = due.filter(|due| *due <= stored);
        // Not later than now, even if another clock is ahead: a message without a delay waits for none that is not due.
        let place = due.filter(|due| *due > stored).unwrap_or(if due.is_some() { stored } else { stored.min(now) });
        self.complete_before = self.complete_before.max(stored.min(now));
        let behind = self.held.first_key_value().is_some_and(|((first, _), _)| *first <= place);
        if due.is_none() && !behind {
            return self.ready.push_back(claimed);
        }
        self.arrived += 1;
        self.held.insert((place, self.arrived), Held { claimed, overdue });
    }

    /// The moment of a question to the broker, if there is one to ask: the first message that is held back is due, and
    /// earlier ones may still be to come.
    pub(super) fn question(&self) -> Option<Timestamp> {
        let (group, now) = (self.next_group()?, self.clock.as_ref()?.now());
        let may_ask = self.ask_after.is_none_or(|after| after <= Instant::now());
        let in_doubt = self.complete_before < group.complete_before;
        (may_ask && in_doubt && group.complete_before + STORING <= now).then_some(now)
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
        let now = clock.now().min(self.complete_before);
        while let Some(Group { last: (place, number), .. }) =
            self.next_group().filter(|group| group.complete_before <= now)
        {
            let rest = self.held.split_off(&(place, number + 1));
            let group = std::mem::replace(&mut self.held, rest);
            self.ready.extend(in_order_of_keys(group.into_values().collect()));
            (self.inconclusive, self.ask_after) = (0, None);
        }
    }

    /// The first message, and all up to the last overdue one that is gathered with it.
    fn next_group(&self) -> Option<Group> {
        let (first, held) = self.held.first_key_value()?;
        let mut group = Group { last: *first, complete_before: first.0 };
        if held.overdue.is_some() {
            group.complete_before = first.0 + QUIET;
            for (place, _) in self.held.iter().skip(1).filter(|(_, held)| held.overdue.is_some()) {
                if place.0 > group.complete_before || place.0 >= first.0 + GATHER {
                    break;
                }
                group = Group { last: *place, complete_before: place.0 + QUIET };
            }
        }
        Some(group)
    }

    /// The time until a message may become ready, or the broker may have to be asked.
    pub(super) fn wait(&self) -> Option<Duration> {
        let (group, now) = (self.next_group()?, self.clock.as_ref()?.now());
        let asking = self.ask_after.map(|after| after.saturating_duration_since(Instant::now())).unwrap_or_default();
        Some((group.complete_before + STORING).since(now).max(asking).min(LOOK))
    }
}

/// Sorts the overdue messages of each key by their due times, as far as no other message of the key is between them.
fn in_order_of_keys<H>(group: Vec<Held<H>>) -> impl Iterator<Item = Claimed<H>> {
    let mut open: HashMap<_, Vec<usize>> = HashMap::new();
    let mut runs = Vec::new();
    for (at, held) in group.iter().enumerate() {
        let key = &held.claimed.message.key;
        match held.overdue {
            Some(_) => open.entry(key).or_default().push(at),
            None => runs.extend(open.remove(key)),
        }
    }
    runs.extend(open.into_values());
    // A number of each message's place in the end.
    let mut places: Vec<usize> = (0..group.len()).collect();
    for run in runs {
        let mut sorted = run.clone();
        sorted.sort_by_key(|at| group[*at].overdue);
        sorted.into_iter().zip(run).for_each(|(from, to)| places[from] = to);
    }
    let mut all: Vec<_> = places.into_iter().zip(group).collect();
    all.sort_by_key(|(place, _)| *place);
    all.into_iter().map(|(_, held)| held.claimed)
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
    async fn overdue_messages_are_sorted_behind_those_that_were_stored_before_them() {
        let mut fixture = Fixture::at(500);
        fixture.add("before", None, 205);
        fixture.add("second", Some(190), 210);
        fixture.add("first", Some(180), 230);
        fixture.add("behind", None, 256);
        assert_eq!(fixture.ready(), ["before", "first", "second", "behind"]);
        fixture.add("third", Some(202), 290);
        fixture.add("fourth", Some(201), 310);
        assert!(fixture.ready().is_empty(), "more may have been stored within 25 ms");
        assert_eq!(fixture.ready_at(335), ["fourth", "third"]);
    }

    #[tokio::test(start_paused = true)]
    async fn an_overdue_message_does_not_pass_one_of_its_key_that_a_previous_owner_gave_out_before() {
        let (mut first, mut next) = (Fixture::at(500), Fixture::at(500));
        first.add("plain", None, 205);
        assert_eq!(first.ready(), ["plain"]);
        first.add("overdue", Some(190), 210);
        // The next owner finds a message of another key before them.
        next.add("delayed", Some(200), 150);
        next.add("plain", None, 205);
        next.add("overdue", Some(190), 210);
        next.add("between", None, 215);
        next.add("earlier", Some(189), 220);
        assert_eq!(next.ready(), ["delayed", "plain"]);
        assert_eq!(next.ready_at(500), ["overdue", "between", "earlier"]);
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_waits_for_ever_while_messages_keep_coming_late() {
        let mut fixture = Fixture::at(500);
        for stored in (500..).step_by(10) {
            fixture.add("late", Some(1), stored);
            if !fixture.ready_at(stored).is_empty() {
                break;
            }
            assert!(stored <= 500 + 2 * GATHER.as_millis() as u64);
        }
    }
}
