//! Verbs that do something.

use partitura::StartPolicy;
use partitura_admin::{Action, Admin, arguments};

use crate::args::{Act, Bulk, Fork, Format, Instance, Named, Reasoned, Start, Update};
use crate::failure::Failure;
use crate::look;
use crate::output::Out;

/// Names the person who acts, for the record.
pub(crate) fn who() -> String {
    let user = std::env::var("USER").unwrap_or_else(|_| "unknown".to_owned());
    format!("{user}, by the command")
}

/// Does something to one instance, and says that it is done.
pub(crate) async fn act(
    admin: &Admin,
    instance: &Instance,
    action: Action,
    done: &str,
    out: &mut Out<'_>,
) -> Result<(), Failure> {
    let Instance { workflow, id } = instance;
    admin.act(&who(), (workflow, id, None), action).await?;
    said(workflow, id, done, out)
}

fn said(workflow: &str, id: &str, done: &str, out: &mut Out<'_>) -> Result<(), Failure> {
    match out.format {
        Format::Table => out.line(&format!("{workflow}/{id}: {done}")),
        Format::Ids => out.line(id),
        Format::Json => out.json(&serde_json::json!({ "workflow": workflow, "id": id, "outcome": done })),
    }
}

pub(crate) async fn start(admin: &Admin, asked: Start, out: &mut Out<'_>) -> Result<(), Failure> {
    let Start { instance: Instance { workflow, id }, input, tag, reject } = asked;
    let policy = if reject { StartPolicy::Reject } else { StartPolicy::UseExisting };
    let started = admin.start(&who(), (&workflow, &id), arguments(&input)?, tag, policy).await?;
    let done = if started.is_new { "started, as run" } else { "was there already, as run" };
    said(&workflow, &id, &format!("{done} {}", started.run), out)
}

pub(crate) async fn signal(admin: &Admin, asked: &Named, out: &mut Out<'_>) -> Result<(), Failure> {
    act(admin, &asked.instance, Action::signal(&asked.name, &asked.args)?, "the signal was taken", out).await
}

pub(crate) async fn query(admin: &Admin, asked: &Named, out: &mut Out<'_>) -> Result<(), Failure> {
    let Instance { workflow, id } = &asked.instance;
    let handle = admin.partitura().client().instance(workflow, id);
    let answer = handle.query(&asked.name, &arguments(&asked.args)?).await?;
    out.line(answer.as_json())
}

pub(crate) async fn update(admin: &Admin, asked: Update, out: &mut Out<'_>) -> Result<(), Failure> {
    let Named { instance: Instance { workflow, id }, name, args } = asked.named;
    let arguments = arguments(&args)?;
    let answer = admin.update(&who(), (&workflow, &id), (&name, &arguments), asked.update_id).await?;
    out.line(answer.as_json())
}

pub(crate) async fn fork(admin: &Admin, asked: Fork, out: &mut Out<'_>) -> Result<(), Failure> {
    let Fork { instance: Instance { workflow, id }, fork, events, reason } = asked;
    admin.fork(&who(), (&workflow, &id), (&fork, events), &reason).await?;
    said(&workflow, &fork, &format!("goes on from the history of {id}"), out)
}

pub(crate) async fn cancel(admin: &Admin, asked: Reasoned, out: &mut Out<'_>) -> Result<(), Failure> {
    act(admin, &asked.instance, Action::Cancel(asked.reason), "its cancellation was requested", out).await
}

pub(crate) async fn terminate(admin: &Admin, asked: Reasoned, out: &mut Out<'_>) -> Result<(), Failure> {
    act(admin, &asked.instance, Action::Terminate(asked.reason), "it was terminated", out).await
}

pub(crate) async fn retry(admin: &Admin, asked: Reasoned, out: &mut Out<'_>) -> Result<(), Failure> {
    act(admin, &asked.instance, Action::Retry(asked.reason), "what had failed runs again", out).await
}

pub(crate) async fn delete(admin: &Admin, asked: &Instance, out: &mut Out<'_>) -> Result<(), Failure> {
    act(admin, asked, Action::Delete, "it was deleted", out).await
}

pub(crate) async fn bulk(admin: &Admin, asked: Bulk, out: &mut Out<'_>) -> Result<(), Failure> {
    let filter = look::filter(&asked.filter, admin.now())?;
    let reason = || asked.reason.clone().ok_or_else(|| Failure::usage("say why: --reason TEXT"));
    let action = match asked.act {
        Act::Cancel => Action::Cancel(reason()?),
        Act::Terminate => Action::Terminate(reason()?),
        Act::Pause => Action::Pause(reason()?),
        Act::Resume => Action::Resume(reason()?),
        Act::Retry => Action::Retry(reason()?),
        Act::Delete => Action::Delete,
    };
    let report = admin.act_on_all(&who(), filter, action, (asked.filter.limit, asked.dry_run)).await?;
    for name in &report.named {
        out.line(&name.to_string())?;
    }
    for (name, why) in &report.refused {
        out.line(&format!("{name}: refused: {why}"))?;
    }
    match asked.dry_run {
        true => count(report.found, "instances: nothing was done to them", out),
        false => count(report.done, "instances: done", out),
    }
}

pub(crate) fn count(number: usize, what: &str, out: &mut Out<'_>) -> Result<(), Failure> {
    match out.format {
        Format::Json => out.json(&serde_json::json!({ "count": number, "outcome": what })),
        _ => out.line(&format!("{number} {what}")),
    }
}
