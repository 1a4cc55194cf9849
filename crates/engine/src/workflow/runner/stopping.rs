//! The fate of an instance that cannot go on.

use futures::FutureExt;
use futures::future::BoxFuture;
use partitura_broker::{Delivery, ErrorKind};
use partitura_lanes::Outcome;
use partitura_workflow::{Failure, FailureKind, StopReason};

use super::{Work, WorkflowRunner, failed};
use crate::storage::history;
use crate::storage::outbox::{is_refusal, publish};
use crate::wire::names::InstanceKey;
use crate::wire::{self, Command, Outcome as Ended, ReplyBody, Request};
use crate::workflow::effects;
use crate::workflow::turn::context::Context;
use crate::workflow::turn::lifecycle::Until;
use crate::workflow::turn::{Abandoned, Turn};

/// How often a turn whose code panics is taken again before the instance counts as stopped.
pub(super) const PANICS: u32 = 5;

impl WorkflowRunner {
    /// Decides what becomes of the commands of a turn that was given up.
    pub(super) async fn give_up(&self, key: &InstanceKey, work: Work<'_>, abandoned: Abandoned) -> Outcome {
        let [delivery] = work.deliveries else {
            // One by one, so that the command it is about is known.
            return Outcome::retry("to be taken one by one");
        };
        let stop = match abandoned {
            Abandoned::Failed(error) => {
                let command = wire::decode::<Command>(&delivery.message.payload).ok();
                return match command.as_ref().and_then(Command::asker) {
                    // A command that changes something waits until it can be carried out; a question is answered with
                    // the reason.
                    Some(asker) if !error.is_retryable() => {
                        self.send(key, vec![(asker.clone(), ReplyBody::Refused(error.to_string()))]).await;
                        Outcome::Done
                    }
                    None if is_final(error.kind()) => {
                        let reason = format!("workflow {key} stopped: it cannot be read: {error}");
                        self.stop(key, work, reason).await
                    }
                    _ => failed(key, &error),
                };
            }
            Abandoned::Unread(problem) => return self.leave_or_tell(key, delivery, problem).await,
            Abandoned::Refused(problem) => return self.leave_or_refuse(key, delivery, &problem).await,
            Abandoned::Undelivered(reason) => {
                return self.stop(key, work, format!("workflow {key} stopped: {reason}")).await;
            }
            Abandoned::Stopped(stop) => stop,
        };
        let of_handler = matches!(stop.reason, StopReason::HandlerPanicked { .. });
        if (of_handler || matches!(stop.reason, StopReason::Panicked { .. })) && work.attempt < PANICS {
            tracing::warn!(instance = %key, attempt = work.attempt, "{stop}");
            return Outcome::retry(stop.to_string());
        }
        if of_handler
            && let Ok(Command::Signal { request, .. } | Command::Update { request, .. }) =
                wire::decode(&delivery.message.payload)
        {
            return self.refuse_request(key, request, stop.to_string()).await;
        }
        self.stop(key, work, stop.to_string()).await
    }

    /// A signal or an update whose handler panics is not applied, and the instance goes on without it. Its sender is
    /// told; without one that waits, it becomes a dead letter.
    async fn refuse_request(&self, key: &InstanceKey, request: Request, problem: String) -> Outcome {
        tracing::error!(instance = %key, "a signal or an update is refused: {problem}");
        let Some(sender) = request.reply_to else { return Outcome::dead(problem) };
        self.send(key, vec![(sender, ReplyBody::Refused(problem))]).await;
        Outcome::Done
    }

    /// A command that this build does not know. Text that is no JSON at all is of no build.
    pub(super) async fn give_up_unknown(
        &self,
        key: &InstanceKey,
        work: Work<'_>,
        error: &serde_json::Error,
    ) -> Outcome {
        let [delivery] = work.deliveries else { return Outcome::retry("to be taken one by one") };
        let problem = format!("not a command to a workflow of this version: {error}");
        if error.is_data() {
            return self.leave_or_refuse(key, delivery, &problem).await;
        }
        Outcome::dead(problem)
    }

    /// A command whose payload is still encoded: this process does not have the codec, and others may. After a time a
    /// result is kept for code that can read it, and all else is refused.
    pub(super) async fn give_up_unreadable(
        &self,
        key: &InstanceKey,
        work: Work<'_>,
        command: Command,
        problem: String,
    ) -> Outcome {
        let [delivery] = work.deliveries else { return Outcome::retry("to be taken one by one") };
        if !self.is_last_chance(key, work) {
            return self.leave_or_tell(key, delivery, problem).await;
        }
        let problem = self.0.elsewhere.report(key, &problem);
        match command {
            Command::TaskDone { .. } | Command::StepDone { .. } | Command::ChildDone { .. } => {
                self.stop(key, work, format!("workflow {key} stopped: a result cannot be read: {problem}")).await
            }
            Command::Signal { request, .. } | Command::Update { request, .. } if request.reply_to.is_some() => {
                self.refuse_request(key, request, problem).await
            }
            _ => self.refuse(delivery, problem).await,
        }
    }

    /// Leaves a command to other builds for a time. A question is answered at once.
    async fn leave_or_tell(&self, key: &InstanceKey, delivery: &Delivery, problem: String) -> Outcome {
        let command = wire::decode::<Command>(&delivery.message.payload).ok();
        match command.as_ref().and_then(Command::asker) {
            Some(asker) => {
                self.send(key, vec![(asker.clone(), ReplyBody::Refused(problem))]).await;
                Outcome::Done
            }
            None => self.leave(key, delivery, problem),
        }
    }

    /// Whether what this build cannot read is reported now, instead of being left to others.
    pub(super) fn is_last_chance(&self, key: &InstanceKey, work: Work<'_>) -> bool {
        matches!(work.deliveries, [only] if self.0.elsewhere.is_over(key, only.message.id.as_str()))
    }

    /// Leaves a command to other builds for a time, and refuses it then. The commands behind it wait in their order.
    async fn leave_or_refuse(&self, key: &InstanceKey, delivery: &Delivery, problem: &str) -> Outcome {
        let elsewhere = &self.0.elsewhere;
        let message_id = delivery.message.id.as_str();
        if elsewhere.is_over(key, message_id) {
            return self.refuse(delivery, elsewhere.report(key, problem)).await;
        }
        self.leave(key, delivery, problem.to_owned())
    }

    /// Leaves a command to other builds for a time.
    fn leave(&self, key: &InstanceKey, delivery: &Delivery, problem: String) -> Outcome {
        self.0.elsewhere.begin(key, delivery.message.id.as_str(), &problem);
        Outcome::retry(problem)
    }

    /// Keeps the input, and notes that the code cannot go on. It is tried again later.
    pub(super) async fn stop(&self, key: &InstanceKey, work: Work<'_>, reason: String) -> Outcome {
        self.stop_until(key, work, reason, Until::TriedAgain).await
    }

    /// Keeps the input, and notes that the code cannot go on. Boxed, since every turn would be as large as this one,
    /// which is rare.
    pub(super) fn stop_until<'a>(
        &'a self,
        key: &'a InstanceKey,
        work: Work<'a>,
        reason: String,
        until: Until,
    ) -> BoxFuture<'a, Outcome> {
        async move {
            let [delivery] = work.deliveries else { return Outcome::retry("to be taken one by one") };
            let Ok(command) = self.0.context.directory.payloads().decode::<Command>(&delivery.message.payload) else {
                return Outcome::dead("not a command to a workflow of this version");
            };
            let reason = match self.builds(key).await {
                Some(builds) => format!("{reason}\n  {builds}"),
                None => reason,
            };
            tracing::error!(instance = %key, "{reason}");
            let input = (command, delivery.message.id.as_str());
            match Turn::stopped(&self.0.context, key, input, (reason, until)).await {
                Ok(turn) => self.commit(key, work, turn).await.unwrap_or_else(|error| failed(key, &error)),
                // Its summary is damaged: nothing can be noted there, and the command must not be lost.
                Err(Abandoned::Failed(error)) if error.kind() == ErrorKind::Corrupt => {
                    self.refuse(delivery, error.to_string()).await
                }
                Err(Abandoned::Failed(error)) => failed(key, &error),
                Err(Abandoned::Refused(problem) | Abandoned::Undelivered(problem)) => {
                    self.refuse(delivery, problem).await
                }
                Err(Abandoned::Unread(problem)) => Outcome::retry(problem),
                Err(Abandoned::Stopped(stop)) => Outcome::retry(stop.to_string()),
            }
        }
        .boxed()
    }

    /// Which builds took the instance's turns, as far as that can be read.
    async fn builds(&self, key: &InstanceKey) -> Option<String> {
        let Context { turn_store, build, .. } = &self.0.context;
        let (_, summary) = history::summary(turn_store, key).await.ok()??;
        let builds = history::builds(turn_store, key, &summary.run).await.ok()?;
        (!builds.is_empty())
            .then(|| format!("its turns were taken by builds {}; this is build {build}", builds.join(", ")))
    }

    /// Makes a command a dead letter. The parent of a child that can never start is told.
    pub(super) async fn refuse(&self, delivery: &Delivery, problem: String) -> Outcome {
        if let Ok(Command::Start(start)) = wire::decode::<Command>(&delivery.message.payload)
            && let Some(parent) = &start.parent
        {
            let outcome = Ended::Err(Failure::new(FailureKind::Unknown, problem.clone()));
            let told = match effects::child_done(&self.0.context.directory, parent, &start.run, outcome) {
                Ok(done) => publish(&*self.0.producer, vec![done]).await,
                Err(error) => Err(error),
            };
            match told {
                Err(error) if error.is_retryable() => return Outcome::retry(error.to_string()),
                Err(error) => tracing::error!(%error, "the parent of a child that cannot start is not told"),
                Ok(()) => {}
            }
        }
        Outcome::dead(problem)
    }
}

/// Whether reading the instance again gives the same error.
fn is_final(kind: ErrorKind) -> bool {
    kind == ErrorKind::Corrupt || is_refusal(kind)
}
