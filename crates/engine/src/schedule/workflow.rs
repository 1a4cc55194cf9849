//! The workflow that a schedule is.

use futures::future::{Either, select};
use partitura_workflow::jiff::Timestamp;
use partitura_workflow::{
    Cancelled, Channel, Cx, Other, Payload, PayloadError, Query, QueryError, ReceiveError, Signal, Sleep, Workflow,
};

use super::description::ScheduleDescription;
use super::plan::{Plan, plan, span};
use super::specification::ScheduleCommand;
use super::state::{Effect, Machine, State, WAITING};
use crate::client::handle::WorkflowHandle;
use crate::error::ClientError;
use crate::wire::end_signal::{ActionEnd, ToldEnd};

/// The channel of what clients ask of a schedule.
pub(super) const COMMANDS: &str = "commands";
/// The channel of the ends of instances.
const ENDS: &str = "ends";
const DESCRIBE: &str = "describe";
/// After how many events a run ends and the next begins.
const HISTORY: usize = 500;

/// The workflow that a [schedule](crate::Client::schedule) is. Workers run it that have
/// [`Worker::schedules`](crate::Worker::schedules).
#[derive(Debug, Default)]
pub struct ScheduleWorkflow(Option<Machine>);

/// How a schedule began, or goes on.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
#[serde(transparent)]
pub struct ScheduleInput(pub(crate) State);

impl Workflow for ScheduleWorkflow {
    const NAME: &'static str = "partitura.schedule";

    type Input = ScheduleInput;
    type Output = ();
    type Error = Cancelled;

    async fn run(cx: Cx<Self>, ScheduleInput(state): ScheduleInput) -> Result<(), Cancelled> {
        let schedule = Schedule { commands: cx.channel(COMMANDS), ends: cx.channel(ENDS), cx };
        let machine = Machine::new(schedule.cx.id(), state, schedule.cx.now());
        schedule.cx.state(|this| this.0 = Some(machine));
        schedule.run().await
    }

    fn query(&self, name: &str, _args: &Payload) -> Result<Payload, QueryError> {
        match (name, &self.0) {
            (DESCRIBE, Some(machine)) => Ok(Payload::encode(&machine.describe())?),
            _ => Err(QueryError::Unknown {
                workflow: Self::NAME.to_owned(),
                query: name.to_owned(),
                known: Self::queries().iter().map(|&name| name.to_owned()).collect(),
            }),
        }
    }

    fn describe(error: &Cancelled) -> String {
        error.to_string()
    }

    fn queries() -> &'static [&'static str] {
        &[DESCRIBE]
    }
}

/// The question where a schedule stands.
pub(super) fn description() -> Query<ScheduleWorkflow, ScheduleDescription> {
    Query::new(DESCRIBE, Payload::encode(&()))
}

/// Sends a command, and waits until the schedule has taken it.
///
/// # Errors
/// Those of a [confirmed](crate::Request::confirmed) signal.
///
/// # Cancel safety
/// Dropped, the command may or may not have been sent.
pub(super) async fn send(
    schedule: &WorkflowHandle<ScheduleWorkflow>,
    command: &ScheduleCommand,
) -> Result<(), ClientError> {
    schedule.signal(Signal::to_channel(COMMANDS, command)).confirmed().await
}

/// The code of a run.
struct Schedule {
    cx: Cx<ScheduleWorkflow>,
    commands: Channel<ScheduleCommand>,
    ends: Channel<ToldEnd>,
}

/// Why a schedule goes on.
enum Woken {
    Time,
    Command(ScheduleCommand),
    End(ToldEnd),
    /// It cannot be read: it is of a newer version.
    Unread(PayloadError),
}

impl Schedule {
    async fn run(self) -> Result<(), Cancelled> {
        let mut timer = None;
        loop {
            if self.cx.history_len() >= HISTORY {
                let next = self.with(|machine| machine.state.clone());
                if let Some(next) = next {
                    return self.cx.continue_as_new(ScheduleInput(next)).await;
                }
            }
            let now = self.cx.now();
            if let Some(Some(after)) = self.with(|machine| machine.needs_plan(now)) {
                self.plan(after).await?;
            }
            self.with(|machine| machine.wake(self.cx.now()));
            self.carry_out();
            // The actions may have used the plan up.
            if self.with(|machine| machine.needs_plan(self.cx.now())).flatten().is_some() {
                continue;
            }
            let wakes_at = self.with(|machine| machine.wakes_at()).flatten();
            match self.wait(&mut timer, wakes_at).await? {
                Woken::Time => timer = None,
                Woken::Command(command) => self.obey(command).await?,
                Woken::End(ToldEnd { id, end }) => {
                    let now = self.cx.now();
                    self.with(|machine| machine.ended(&id, end, now));
                }
                Woken::Unread(error) => {
                    self.with(|machine| machine.has_problem(format!("a command cannot be read: {error}")));
                }
            }
            self.carry_out();
        }
    }

    fn with<R>(&self, access: impl FnOnce(&mut Machine) -> R) -> Option<R> {
        self.cx.state(|this| this.0.as_mut().map(access))
    }

    async fn plan(&self, after: Timestamp) -> Result<(), Cancelled> {
        let (id, now) = (self.cx.id().to_owned(), self.cx.now());
        let Some(specification) = self.with(|machine| machine.state.specification().clone()) else { return Ok(()) };
        let planned = self.cx.step("plan", async move { plan((&id, &specification), after, now) }).await;
        let planned: Result<Plan, String> = planned.map_err(|error| error.to_string());
        if self.cx.is_cancelled() {
            return Err(Cancelled);
        }
        self.with(|machine| machine.take_plan(planned, now));
        Ok(())
    }

    async fn wait(&self, timer: &mut Option<(Timestamp, Sleep)>, until: Option<Timestamp>) -> Result<Woken, Cancelled> {
        if timer.as_ref().map(|(due, _)| *due) != until {
            *timer = until.map(|due| (due, self.cx.sleep_until(due)));
        }
        let told = select(self.ends.recv(), self.commands.recv());
        let told = match timer {
            None => told.await,
            Some((_, sleep)) => match select(sleep, told).await {
                Either::Left((fired, _)) => return fired.map(|()| Woken::Time),
                Either::Right((told, _)) => told,
            },
        };
        let told = match told {
            Either::Left((end, _)) => end.map(Woken::End),
            Either::Right((command, _)) => command.map(Woken::Command),
        };
        told.or_else(|error| match error {
            ReceiveError::Payload { error, .. } => Ok(Woken::Unread(error)),
            _ => Err(Cancelled),
        })
    }

    async fn obey(&self, command: ScheduleCommand) -> Result<(), Cancelled> {
        let now = self.cx.now();
        let _ = match command {
            ScheduleCommand::Pause { reason } => self.with(|machine| machine.pause(reason)),
            ScheduleCommand::Resume => self.with(|machine| machine.resume(now)),
            ScheduleCommand::Trigger => self.with(|machine| machine.trigger(now)),
            ScheduleCommand::Update(specification) => self.with(|machine| machine.update(*specification, now)),
            ScheduleCommand::Backfill { from, to, overlap } => {
                let Some(specification) = self.with(|machine| machine.state.specification().clone()) else {
                    return Ok(());
                };
                let times = self.cx.step("backfill", async move { span(&specification, (from, to), WAITING) }).await;
                if self.cx.is_cancelled() {
                    return Err(Cancelled);
                }
                self.with(|machine| match times {
                    Ok(times) => machine.backfill(times, overlap, now),
                    Err(error) => machine.has_problem(error.to_string()),
                })
            }
        };
        Ok(())
    }

    fn carry_out(&self) {
        for effect in self.with(|machine| machine.take_effects()).unwrap_or_default() {
            let Some(action) = self.with(|machine| machine.state.specification().clone()) else { return };
            let other = |id: &str| Other { workflow: action.workflow.clone(), id: id.to_owned() };
            let (id, sent) = match effect {
                Effect::Start(id) => {
                    let mut tags = action.tags.clone();
                    tags.push(format!("schedule:{}", self.cx.id()));
                    let sent = self.cx.start_other(other(&id), (action.input.clone(), tags), ENDS);
                    (id, sent)
                }
                Effect::Cancel(id) => {
                    let sent = self.cx.end_other(other(&id), false, "its schedule starts the next one");
                    (id, sent)
                }
                Effect::Terminate(id) => {
                    let sent = self.cx.end_other(other(&id), true, "its schedule starts the next one");
                    (id, sent)
                }
            };
            if let Err(error) = sent {
                let now = self.cx.now();
                self.with(|machine| machine.ended(&id, ActionEnd::Failed(error.to_string()), now));
            }
        }
    }
}
