//! Instances whose workflow is paused: no code runs, what arrives is kept, and they go on when the workflow does.

use super::{Abandoned, Reading, Turn};
use crate::wire::summary::{Status, Summary};
use crate::wire::{Command, ReplyBody, ReplyTo};
use crate::workflow::instance::Instance;

/// The fate of a command while the workflow is paused.
enum Held {
    /// It is handled as ever: it asks only, or runs no code.
    AsEver,
    /// Its instance is paused before it is handled.
    Paused,
    /// Its instance is paused, and that is all.
    Only,
    /// It needs code that runs: its sender is told.
    Refused(Option<ReplyTo>),
}

impl Turn<'_> {
    /// Pauses the instance before a command is handled, if the workflow is paused. `false`: there is nothing left to
    /// handle.
    pub(super) async fn hold(&mut self, command: &Command) -> Result<bool, Abandoned> {
        let Some(why) = self.held.clone().filter(|_| self.inert.is_none()) else { return Ok(true) };
        let held = held(command);
        match held {
            Held::AsEver => return Ok(true),
            Held::Refused(sender) => {
                self.tell(sender, ReplyBody::Refused(self.paused_with_workflow().unwrap_or_default()));
                return Ok(false);
            }
            Held::Paused | Held::Only => {}
        }
        let may_be_new = matches!(command, Command::Start(_));
        if matches!(self.instance, Instance::Unknown) && !(may_be_new && self.optimistic) {
            self.load(Reading::Inert).await?;
        }
        let is_to_pause = self.summary().is_some_and(|summary| !summary.status.is_closed() && !self.is_paused());
        if is_to_pause {
            self.pause_now(of_workflow(&why), true);
        }
        Ok(matches!(held, Held::Paused))
    }

    /// Lets an instance go on that is paused with its workflow, which is not any more, before a command is handled.
    pub(super) async fn end_hold(&mut self, command: &Command) -> Result<(), Abandoned> {
        let is_held = self.summary().is_some_and(Summary::is_held);
        // A request to go on says why it does.
        let runs_code = matches!(held(command), Held::Paused | Held::Only);
        if is_held && runs_code && self.held.is_none() && self.inert.is_none() {
            self.resume().await?;
            // The next command is for the run that follows, if the code has ended this one.
            self.continue_as_new()?;
        }
        Ok(())
    }

    /// Says that the workflow is paused, if it is.
    pub(super) fn paused_with_workflow(&self) -> Option<String> {
        let why = self.held.as_ref()?;
        Some(format!("{} is paused with its workflow: {why}; resume the workflow first", self.key))
    }

    /// Where an instance stands that begins in this turn, if its code does not run.
    pub(super) fn status_at_start(&self) -> Option<Status> {
        let held = || self.held.as_ref().map(|why| Status::Paused { reason: of_workflow(why) });
        self.inert.clone().or_else(held)
    }
}

impl Summary {
    /// Whether it is paused with its workflow.
    pub(crate) fn is_held(&self) -> bool {
        self.paused_with_workflow && matches!(self.status, Status::Paused { .. })
    }
}

fn of_workflow(why: &str) -> String {
    format!("its workflow is paused: {why}")
}

fn held(command: &Command) -> Held {
    match command {
        command if command.asker().is_some() => Held::AsEver,
        // It is not due yet, and concerns no instance.
        Command::Start(start) if start.later.is_some() => Held::AsEver,
        Command::Terminate { .. } | Command::Pause { .. } | Command::Delete { .. } | Command::Expire { .. } => {
            Held::AsEver
        }
        Command::GoOn { request, .. } | Command::Reset { request, .. } => Held::Refused(request.reply_to.clone()),
        Command::Resume | Command::TryAgain { .. } => Held::Only,
        _ => Held::Paused,
    }
}
