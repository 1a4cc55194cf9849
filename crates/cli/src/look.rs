//! Verbs that only look.

use std::time::Duration;

use partitura::history::{Event, EventKind};
use partitura::{Status, StatusKind, Summary};
use partitura_admin::{Admin, Cause, InstanceFilter, Pace, Sample, Search, Wanted, is_failure, text};
use serde::Serialize;

use crate::args::{Format, History, Instance, List};
use crate::failure::Failure;
use crate::output::Out;
use crate::paused;

/// The largest page that is read at a time.
const PAGE: usize = 500;
/// How often `--follow` looks.
const FOLLOW: Duration = Duration::from_millis(500);

pub(crate) async fn status(admin: &Admin, out: &mut Out<'_>) -> Result<(), Failure> {
    let overview = admin.overview().await?;
    match out.format {
        Format::Json => out.json(&overview),
        Format::Ids => overview.workflows.iter().try_for_each(|counts| out.line(&counts.workflow)),
        Format::Table => {
            let mut heads = vec!["workflow"];
            heads.extend(StatusKind::ALL.map(StatusKind::name));
            let number = |(number, is_capped): (usize, bool)| format!("{number}{}", if is_capped { "+" } else { "" });
            let mut rows = Vec::new();
            for counts in &overview.workflows {
                let numbers = StatusKind::ALL.map(|kind| number(counts.count(kind)));
                rows.push(std::iter::once(counts.workflow.clone()).chain(numbers).collect());
            }
            out.table(&heads, &rows)?;
            if !overview.stopped.is_empty() {
                out.line("")?;
                causes(admin, &overview.stopped, out)?;
            }
            let pauses = admin.pauses().await?;
            if !pauses.is_empty() {
                out.line("")?;
                paused::table(admin, &pauses, out)?;
            }
            pace(&overview.sample, out)
        }
    }
}

fn pace(sample: &Sample, out: &mut Out<'_>) -> Result<(), Failure> {
    let row = |pace: &Pace| {
        let (p50, p95) = (text::span(pace.p50_ms), text::span(pace.p95_ms));
        vec![pace.name.clone(), pace.count.to_string(), p50, p95]
    };
    let rows: Vec<_> = sample.tasks.iter().chain(&sample.timers).map(row).collect();
    if rows.is_empty() {
        return Ok(());
    }
    out.line("")?;
    out.table(&["task, or late timer", "count", "p50", "p95"], &rows)
}

pub(crate) async fn stopped(admin: &Admin, out: &mut Out<'_>) -> Result<(), Failure> {
    let stopped = admin.stopped().await?;
    match out.format {
        Format::Json => out.json(&stopped),
        Format::Ids => stopped.iter().flat_map(|cause| &cause.examples).try_for_each(|id| out.line(id)),
        Format::Table if stopped.is_empty() => out.line("no instance is stopped"),
        Format::Table => causes(admin, &stopped, out),
    }
}

fn causes(admin: &Admin, causes: &[Cause], out: &mut Out<'_>) -> Result<(), Failure> {
    let now = admin.now();
    let row = |cause: &Cause| {
        vec![
            cause.count.to_string(),
            cause.workflow.clone(),
            cause.build.clone().unwrap_or_else(|| "unknown".to_owned()),
            text::relative(cause.oldest, now),
            cause.examples.first().cloned().unwrap_or_default(),
            text::cause(&cause.reason, 160),
        ]
    };
    let rows: Vec<_> = causes.iter().map(row).collect();
    out.table(&["stopped", "workflow", "build", "oldest start", "for example", "cause"], &rows)
}

/// Makes the filter of `list` and `purge`.
pub(crate) fn filter(asked: &List, now: u64) -> Result<InstanceFilter, Failure> {
    let mut filter = InstanceFilter::default();
    if let Some(name) = &asked.status {
        let kind = StatusKind::ALL.into_iter().find(|kind| kind.name() == name);
        let known = StatusKind::ALL.map(StatusKind::name).join(", ");
        filter.status.push(kind.ok_or_else(|| Failure::usage(format!("no status is called {name:?}: {known}")))?);
    }
    filter.workflow.clone_from(&asked.workflow);
    filter.id_prefix.clone_from(&asked.id);
    filter.tag.clone_from(&asked.tag);
    filter.build.clone_from(&asked.build);
    if let Some(parent) = &asked.parent {
        filter.parent = Some(parent.parse().map_err(|error| Failure::usage(format!("{error}")))?);
    }
    if let Some(since) = &asked.since {
        filter.started_from = Some(now.saturating_sub(span(since)?));
    }
    Ok(filter)
}

/// `30s`, `10m`, `1h`, `7d` in milliseconds.
pub(crate) fn span(text: &str) -> Result<u64, Failure> {
    let wrong = || Failure::usage(format!("{text:?} is no time; write 30s, 10m, 1h or 7d"));
    let unit = text.chars().next_back().ok_or_else(wrong)?;
    let number: u64 = text.strip_suffix(unit).and_then(|number| number.parse().ok()).ok_or_else(wrong)?;
    let size = match unit {
        's' => 1_000,
        'm' => 60_000,
        'h' => 3_600_000,
        'd' => 86_400_000,
        _ => return Err(wrong()),
    };
    Ok(number.saturating_mul(size))
}

/// Up to this many instances, read page by page.
pub(crate) async fn found(admin: &Admin, filter: InstanceFilter, limit: usize) -> Result<Vec<Summary>, Failure> {
    let mut search = Search { filter, after: None, limit: 0 };
    let mut found = Vec::new();
    loop {
        search.limit = limit.saturating_sub(found.len()).min(PAGE);
        if search.limit == 0 {
            return Ok(found);
        }
        let mut page = admin.list(&search).await?;
        found.append(&mut page.instances);
        if page.next.is_none() {
            return Ok(found);
        }
        search.after = page.next;
    }
}

pub(crate) async fn list(admin: &Admin, asked: &List, out: &mut Out<'_>) -> Result<(), Failure> {
    let now = admin.now();
    let found = found(admin, filter(asked, now)?, asked.limit).await?;
    match out.format {
        Format::Json => out.json(&found),
        Format::Ids => found.iter().try_for_each(|summary| out.line(&summary.id)),
        Format::Table => {
            let row = |summary: &Summary| {
                let lasted = summary.closed_at.unwrap_or(now).saturating_sub(summary.started_at);
                vec![
                    summary.status.name().to_owned(),
                    summary.workflow.clone(),
                    summary.id.clone(),
                    text::relative(summary.started_at, now),
                    text::span(lasted),
                    summary.status.reason().map_or_else(|| summary.tags.join(" "), |reason| text::cause(reason, 100)),
                ]
            };
            let rows: Vec<_> = found.iter().map(row).collect();
            out.table(&["status", "workflow", "id", "started", "lasted", "cause, or tags"], &rows)
        }
    }
}

/// An instance, as JSON has it.
#[derive(Serialize)]
struct Described<'a> {
    summary: &'a Summary,
    input: Option<&'a partitura::Payload>,
    events: usize,
    answered_by_worker: bool,
}

pub(crate) async fn describe(admin: &Admin, asked: &Instance, out: &mut Out<'_>) -> Result<(), Failure> {
    let instance = admin.instance(&asked.workflow, &asked.id, Wanted::default()).await?;
    let (summary, now) = (&instance.summary, admin.now());
    let input = instance.started.as_ref().map(|started| &started.input);
    match out.format {
        Format::Ids => return out.line(&summary.id),
        Format::Json => {
            let (events, answered_by_worker) = (instance.events, instance.is_answered);
            return out.json(&Described { summary, input, events, answered_by_worker });
        }
        Format::Table => {}
    }
    let mut facts = vec![
        ("instance", format!("{}/{}", summary.workflow, summary.id)),
        ("status", summary.status.name().to_owned()),
        ("run", summary.run.clone()),
        ("started", text::relative(summary.started_at, now)),
    ];
    facts.extend((summary.workflow_version > 1).then(|| ("version", summary.workflow_version.to_string())));
    facts.extend((summary.attempt > 1).then(|| ("attempt", summary.attempt.to_string())));
    facts.extend(summary.closed_at.map(|at| ("ended", text::relative(at, now))));
    facts.extend(summary.parent.iter().map(|parent| ("parent", format!("{}/{}", parent.workflow, parent.id))));
    facts.extend(summary.build.iter().map(|build| ("build", build.clone())));
    facts.extend((!summary.tags.is_empty()).then(|| ("tags", summary.tags.join(" "))));
    facts.push(("events", instance.events.to_string()));
    facts.extend(input.map(|input| ("input", text::line(text::payload(input), 2_000))));
    facts.extend(summary.status.reason().map(|reason| ("cause", reason.to_owned())));
    if let Status::Paused { reason } = &summary.status {
        facts.push(("paused", reason.clone()));
    }
    facts.extend(summary.end.iter().map(|end| ("end", text::line(&ending(end), 2_000))));
    for (name, fact) in facts {
        out.line(&format!("{name:<10}{fact}"))?;
    }
    for (at, waiting) in summary.waiting.iter().enumerate() {
        let name = if at == 0 { "waits for" } else { "" };
        out.line(&format!("{name:<10}{}", text::waiting(waiting, now)))?;
    }
    if !instance.is_answered && !summary.status.is_closed() {
        let note = "no worker of the workflow answered: what it waits for is read off its history";
        out.line(&format!("{:<10}{note}", "note"))?;
    }
    Ok(())
}

fn ending(end: &EventKind) -> String {
    match end {
        EventKind::WorkflowCompleted { result } => text::payload(result).to_owned(),
        EventKind::WorkflowFailed { failure } => failure.to_string(),
        end => end.to_string(),
    }
}

pub(crate) async fn history(admin: &Admin, asked: &History, out: &mut Out<'_>) -> Result<(), Failure> {
    let Instance { workflow, id } = &asked.instance;
    let (mut summary, mut turns) = admin.glance(workflow, id).await?;
    let mut next = None;
    loop {
        let page = admin.history(&summary, next.unwrap_or(0), usize::MAX).await?;
        let skipped = match (next, asked.last) {
            (None, Some(last)) => page.events.len().saturating_sub(last),
            _ => 0,
        };
        for (number, event) in (page.first..).zip(&page.events).skip(skipped) {
            if !asked.failed || is_failure(&event.kind) {
                print(number, event, out)?;
            }
        }
        next = Some(page.total);
        if !asked.follow || page.events.last().is_some_and(|event| ends(&event.kind)) {
            return Ok(());
        }
        // Counting turns is cheaper than reading them.
        let before = (summary.run, turns);
        loop {
            tokio::time::sleep(FOLLOW).await;
            (summary, turns) = admin.glance(workflow, id).await?;
            if (&summary.run, turns) != (&before.0, before.1) {
                break;
            }
        }
        if summary.run != before.0 {
            next = Some(0);
        }
    }
}

/// Prints the events of the latest run, one a line.
pub(crate) async fn export(admin: &Admin, asked: &Instance, out: &mut Out<'_>) -> Result<(), Failure> {
    let (summary, _) = admin.glance(&asked.workflow, &asked.id).await?;
    let page = admin.history(&summary, 0, usize::MAX).await?;
    page.events.iter().try_for_each(|event| json(event, out))
}

/// Whether nothing follows: a run that continues as new, or is tried again, is followed by another.
fn ends(kind: &EventKind) -> bool {
    kind.is_end() && !kind.hands_over()
}

fn print(number: usize, event: &Event, out: &mut Out<'_>) -> Result<(), Failure> {
    match out.format {
        // One a line: a history that is followed never ends.
        Format::Json => json(event, out),
        Format::Ids => out.line(&number.to_string()),
        Format::Table => {
            let at = partitura::contract::Timestamp::from_millis(event.at);
            out.line(&format!("{number:>6}  {at}  {event}"))
        }
    }
}

fn json(event: &Event, out: &mut Out<'_>) -> Result<(), Failure> {
    let text = serde_json::to_string(event);
    out.line(&text.map_err(|error| Failure::failed(format!("print as JSON: {error}")))?)
}

#[cfg(test)]
mod tests {
    use super::span;

    #[test]
    fn a_span_is_a_number_and_a_unit() {
        assert_eq!(span("90s").unwrap(), 90_000);
        assert_eq!(span("7d").unwrap(), 604_800_000);
        for wrong in ["", "7", "d", "-1h", "1.5h", "7w"] {
            span(wrong).expect_err(wrong);
        }
    }
}
