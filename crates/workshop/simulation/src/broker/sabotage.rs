//! The changes that mutants make to messages.

use bytes::Bytes;
use partitura::Summary;
use partitura_broker::{Message, Result};
use serde_json::{Value, json};

use crate::agenda::Deed;
use crate::model::audit::is_start;
use crate::mutant::Mutant;
use crate::rows::body;
use crate::world::State;

impl State {
    /// Lets the mutant change a message. Returns whether to store it.
    pub(super) fn passes_the_mutant(&mut self, message: &mut Message) -> Result<bool> {
        let id = message.id.as_str();
        match self.mutant {
            Some(Mutant::LostPublish) => return Ok(!self.random.chance(10)),
            Some(Mutant::StepsForgotten) => return Ok(!id.contains(".o")),
            Some(Mutant::StopsForgotten) => return Ok(!id.contains(".w")),
            Some(Mutant::StepResultsLost) if id.ends_with(".r") => return Ok(!self.random.chance(200)),
            Some(Mutant::TasksDoubled) if message.topic.as_str().ends_with(".tasks") && self.random.chance(10) => {
                let copy = message.clone();
                self.later(1, Deed::Store { message: copy });
            }
            Some(Mutant::DeletedTasksAgain) if message.topic.as_str().ends_with(".tasks") => {
                self.audit.deletions.tasks.push(message.clone());
            }
            Some(Mutant::TimersEarly) if id.ends_with(".t") => message.not_before = None,
            Some(Mutant::StartsEarly) if is_start(message) => message.not_before = None,
            Some(Mutant::QuestionsAhead) if message.payload.starts_with(b"{\"Await\"") => message.not_before = None,
            Some(Mutant::QueriesRecorded) if message.payload.starts_with(b"{\"Query\"") => {
                let mut signal = message.clone();
                signal.id = format!("{id}.q").into();
                signal.payload = json!({"Signal": {"name": "asked", "payload": null}}).to_string().into();
                self.store(signal, false)?;
            }
            Some(Mutant::UpdatesAppliedTwice)
                if message.payload.starts_with(b"{\"Update\"") && self.random.chance(50) =>
            {
                if let Some(copy) = renamed(message) {
                    self.store(copy, false)?;
                }
            }
            Some(Mutant::ScheduleStartsTwice) => {
                if let Some(copy) = again(message) {
                    self.later(2_000, Deed::Store { message: copy });
                }
            }
            _ => {}
        }
        Ok(true)
    }

    /// Does to a deleted instance what the mutant says.
    pub(crate) fn sabotage_the_deleted(&mut self, key: &Bytes, summary: &Bytes) {
        match self.mutant {
            Some(Mutant::DeletedTasksAgain) => {
                let run = body::<Summary>(summary).map(|summary| summary.run).unwrap_or_default();
                let of_run = |message: &Message| message.id.as_str().starts_with(&run);
                let tasks: Vec<Message> =
                    self.audit.deletions.tasks.iter().filter(|task| of_run(task)).cloned().collect();
                tasks.into_iter().for_each(|message| self.later(1, Deed::Store { message }));
            }
            Some(Mutant::LastWordsForgotten) => {
                let id = key.split(|byte| *byte == 0).nth(1).map(<[u8]>::to_vec).unwrap_or_default();
                let of = |message: &Message| message.key.as_deref() == Some(&*id) && message.id.as_str().contains(".w");
                for topic in self.topics.values_mut() {
                    topic.queues.iter_mut().for_each(|queue| queue.delayed.retain(|_, message| !of(message)));
                }
            }
            _ => {}
        }
    }

    /// Turns the result of a task into one of the instance's present run.
    pub(super) fn confused(&self, message: &Message) -> Option<Bytes> {
        let workflow = message.topic.as_str().strip_prefix("workflow.")?.strip_suffix(".commands")?;
        let mut command: Value = serde_json::from_slice(&message.payload).ok()?;
        let key = [workflow.as_bytes(), b"\0", message.key.as_deref()?].concat();
        let (_, summary) = self.read("instances", key.into())?;
        *command.pointer_mut("/TaskDone/run")? = body::<Summary>(&summary).ok()?.run.into();
        Some(command.to_string().into())
    }
}

/// The same update under another id. It comes first, so that its sender is told the result of the second.
fn renamed(update: &Message) -> Option<Message> {
    let mut command: Value = serde_json::from_slice(&update.payload).ok()?;
    let id = command.pointer_mut("/Update/request/id")?;
    *id = format!("{}.again", id.as_str()?).into();
    let mut copy = update.clone();
    copy.id = format!("{}.again", update.id.as_str()).into();
    copy.payload = command.to_string().into();
    Some(copy)
}

/// A start that a schedule has asked for, as another start of the same instance.
fn again(message: &Message) -> Option<Message> {
    let mut command: Value = serde_json::from_slice(&message.payload).ok()?;
    command.pointer("/Start/end_signal")?;
    let run = command.pointer("/Start/run")?.as_str()?;
    let other = if run.ends_with('0') { '1' } else { '0' };
    let run = format!("{}{other}", run.get(..run.len() - 1)?);
    *command.pointer_mut("/Start/run")? = run.into();
    command.pointer_mut("/Start")?.as_object_mut()?.insert("policy".to_owned(), "RestartEnded".into());
    Some(Message { id: format!("{}!", message.id).into(), payload: command.to_string().into(), ..message.clone() })
}
