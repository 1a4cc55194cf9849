//! The workflows of every world. Each comes with its model: how it has to end, said without the engine.

mod ensembles;
mod interrupted;
pub(crate) mod solos;
mod waiting;

use std::collections::BTreeSet;
use std::sync::Arc;

use futures::future::BoxFuture;
use partitura::history::{Definition, Event};
use partitura::{Client, Signal, TaskError, Worker, Workflow, WorkflowError};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::random::Random;
use crate::service::{ATTEMPTS, Call, PANIC, Refusal};
use crate::world::World;

/// One instance that a world starts.
pub(crate) struct Piece {
    pub(crate) id: String,
    pub(crate) workflow: &'static str,
    /// How it has to end, by its input, and where chance decides, by what the history says of that.
    pub(crate) model: Model,
    /// Starts it, does to it what is to be done, and waits for its end, unless nobody does.
    pub(crate) perform: Box<dyn FnOnce(Client, World) -> Performance + Send>,
}

/// What the client learns: the outcome, if it waits for it.
pub(crate) type Performance = BoxFuture<'static, Result<Option<Outcome>, String>>;

pub(crate) type Model = Arc<dyn Fn(&[Event]) -> Expected + Send + Sync>;

/// What a model says.
#[derive(Debug, PartialEq)]
pub(crate) struct Expected {
    pub(crate) outcome: Outcome,
    /// The tasks that are scheduled, in their order.
    pub(crate) calls: Vec<String>,
}

/// How an instance ends.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Outcome {
    Ok(Value),
    Err(Value),
    Cancelled(String),
    Other(String),
}

impl Outcome {
    fn ok(result: &impl Serialize) -> Self {
        Self::Ok(value(result))
    }

    fn err(error: &impl Serialize) -> Self {
        Self::Err(value(error))
    }
}

/// Inputs and outcomes of the catalogue are plain data.
fn value(of: &impl Serialize) -> Value {
    serde_json::to_value(of).unwrap_or(Value::Null)
}

/// How the workflows of the catalogue fail.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub(crate) enum Upset {
    #[error("refused: {0}")]
    Refused(String),
    #[error("busy")]
    Busy,
    #[error("panicked: {0}")]
    Panicked(String),
    #[error("cancelled")]
    Cancelled,
    #[error("{0}")]
    Other(String),
}

impl From<TaskError<Refusal>> for Upset {
    fn from(error: TaskError<Refusal>) -> Self {
        match error {
            TaskError::Failed(Refusal::No(name)) => Self::Refused(name),
            TaskError::Failed(Refusal::Busy) => Self::Busy,
            TaskError::Panicked(message) => Self::Panicked(message),
            TaskError::Cancelled => Self::Cancelled,
            other => Self::Other(other.to_string()),
        }
    }
}

impl From<partitura::Cancelled> for Upset {
    fn from(_: partitura::Cancelled) -> Self {
        Self::Cancelled
    }
}

impl Call {
    fn draw(random: &mut Random, number: usize) -> Self {
        Self {
            name: format!("c{number}"),
            fails: random.pick(&[0, 0, 0, 0, 1, 2, 9]),
            panics: random.chance(300),
            refused: random.chance(100),
            millis: random.pick(&[0, 0, 5, 300, 2_000]),
        }
    }

    fn draw_some(random: &mut Random, most: u64) -> Vec<Self> {
        (0..random.between(1, most) as usize).map(|number| Self::draw(random, number)).collect()
    }

    /// The model of the service.
    fn answer(&self) -> Result<String, Upset> {
        if self.fails >= ATTEMPTS {
            return Err(if self.panics { Upset::Panicked(PANIC.to_owned()) } else { Upset::Busy });
        }
        if self.refused { Err(Upset::Refused(self.name.clone())) } else { Ok(format!("{}.", self.name)) }
    }

    fn played(&self) -> String {
        format!("play({})", self.name)
    }
}

/// What a client does to an instance, after a while.
pub(crate) enum Act<W> {
    Signal(u64, Box<dyn FnOnce() -> Signal<W> + Send>),
    Cancel(u64),
    Terminate(u64),
}

/// Why the catalogue's instances are cancelled or terminated.
pub(crate) const REASON: &str = "the hall is closed";

fn piece<W: Workflow>(
    id: String,
    begin: u64,
    input: W::Input,
    acts: Vec<Act<W>>,
    model: impl Fn(&[Event]) -> Expected + Send + Sync + 'static,
) -> Piece
where
    W::Input: Clone,
{
    let name = id.clone();
    let perform = move |client: Client, world: World| -> Performance {
        Box::pin(async move {
            let pause = |ms: u64| tokio::time::sleep(std::time::Duration::from_millis(ms));
            pause(begin).await;
            let handle = client.workflow::<W>(name.clone());
            while let Err(error) = handle.start(input.clone()).await {
                world.lock().note("client", format_args!("starts {name} again: {error}"));
                pause(100).await;
            }
            for act in acts {
                let done = match act {
                    Act::Signal(after, signal) => {
                        pause(after).await;
                        handle.signal(signal()).await
                    }
                    Act::Cancel(after) => {
                        pause(after).await;
                        handle.cancel(REASON).await
                    }
                    Act::Terminate(after) => {
                        pause(after).await;
                        handle.terminate(REASON).await
                    }
                };
                done.map_err(|error| format!("the client gave up on {name}: {error}"))?;
            }
            // Whoever waits keeps an instance awake by asking: many are left alone.
            if world.lock().random.coin() {
                return Ok(None);
            }
            loop {
                match handle.result().await {
                    Ok(result) => return Ok(Some(Outcome::ok(&result))),
                    Err(WorkflowError::Failed(error)) => return Ok(Some(Outcome::err(&error))),
                    Err(WorkflowError::Cancelled(reason)) => return Ok(Some(Outcome::Cancelled(reason))),
                    Err(WorkflowError::Client(error)) => {
                        world.lock().note("client", format_args!("asks for {name} again: {error}"));
                        pause(100).await;
                    }
                    Err(
                        WorkflowError::Terminated(what) | WorkflowError::TimedOut(what) | WorkflowError::Unknown(what),
                    ) => {
                        return Ok(Some(Outcome::Other(what)));
                    }
                    Err(_) => return Ok(Some(Outcome::Other("an error of a newer engine".to_owned()))),
                }
            }
        })
    };
    Piece { id, workflow: W::NAME, model: Arc::new(model), perform: Box::new(perform) }
}

/// A workflow of the catalogue.
struct Entry {
    name: &'static str,
    definition: fn() -> Definition,
    register: fn(Worker) -> Worker,
}

const fn entry<W: Workflow>() -> Entry {
    Entry { name: W::NAME, definition: Definition::of::<W>, register: |worker| worker.workflow::<W>() }
}

fn entries() -> impl Iterator<Item = &'static Entry> {
    [solos::WORKFLOWS, ensembles::WORKFLOWS, waiting::WORKFLOWS, interrupted::WORKFLOWS].into_iter().flatten()
}

/// The definition of a workflow, to replay its histories.
pub(crate) fn definition(workflow: &str) -> Option<Definition> {
    entries().find(|entry| entry.name == workflow).map(|entry| (entry.definition)())
}

/// Has a worker conduct these workflows, and those that they start.
pub(crate) fn register(worker: Worker, workflows: &BTreeSet<&'static str>) -> Worker {
    let wanted = |entry: &&Entry| {
        let parents = match entry.name {
            "Sequence" => "Family",
            "Journey" => "Cascade",
            "Counted" => "Duet",
            _ => entry.name,
        };
        workflows.contains(entry.name) || workflows.contains(parents)
    };
    entries().filter(wanted).fold(worker, |worker, entry| (entry.register)(worker))
}

/// Draws one instance.
pub(crate) fn draw(random: &mut Random, number: usize) -> Piece {
    let id = format!("p{number}");
    let begin = random.pick(&[0, 10, 1_000, 5_000]);
    let draw = random.pick(&[
        solos::sequence,
        solos::steps,
        solos::timers,
        ensembles::together,
        ensembles::race,
        ensembles::family,
        ensembles::duet,
        ensembles::late,
        waiting::collected,
        waiting::counted,
        interrupted::saga,
        interrupted::cancelled,
        interrupted::cascade,
        interrupted::terminated,
    ]);
    draw(random, id, begin)
}
