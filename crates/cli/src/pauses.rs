//! Pauses and resumes instances, workflows, services and methods.

use partitura::{InvalidPausable, Pausable};
use partitura_admin::{Action, Admin, text};

use crate::act::{act, who};
use crate::args::{Format, Instance, Pause, Resume};
use crate::failure::Failure;
use crate::output::Out;

pub(crate) async fn pause(admin: &Admin, asked: Pause, out: &mut Out<'_>) -> Result<(), Failure> {
    let Pause { what, id, reason } = asked;
    if let Some(id) = id {
        return act(admin, &Instance { workflow: what, id }, Action::Pause(reason), "it is paused", out).await;
    }
    let what = named(&what)?;
    let receipt = admin.pause(&who(), &what, &reason).await?;
    said(&what, &text::paused(&what, receipt.is_known), out)
}

pub(crate) async fn resume(admin: &Admin, asked: Resume, out: &mut Out<'_>) -> Result<(), Failure> {
    let Resume { what, id, reason } = asked;
    if let Some(id) = id {
        let (instance, done) = (Instance { workflow: what, id }, "it goes on, as far as its code can");
        return act(admin, &instance, Action::Resume(reason), done, out).await;
    }
    let what = named(&what)?;
    let asked = admin.resume(&who(), &what, &reason).await?;
    match what {
        Pausable::Workflow(_) => said(&what, &format!("it goes on; {asked} instances were paused with it"), out),
        _ => said(&what, "it goes on", out),
    }
}

fn named(what: &str) -> Result<Pausable, Failure> {
    what.parse().map_err(|error: InvalidPausable| Failure::usage(format!("{error}; or WORKFLOW ID for one instance")))
}

fn said(what: &Pausable, done: &str, out: &mut Out<'_>) -> Result<(), Failure> {
    match out.format {
        Format::Table => out.line(&format!("{what}: {done}")),
        Format::Ids => out.line(&what.to_string()),
        Format::Json => out.json(&serde_json::json!({ "what": what, "outcome": done })),
    }
}
