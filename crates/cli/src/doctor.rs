//! The diagnosis of a deployment.

use std::time::Duration;

use partitura::Store;
use partitura_admin::{Admin, text};
use serde::Serialize;

use crate::args::{Format, Target};
use crate::connect;
use crate::failure::Failure;
use crate::output::Out;

/// By how much clocks may differ before timers are late by something that people notice.
const SKEW: Duration = Duration::from_secs(1);

/// One thing that was looked at.
#[derive(Debug, Serialize)]
struct Finding {
    what: &'static str,
    verdict: Verdict,
    says: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Verdict {
    Ok,
    Warning,
    Error,
}

impl Verdict {
    fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warning => "warning",
            Self::Error => "error",
        }
    }
}

fn finding(what: &'static str, verdict: Verdict, says: impl Into<String>) -> Finding {
    Finding { what, verdict, says: says.into() }
}

/// Connects, and looks at everything that can be looked at then.
pub(crate) async fn run(target: &Target, out: &mut Out<'_>) -> Result<(), Failure> {
    let store = connect::resolve(target)?.store;
    let mut findings = Vec::new();
    match connect::connect(target).await {
        Ok(partitura) => {
            look(&Admin::new(&partitura), &mut findings).await;
            // A store in a file is open already, and has no clock of its own.
            if let Some(url) = store.filter(|url| !url.starts_with("embedded:")) {
                match connect::limited("open the store", partitura::store(&url)).await {
                    Ok(store) => findings.push(clock(&*store).await),
                    Err(error) => findings.push(finding("clock", Verdict::Warning, error.to_string())),
                }
            }
            // Nothing was accepted here that would have to be written.
            drop(partitura.close().await);
        }
        Err(failure) => findings.push(blamed(store, &failure).await),
    }
    report(&findings, out)
}

/// Says whether the store or the broker is to blame for a connection that failed.
async fn blamed(store: Option<String>, failure: &Failure) -> Finding {
    let store = match &store {
        Some(url) => connect::limited("open the store", partitura::store(url)).await.map(drop),
        None => Ok(()),
    };
    match store {
        Ok(()) => finding("broker", Verdict::Error, failure.to_string()),
        Err(error) => finding("store", Verdict::Error, error.to_string()),
    }
}

/// Looks at a deployment whose connection stands.
pub(crate) async fn examine(admin: &Admin, out: &mut Out<'_>) -> Result<(), Failure> {
    let mut findings = Vec::new();
    look(admin, &mut findings).await;
    report(&findings, out)
}

async fn clock(store: &dyn Store) -> Finding {
    let before = std::time::SystemTime::now();
    let Ok(Some(of_store)) = store.now().await else {
        return finding("clock", Verdict::Ok, "the store has no clock of its own");
    };
    let round_trip = before.elapsed().unwrap_or_default();
    let here = partitura::contract::Timestamp::from(before).as_millis() + millis(round_trip / 2);
    let skew = Duration::from_millis(here.abs_diff(of_store.as_millis()));
    let verdict = if skew > SKEW + round_trip { Verdict::Warning } else { Verdict::Ok };
    let says = format!("this machine and the store differ by {}", text::span(millis(skew)));
    finding("clock", verdict, says)
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

async fn look(admin: &Admin, findings: &mut Vec<Finding>) {
    let capabilities = admin.partitura().broker().capabilities();
    // Adapters refuse brokers that they know not to keep the contract, with the version and what to do.
    let says = format!("{} is reachable, with these credentials and in this version", capabilities.broker);
    findings.push(finding("broker", Verdict::Ok, says));
    match admin.served().await {
        Ok(served) => {
            let says = format!("the state is readable; workers have served {} workflows and services", served.len());
            findings.push(finding("store", Verdict::Ok, says));
            for served in served {
                let declared = connect::limited("declare topics", admin.partitura().declare(&served.destination)).await;
                if let Err(error) = declared {
                    findings.push(finding("topics", Verdict::Error, format!("{}: {error}", served.destination)));
                }
            }
        }
        Err(error) => {
            findings.push(finding("store", Verdict::Error, error.to_string()));
            return;
        }
    }
    stopped(admin, findings).await;
    letters(admin, findings).await;
    workers(admin, findings).await;
}

async fn stopped(admin: &Admin, findings: &mut Vec<Finding>) {
    match admin.stopped().await {
        Ok(causes) if causes.is_empty() => findings.push(finding("instances", Verdict::Ok, "none is stopped")),
        Ok(causes) => findings.extend(causes.iter().map(|cause| {
            let build = cause.build.as_deref().unwrap_or("unknown");
            let example = cause.examples.first().map_or("", String::as_str);
            let says = format!(
                "{} of {} are stopped, {example} for example, tried last by build {build}: {}",
                cause.count,
                cause.workflow,
                text::cause(&cause.reason, 300)
            );
            finding("instances", Verdict::Error, says)
        })),
        Err(error) => findings.push(finding("instances", Verdict::Error, error.to_string())),
    }
}

async fn letters(admin: &Admin, findings: &mut Vec<Finding>) {
    let before = findings.len();
    match admin.all_letters().await {
        Ok(boxes) => {
            for of in boxes {
                if let Some(error) = of.error {
                    findings.push(finding("dead letters", Verdict::Warning, format!("{}: {error}", of.destination)));
                } else if let Some(last) = of.letters.last() {
                    let says = format!("{} of {}, the last one: {}", of.letters.len(), of.destination, last.reason);
                    findings.push(finding("dead letters", Verdict::Warning, says));
                }
            }
        }
        Err(error) => findings.push(finding("dead letters", Verdict::Error, error.to_string())),
    }
    if findings.len() == before {
        findings.push(finding("dead letters", Verdict::Ok, "there are none"));
    }
}

async fn workers(admin: &Admin, findings: &mut Vec<Finding>) {
    match admin.workers().await {
        Ok(workers) => {
            let missing = workers.iter().filter(|working| working.has_worker == Some(false));
            let missing: Vec<String> = missing.map(|working| working.served.destination.to_string()).collect();
            findings.push(match missing.is_empty() {
                true => {
                    finding("workers", Verdict::Ok, "every workflow has one, and nothing waits for a service without")
                }
                false => finding(
                    "workers",
                    Verdict::Error,
                    format!("no worker is known of {}: start one", missing.join(", ")),
                ),
            });
        }
        Err(error) => findings.push(finding("workers", Verdict::Error, error.to_string())),
    }
}

fn report(findings: &[Finding], out: &mut Out<'_>) -> Result<(), Failure> {
    match out.format {
        Format::Json => out.json(&findings)?,
        Format::Ids => {
            findings.iter().filter(|found| found.verdict != Verdict::Ok).try_for_each(|found| out.line(found.what))?
        }
        Format::Table => {
            let row =
                |found: &Finding| vec![found.verdict.name().to_owned(), found.what.to_owned(), found.says.clone()];
            out.table(&["verdict", "what", "says"], &findings.iter().map(row).collect::<Vec<_>>())?;
        }
    }
    match findings.iter().filter(|found| found.verdict == Verdict::Error).count() {
        0 => Ok(()),
        errors => Err(Failure::found(format!("{errors} things are wrong"))),
    }
}
