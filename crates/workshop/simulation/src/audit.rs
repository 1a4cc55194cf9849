//! Notes what a world does, and checks it at once.

use bytes::Bytes;
use partitura::history::{Event, EventKind};
use partitura_broker::{Message, Space, Version};

use crate::rows::{body, mentions};
use crate::world::State;

impl State {
    /// Notes a committed turn: it must be the only one of its number, and the next one of its run.
    pub(crate) fn history_was_written(&mut self, key: &Bytes, version: Version, value: &Bytes) {
        let (run, turn) = key.split_at(key.len().saturating_sub(4));
        let turn = <[u8; 4]>::try_from(turn).map(u32::from_be_bytes).unwrap_or(u32::MAX);
        let run = key.slice(..run.len());
        let next = self.audit.turns.entry(run.clone()).or_default();
        let expected = *next;
        *next = turn.saturating_add(1);
        if turn == 0 {
            self.audit.begun.push(run.clone());
            self.no_start_is_early(&run);
            self.run_begins(&run);
        }
        let name = String::from_utf8_lossy(&run).replace('\0', "/");
        if version > 1 {
            self.violate("a turn is committed once", format!("turn {turn} of {name} was written again"));
        } else if turn != expected {
            self.violate("turns have no gaps", format!("turn {turn} of {name} follows turn {expected} − 1"));
        }
        let words = name.trim_end_matches('/');
        self.turn_was_written(value, words.rsplit('/').next().unwrap_or(words));
        if mentions(value, "\"Timer") {
            self.timers_are_never_early(&run, value);
        }
    }

    /// Notes the beginning of a run. One that was deleted begins again only by a copy of its start.
    fn run_begins(&mut self, run: &Bytes) {
        if !self.audit.deletions.begins(run) {
            return;
        }
        let name = String::from_utf8_lossy(run).replace('\0', "/");
        if self.plan.faultless {
            return self.violate("what is deleted does not come back", name);
        }
        let words = name.trim_end_matches('/');
        let run = words.rsplit('/').next().unwrap_or(words).to_owned();
        self.audit.calls.ended.remove(&run);
        self.audit.calls.trouble([run].into());
    }

    /// Notes a value of an instance that is deleted.
    pub(crate) fn was_deleted(&mut self, space: Space, key: &Bytes, value: Bytes) {
        match space {
            "history" => {
                let (run, turn) = key.split_at(key.len().saturating_sub(4));
                let (run, turn) = (key.slice(..run.len()), <[u8; 4]>::try_from(turn).map(u32::from_be_bytes));
                self.audit.turns.remove(&run);
                self.audit.deletions.turn(run, turn.unwrap_or(u32::MAX), value);
            }
            "instances" => {
                self.audit.deletions.instance(key);
                self.sabotage_the_deleted(key, &value);
            }
            _ => {}
        }
    }

    /// Checks that a run does not begin before its start was due, by the same clocks as a timer.
    fn no_start_is_early(&mut self, run: &Bytes) {
        let latest = self.latest_clock();
        let key = String::from_utf8_lossy(run).into_owned();
        let due = key.split('\0').nth(2).and_then(|id| self.audit.starts.get(id)).map(|start| start.due);
        if let Some(due) = due.filter(|due| *due > latest) {
            let text = format!("{} begins {} ms before it is due", key.replace('\0', "/"), due - latest);
            self.violate("no start is early", text);
        }
    }

    /// The latest time that the clock by which a delayed message is judged may show. If the broker itself is too early,
    /// the clock of a worker counts.
    fn latest_clock(&self) -> u64 {
        self.wall().as_millis() + if self.plan.early > 0 { self.ahead } else { 0 }
    }

    /// Checks that a timer does not fire before the clock has reached its time.
    fn timers_are_never_early(&mut self, run: &Bytes, value: &Bytes) {
        let latest = self.latest_clock();
        for event in body::<Vec<Event>>(value).unwrap_or_default() {
            match event.kind {
                EventKind::TimerStarted { seq, due_at_ms, .. } => {
                    self.audit.timers.insert((run.clone(), seq), due_at_ms);
                }
                EventKind::TimerFired { seq } => {
                    let due = self.audit.timers.get(&(run.clone(), seq)).copied().unwrap_or_default();
                    if due > latest {
                        let name = String::from_utf8_lossy(run).replace('\0', "/");
                        let text = format!("timer {seq} of {name} fires {} ms before it is due", due - latest);
                        self.violate("no timer is early", text);
                    }
                }
                _ => {}
            }
        }
    }

    /// Checks that an event that is published twice is the same both times.
    pub(crate) fn event_was_published(&mut self, message: Message) {
        if !message.topic.as_str().starts_with("workflow.") {
            return;
        }
        let id = message.id.as_str().to_owned();
        if self.audit.deletions.has_begun_again(id.split('.').next().unwrap_or_default()) {
            return;
        }
        let known = self.audit.events.entry(id.clone()).or_insert_with(|| message.payload.clone());
        if *known != message.payload {
            self.violate("an event is published as it was first", format!("{id} differs"));
        }
    }

    /// The workflows and ids of open instances that were deleted once.
    pub(crate) fn started_anew(&self) -> Vec<(String, String)> {
        let open = self.keys.space("instances").filter(|(_, value)| !mentions(value, "\"closed_at\""));
        let names = open.filter_map(|(key, _)| {
            let (workflow, id) = std::str::from_utf8(key).ok()?.split_once('\0')?;
            Some((workflow.to_owned(), id.to_owned()))
        });
        names.filter(|(workflow, id)| self.audit.deletions.has_had(workflow, id)).collect()
    }

    /// All committed events of an instance, those that are deleted first, in the order of its runs' keys.
    pub(crate) fn history(&self, workflow: &str, id: &str) -> Vec<Event> {
        let prefix = format!("{workflow}\0{id}\0");
        let rows = self.keys.space("history").filter(|(key, _)| key.starts_with(prefix.as_bytes()));
        let deleted = self.audit.deletions.turns_below(prefix.as_bytes());
        let values = deleted.chain(rows.map(|(_, value)| value));
        values.flat_map(|value| body::<Vec<Event>>(value).unwrap_or_default()).collect()
    }
}
