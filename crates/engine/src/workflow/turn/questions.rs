//! Questions to instances, which change nothing.

use std::time::Duration;

use partitura_workflow::Payload;

use super::{Abandoned, Turn};
use crate::code;
use crate::storage::history::{self, History};
use crate::wire::summary::{Filter, Status, Summary};
use crate::wire::{Command, ReplyBody};
use crate::wire::{sizes, waiting};
use crate::workflow::instance::Instance;

impl Turn<'_> {
    /// Answers a question. One for the outcome of an instance that has not ended is kept.
    pub(super) async fn answer(&mut self, question: Command) -> Result<(), Abandoned> {
        let (reply_to, body) = match question {
            Command::Query { name, args, reply_to } => {
                let closed = match &self.instance {
                    Instance::Closed { summary, .. } => Some(summary.run.clone()),
                    _ => None,
                };
                match (self.refused_with_workflow(), closed) {
                    (Some(refused), _) => (reply_to, refused),
                    (None, Some(run)) => (reply_to, self.query_ended(&run, &name, &args).await?),
                    (None, None) => (reply_to, self.query(&name, &args)),
                }
            }
            Command::Await { reply_to, stops } => match self.outcome(stops) {
                Some(body) => (reply_to, body),
                None => {
                    self.after.waiters.push(reply_to);
                    return Ok(());
                }
            },
            Command::Describe { reply_to } => (reply_to, self.describe().await?),
            Command::History { run, from, offset, reply_to } => (reply_to, self.history(run, (from, offset)).await?),
            Command::List { filter, reply_to } => (reply_to, self.list(&filter).await?),
            _ => return Ok(()),
        };
        self.after.replies.push((reply_to, body));
        Ok(())
    }

    /// `None`: it has not ended. That it is stopped counts if `stops`.
    fn outcome(&self, stops: bool) -> Option<ReplyBody> {
        match &self.instance {
            Instance::Absent | Instance::Unknown => Some(ReplyBody::NotFound),
            Instance::Closed { summary, .. } => summary.outcome().map(ReplyBody::Ended),
            Instance::Live(_) => self.after.ended.clone().map(ReplyBody::Ended),
            Instance::Stopped { summary, .. } => self.after.ended.clone().map(ReplyBody::Ended).or_else(|| {
                let reason = summary.status.reason().filter(|_| stops)?;
                Some(ReplyBody::Stopped { reason: reason.to_owned() })
            }),
        }
    }

    /// The answer to what needs code, if there is such an instance and its workflow is paused.
    fn refused_with_workflow(&self) -> Option<ReplyBody> {
        self.summary().and(self.paused_with_workflow()).map(ReplyBody::Refused)
    }

    fn query(&self, name: &str, args: &Payload) -> ReplyBody {
        match &self.instance {
            Instance::Live(live) => {
                match code::call(self.key, format!("query {name}"), || live.execution.query(name, args)) {
                    Ok(answer) => ReplyBody::Answer(answer),
                    Err(error) => ReplyBody::Refused(error.to_string()),
                }
            }
            Instance::Stopped { summary, .. } => match &summary.status {
                Status::Stopped { reason } => ReplyBody::Refused(reason.clone()),
                Status::Paused { reason } => ReplyBody::Refused(format!("{} is paused: {reason}", self.key)),
                // It was ended in this turn, without its code.
                _ => ReplyBody::Refused(format!("{} ends at this moment; ask again", self.key)),
            },
            Instance::Unknown | Instance::Absent | Instance::Closed { .. } => ReplyBody::NotFound,
        }
    }

    /// Asks the code of a run that has ended, in the state in which it ended: from its history, as long as that is
    /// kept.
    // `&mut`: as below.
    async fn query_ended(&mut self, run: &str, name: &str, args: &Payload) -> Result<ReplyBody, Abandoned> {
        let History { events, unreadable, .. } = history::load(&self.context.turn_store, self.key, run).await?;
        if let Some(problem) = unreadable {
            return Ok(ReplyBody::Refused(format!("{}: its history cannot be read: {problem}", self.key)));
        }
        let replayed = code::call(self.key, "run, replayed", || self.run_again(events));
        let (execution, _) = match replayed {
            Ok(replayed) => replayed,
            Err(stop) => return Ok(ReplyBody::Refused(stop.to_string())),
        };
        Ok(match code::call(self.key, format!("query {name}"), || execution.query(name, args)) {
            Ok(answer) => ReplyBody::Answer(answer),
            Err(error) => ReplyBody::Refused(error.to_string()),
        })
    }

    async fn describe(&mut self) -> Result<ReplyBody, Abandoned> {
        let Some(mut summary) = self.summary().cloned() else { return Ok(ReplyBody::NotFound) };
        if !summary.status.is_closed() {
            let mut history = match history::load(&self.context.turn_store, self.key, &summary.run).await {
                Ok(history) => history.events,
                Err(error) if error.is_retryable() => return Err(error.into()),
                // A fault of one answer must not keep the rest from being told.
                Err(_) => Vec::new(),
            };
            history.extend(self.recorded.iter().cloned());
            let (execution, notes) = match &self.instance {
                Instance::Live(live) => (Some(&live.execution), Some(&live.notes)),
                Instance::Stopped { notes, .. } => (None, Some(&**notes)),
                _ => (None, None),
            };
            let known_of = |seq| notes.and_then(|notes| notes.known_of(seq));
            (summary.waiting, summary.waits_for) = waiting::list(&history, execution, known_of);
            if self.ours_since.is_none_or(|since| since.elapsed() >= Duration::from_millis(waiting::UNHEARD)) {
                waiting::mark_unclaimed(&mut summary.waiting, self.now.as_millis());
            }
        }
        let summary = sizes::fitting(summary, sizes::page(&self.context.directory));
        Ok(ReplyBody::Description(Box::new(summary)))
    }

    // `&mut`: a live instance may be sent to another thread, but not be shared with one.
    async fn history(&mut self, run: Option<String>, from: (usize, usize)) -> Result<ReplyBody, Abandoned> {
        let Some(latest) = self.summary().map(|summary| summary.run.clone()) else { return Ok(ReplyBody::NotFound) };
        let run = run.unwrap_or_else(|| latest.clone());
        let mut events = history::load(&self.context.turn_store, self.key, &run).await?.events;
        if run == latest {
            events.extend(self.recorded.iter().cloned());
        }
        Ok(sizes::page_of_history(run, events, from, sizes::page(&self.context.directory)))
    }

    async fn list(&mut self, filter: &Filter) -> Result<ReplyBody, Abandoned> {
        let limit = filter.limit.clamp(1, 1_000);
        let (mut found, mut after) = (Vec::new(), filter.after.clone());
        loop {
            let (page, more) = history::page(&self.context.turn_store, &self.key.workflow, after.as_deref()).await?;
            after = page.last().map(|summary| summary.id.clone());
            let end = |summary: Summary| Summary { end: summary.end.filter(|_| filter.ends), ..summary };
            found.extend(page.into_iter().filter(|summary| filter.matches(summary)).map(end));
            if !more || found.len() >= limit {
                let more = more || found.len() > limit;
                found.truncate(limit);
                return Ok(sizes::page_of_list(found, more, sizes::page(&self.context.directory)));
            }
        }
    }
}
