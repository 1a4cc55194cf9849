//! A line of JSON for each trial, for `cargo xtask scenarios --all`.

use std::fs::OpenOptions;
use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::time::Instant;

use libtest_mimic::Failed;
use serde_json::json;

/// Runs a trial of this name, and adds its outcome to the file that `PARTITURA_TRIALS_REPORT` names, if there is one.
pub(crate) fn reported((broker, name): (&str, &str), trial: impl FnOnce() -> Result<(), Failed>) -> Result<(), Failed> {
    let Some(path) = std::env::var_os("PARTITURA_TRIALS_REPORT") else { return trial() };
    let began = Instant::now();
    let ended = catch_unwind(AssertUnwindSafe(trial));
    let outcome = if matches!(ended, Ok(Ok(()))) { "ok" } else { "failed" };
    let seconds = (began.elapsed().as_secs_f64() * 1_000.0).round() / 1_000.0;
    let line = json!({ "name": name, "broker": broker, "outcome": outcome, "seconds": seconds });
    // One write for each line: trials run at the same time.
    OpenOptions::new().create(true).append(true).open(path)?.write_all(format!("{line}\n").as_bytes())?;
    ended.unwrap_or_else(|panic| resume_unwind(panic))
}
