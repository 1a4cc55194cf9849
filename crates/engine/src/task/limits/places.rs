use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use partitura_workflow::Limit;
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::meter::Meter;

/// A task that would wait for longer than this goes back to the broker at once.
const LONG: Duration = Duration::from_secs(5);
/// From how many meters on those that are idle are removed.
const METERS: usize = 64;

/// One limit, for one key.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Slot {
    /// Which limit.
    pub(super) limit: usize,
    /// The value of the argument, where the limit is for each.
    pub(super) key: String,
}

/// Tasks of one service that wait for the same slots.
#[derive(Debug)]
struct Group<P> {
    service: String,
    slots: Vec<Slot>,
    waiters: VecDeque<oneshot::Sender<P>>,
}

/// The running and the waiting: of each a `P`.
#[derive(Debug)]
pub(super) struct Places<P> {
    meters: HashMap<Slot, Meter>,
    /// In the order in which they are served next.
    groups: VecDeque<Group<P>>,
    alarm: Option<Instant>,
    /// Up to how many meters nothing is removed.
    calm: usize,
}

pub(super) enum Entered<P> {
    Taken(Vec<Slot>),
    Waits(oneshot::Receiver<P>),
    Back(Duration),
}

impl<P> Default for Places<P> {
    fn default() -> Self {
        Self { meters: HashMap::new(), groups: VecDeque::new(), alarm: None, calm: 0 }
    }
}

/// Those that are let in: what each counts against, and whom to tell.
pub(super) type Admitted<P> = Vec<(Vec<Slot>, oneshot::Sender<P>)>;

impl<P> Places<P> {
    /// Lets a task run, wait, or go back. Up to `room` wait.
    pub(super) fn enter(
        &mut self,
        limits: &[Limit],
        (service, slots): (&str, Vec<Slot>),
        room: usize,
        now: Instant,
    ) -> Entered<P> {
        self.forget_those_that_left();
        let group = self.groups.iter().position(|group| group.service == service && group.slots == slots);
        let Some(full) = self.full(limits, &slots, now).cloned() else {
            // Nobody waits for what there is room for, apart from those of the same group who wait for an alarm.
            if group.is_none() {
                self.take(limits, &slots, false, now);
                return Entered::Taken(slots);
            }
            return self.queue(group, service, slots);
        };
        let ahead = group.map_or(0, |at| self.groups[at].waiters.len());
        let others = || self.groups.iter().filter(|group| group.service == service);
        let waiting: usize = others().map(|group| group.waiters.len()).sum();
        // A share, so that there is always a place for another group.
        let share = (room / (others().count() + 1)).max(1);
        let meter = self.meters.entry(full.clone()).or_insert_with(|| Meter::new(now));
        let limit = &limits[full.limit];
        if waiting >= room || ahead >= share || (ahead > 0 && meter.wait(limit, ahead, now) > LONG) {
            return Entered::Back(meter.send_back(limit, ahead, now));
        }
        self.queue(group, service, slots)
    }

    fn queue(&mut self, group: Option<usize>, service: &str, slots: Vec<Slot>) -> Entered<P> {
        let (waiter, permit) = oneshot::channel();
        match group {
            Some(at) => self.groups[at].waiters.push_back(waiter),
            None => {
                self.groups.push_back(Group { service: service.to_owned(), slots, waiters: [waiter].into() });
            }
        }
        Entered::Waits(permit)
    }

    /// The first slot without room.
    fn full<'s>(&self, limits: &[Limit], slots: &'s [Slot], now: Instant) -> Option<&'s Slot> {
        slots.iter().find(|slot| self.meters.get(slot).is_some_and(|meter| !meter.has_room(&limits[slot.limit], now)))
    }

    fn take(&mut self, limits: &[Limit], slots: &[Slot], contended: bool, now: Instant) {
        for slot in slots {
            let meter = self.meters.entry(slot.clone()).or_insert_with(|| Meter::new(now));
            meter.take(&limits[slot.limit], contended, now);
        }
    }

    pub(super) fn release(&mut self, slots: &[Slot], now: Instant) {
        for slot in slots {
            if let Some(meter) = self.meters.get_mut(slot) {
                meter.release();
            }
        }
        if self.meters.len() > self.calm.max(METERS) {
            self.meters.retain(|_, meter| !meter.is_idle(now));
            self.calm = self.meters.len().saturating_mul(2);
        }
    }

    /// Takes those out of the groups, one of each in turn, that there is room for.
    pub(super) fn admit(&mut self, limits: &[Limit], now: Instant) -> Admitted<P> {
        self.forget_those_that_left();
        let mut admitted = Vec::new();
        let mut passed = 0;
        while passed < self.groups.len() {
            let Some(mut group) = self.groups.pop_front() else { break };
            if self.full(limits, &group.slots, now).is_some() {
                // The order of those that are passed over stays as it is.
                self.groups.push_back(group);
                passed += 1;
                continue;
            }
            if let Some(waiter) = group.waiters.pop_front() {
                self.take(limits, &group.slots, true, now);
                admitted.push((group.slots.clone(), waiter));
            }
            if !group.waiters.is_empty() {
                self.groups.push_back(group);
            }
            passed = 0;
        }
        admitted
    }

    /// When to look again for the sake of a rate, if nobody does so already.
    pub(super) fn alarm(&mut self, limits: &[Limit], now: Instant) -> Option<Instant> {
        let moments = self.groups.iter().filter_map(|group| {
            let mut due = now;
            for slot in &group.slots {
                let Some(meter) = self.meters.get(slot) else { continue };
                let limit = &limits[slot.limit];
                if !meter.is_below(limit) {
                    // It waits for one that runs.
                    return None;
                }
                due = due.max(meter.due(limit));
            }
            Some(due)
        });
        let at = moments.min()?;
        if self.alarm.is_some_and(|alarm| alarm <= at) {
            return None;
        }
        self.alarm = Some(at);
        Some(at)
    }

    pub(super) fn is_alarm_due(&self, now: Instant) -> bool {
        self.alarm.is_some_and(|alarm| alarm <= now)
    }

    pub(super) fn alarm_rang(&mut self, at: Instant) {
        self.alarm.take_if(|alarm| *alarm <= at);
    }

    fn forget_those_that_left(&mut self) {
        for group in &mut self.groups {
            group.waiters.retain(|waiter| !waiter.is_closed());
        }
        self.groups.retain(|group| !group.waiters.is_empty());
    }
}
