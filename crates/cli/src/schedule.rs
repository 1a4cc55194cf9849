//! Schedules.

use partitura::{Overlap, ScheduleDescription, Timestamp};
use partitura_admin::{Admin, ScheduleAction};

use crate::act::who;
use crate::args::Format;
use crate::failure::Failure;
use crate::look::span;
use crate::output::Out;
use crate::schedule_args::{OverlapAsked, Schedule};

pub(crate) async fn run(admin: &Admin, asked: Schedule, out: &mut Out<'_>) -> Result<(), Failure> {
    let (id, action, done) = match asked {
        Schedule::List => return list(admin, out).await,
        Schedule::Describe { id } => return describe(&admin.schedule(&id).await?, out),
        Schedule::Pause { id, reason } => (id, ScheduleAction::Pause(reason), "it is paused"),
        Schedule::Resume { id } => (id, ScheduleAction::Resume, "it goes on with its next time"),
        Schedule::Trigger { id } => (id, ScheduleAction::Trigger, "an instance was started"),
        Schedule::Backfill { id, from, to, overlap } => {
            let (from, to) = (moment(admin, &from)?, moment(admin, to.as_deref().unwrap_or("0s"))?);
            (id, ScheduleAction::Backfill { from, to, overlap: overlap.into() }, "the times of that span are started")
        }
    };
    admin.act_on_schedule(&who(), &id, action).await?;
    match out.format {
        Format::Table => out.line(&format!("{id}: {done}")),
        Format::Ids => out.line(&id),
        Format::Json => out.json(&serde_json::json!({ "id": id, "outcome": done })),
    }
}

/// A moment as it is typed: RFC 3339, or how long ago it was.
fn moment(admin: &Admin, text: &str) -> Result<Timestamp, Failure> {
    if let Ok(moment) = text.parse() {
        return Ok(moment);
    }
    let wrong =
        || Failure::usage(format!("{text:?} is no moment; write 2026-01-31T00:00:00Z, or 7d for seven days ago"));
    let at = admin.now().saturating_sub(span(text).map_err(|_| wrong())?);
    i64::try_from(at).ok().and_then(|at| Timestamp::from_millisecond(at).ok()).ok_or_else(wrong)
}

impl From<OverlapAsked> for Overlap {
    fn from(asked: OverlapAsked) -> Self {
        match asked {
            OverlapAsked::Skip => Self::Skip,
            OverlapAsked::BufferOne => Self::BufferOne,
            OverlapAsked::BufferAll => Self::BufferAll,
            OverlapAsked::CancelOther => Self::CancelOther,
            OverlapAsked::TerminateOther => Self::TerminateOther,
            OverlapAsked::AllowAll => Self::AllowAll,
        }
    }
}

async fn list(admin: &Admin, out: &mut Out<'_>) -> Result<(), Failure> {
    let schedules = admin.schedules().await?;
    match out.format {
        Format::Json => out.json(&schedules),
        Format::Ids => schedules.iter().try_for_each(|schedule| out.line(&schedule.id)),
        Format::Table if schedules.is_empty() => out.line("there are no schedules"),
        Format::Table => {
            let row = |schedule: &ScheduleDescription| {
                vec![
                    schedule.id.clone(),
                    next(schedule),
                    schedule.started.to_string(),
                    schedule.running.len().to_string(),
                    schedule.missed.to_string(),
                    state(schedule),
                ]
            };
            let rows: Vec<_> = schedules.iter().map(row).collect();
            out.table(&["schedule", "next", "started", "running", "missed", "state"], &rows)
        }
    }
}

fn next(schedule: &ScheduleDescription) -> String {
    schedule.next.first().map_or_else(|| "-".to_owned(), ToString::to_string)
}

fn state(schedule: &ScheduleDescription) -> String {
    match (&schedule.problem, &schedule.paused) {
        (Some(problem), _) => format!("problem: {problem}"),
        (None, Some(reason)) => format!("paused: {reason}"),
        (None, None) => "ok".to_owned(),
    }
}

fn describe(schedule: &ScheduleDescription, out: &mut Out<'_>) -> Result<(), Failure> {
    match out.format {
        Format::Json => return out.json(schedule),
        Format::Ids => return out.line(&schedule.id),
        Format::Table => {}
    }
    let mut facts = vec![("schedule", schedule.id.clone()), ("state", state(schedule))];
    facts.extend(schedule.next.iter().map(|time| ("next", time.to_string())));
    facts.extend(schedule.running.iter().map(|start| ("running", start.id.clone())));
    facts.extend(schedule.waiting.iter().map(|id| ("waiting", id.clone())));
    let ended = |end: &Option<partitura::ActionEnd>| end.as_ref().map_or_else(String::new, |end| format!("{end:?}"));
    facts.extend(schedule.recent.iter().map(|start| ("ended", format!("{} {}", start.id, ended(&start.end)))));
    let counts = [("started", schedule.started), ("skipped", schedule.skipped), ("missed", schedule.missed)];
    facts.extend(counts.map(|(name, count)| (name, count.to_string())));
    facts.extend(schedule.remaining.map(|count| ("remaining", count.to_string())));
    facts.iter().try_for_each(|(name, fact)| out.line(&format!("{name:<10}{fact}")))
}
