//! Workflows, services and methods that are paused.

use partitura::Paused;
use partitura_admin::{Admin, text};

use crate::args::Format;
use crate::failure::Failure;
use crate::output::Out;

pub(crate) async fn list(admin: &Admin, out: &mut Out<'_>) -> Result<(), Failure> {
    let pauses = admin.pauses().await?;
    match out.format {
        Format::Json => out.json(&pauses),
        Format::Ids => pauses.iter().try_for_each(|paused| out.line(&paused.what.to_string())),
        Format::Table if pauses.is_empty() => out.line("nothing is paused"),
        Format::Table => table(admin, &pauses, out),
    }
}

pub(crate) fn table(admin: &Admin, pauses: &[Paused], out: &mut Out<'_>) -> Result<(), Failure> {
    let now = admin.now();
    let row = |paused: &Paused| {
        let ending = if paused.is_ending { " (its end was interrupted: resume it again)" } else { "" };
        vec![
            paused.what.to_string(),
            text::relative(paused.since, now),
            format!("{}{ending}", text::line(&paused.reason, 200)),
        ]
    };
    let rows: Vec<_> = pauses.iter().map(row).collect();
    out.table(&["paused", "since", "why"], &rows)
}
