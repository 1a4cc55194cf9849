//! The record of a turn becomes its commit.

use partitura_broker::{Expect, Message, Put, Result, Unit};
use partitura_workflow::{Event, EventKind};

use super::Turn;
use crate::storage::expiries::Expiry;
use crate::storage::history::Place;
use crate::storage::{children, expiries, history, index};
use crate::telemetry::propagator::carry;
use crate::wire::events;
use crate::wire::summary::Summary;
use crate::workflow::effects::{self, Sender};
use crate::workflow::instance::{Delay, Instance, Live, Notes};

impl Turn<'_> {
    /// Turns the recorded events into a row of the history, the messages that they ask for, and the summary.
    pub(super) fn seal(&mut self) -> Result<()> {
        if self.recorded.is_empty() && self.summarize.is_none() {
            return Ok(());
        }
        let trace = self.outgoing();
        let recorded = std::mem::take(&mut self.recorded);
        let (summary, next_turn, notes) = match &mut self.instance {
            Instance::Live(live) => {
                let Live { summary, next_turn, notes, .. } = &mut **live;
                (summary, next_turn, notes)
            }
            Instance::Stopped { summary, next_turn, notes } => (&mut **summary, next_turn, &mut **notes),
            _ => return Ok(()),
        };
        note_beforehand(notes, &recorded);
        if recorded.iter().any(|event| event.kind.is_end())
            && let Some(due) = self.context.retention.due(notes.latest)
        {
            summary.expires_at = Some(due);
            let partition = self.context.partition(self.key);
            let expiry = Expiry::new(self.key, &summary.run, due);
            write(&mut self.unit, expiries::put(&self.key.workflow, partition, &expiry));
            self.after.expires = self.after.expires.or(Some(expiry.due));
        }
        if summary.status.is_closed() {
            summary.detached = notes.detached.iter().copied().collect();
        }
        let turn = *next_turn;
        *next_turn += 1;
        if is_found_otherwise(summary, &self.context.build, &recorded) {
            self.summarize.get_or_insert(Expect::Any);
        }
        let payloads = self.context.turn_store.payloads();
        let before = (!notes.unread && turn > 0).then_some(notes.events);
        let place = Place { turn, before, build: &self.context.build };
        let row = history::append(payloads, self.key, &summary.run, place, &recorded);
        let grown = (recorded.len(), row.value.as_ref().map_or(0, bytes::Bytes::len));
        notes.grow(grown);
        self.context.history_limits.warn(self.key, notes, grown);
        write(&mut self.unit, row);
        if let Some(expect) = self.summarize.take() {
            write(&mut self.unit, history::summarize(payloads, self.key, expect, summary));
            index::update(&mut self.unit, summary, write);
        }
        let mut messages: Vec<Message> = Vec::with_capacity(recorded.len());
        for event in &recorded {
            let (directory, trace) = (&self.context.directory, trace.as_ref());
            let sender = Sender { directory, key: self.key, summary, notes, trace };
            sender.add_messages(event, &mut messages)?;
            self.strangers.extend(effects::destination(&event.kind).filter(|to| !self.context.directory.knows(to)));
            if event.kind.is_command() || event.kind.is_end() {
                notes.record(self.key, &summary.run, event);
            }
        }
        let ended = notes.take_ended();
        for seq in notes.take_changed_children() {
            write(&mut self.unit, children::put(self.key, &summary.run, seq, notes.children.get(&seq)));
        }
        let cancelled = notes.take_cancelled_delays();
        let run = summary.run.clone();
        self.add_events(&recorded, (&run, turn), &mut messages);
        messages.iter_mut().for_each(|message| carry(message, trace.as_ref()));
        self.unit.publish.append(&mut messages);
        self.take_back(&run, cancelled);
        self.end_tasks(&run, ended);
        Ok(())
    }

    /// Adds what others are told of the turn.
    fn add_events(&self, recorded: &[Event], (run, turn): (&str, u32), messages: &mut Vec<Message>) {
        if self.context.events.is_heard() {
            let (topic, numbered) = (&self.context.events.name, recorded.iter().enumerate());
            let of = |(index, event)| events::of_workflow(topic, self.key, (run, turn, index), event);
            messages.extend(numbered.map(of));
        }
    }

    /// Has delayed messages taken back that nobody needs any more, where the broker can.
    fn take_back(&mut self, run: &str, cancelled: Vec<(u32, Delay)>) {
        if !self.context.delay_cancellation.is_possible() {
            return;
        }
        // A message beyond the broker's horizon was sent for an earlier moment: it comes then, and ends there.
        let horizon = self.context.directory.horizon(self.now).as_millis();
        let due_later = |(_, delay): &(u32, Delay)| delay.due > self.now.as_millis() && delay.due <= horizon;
        let commands = &self.context.topics.commands;
        let delayed = |(seq, delay)| effects::delayed(commands, self.key, run, seq, delay);
        self.after.cancelled_delays.extend(cancelled.into_iter().filter(due_later).map(delayed));
    }
}

/// Notes what is known ahead of the other events of a turn: the messages of these say it.
fn note_beforehand(notes: &mut Notes, recorded: &[Event]) {
    for event in recorded {
        notes.latest = notes.latest.max(event.at);
        if let EventKind::Detached { seq } = event.kind {
            notes.detach(seq);
        }
    }
}

/// Notes what the turn changes by which an instance is found, beside where it stands. Whether that is anything.
pub(super) fn is_found_otherwise(summary: &mut Summary, build: &str, recorded: &[Event]) -> bool {
    let mut is_changed = summary.build.as_deref() != Some(build);
    if is_changed {
        summary.build = Some(build.to_owned());
    }
    for event in recorded {
        match &event.kind {
            EventKind::AttributeSet { name, value: Some(value), .. } => {
                summary.attributes.insert(name.clone(), value.clone());
            }
            EventKind::AttributeSet { name, value: None, .. } => {
                summary.attributes.remove(name);
            }
            EventKind::VersionMarked { change, version, .. } => {
                summary.versions.insert(change.clone(), *version);
            }
            _ => continue,
        }
        is_changed = true;
    }
    is_changed
}

/// Adds a write. Of two to the same key the later value counts, on the earlier condition: a unit names a key once.
pub(super) fn write(unit: &mut Unit, put: Put) {
    match unit.put.iter_mut().find(|earlier| earlier.space == put.space && earlier.key == put.key) {
        Some(earlier) => earlier.value = put.value,
        None => unit.put.push(put),
    }
}
