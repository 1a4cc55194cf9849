//! The rows by which instances are found.

use std::collections::BTreeSet;

use partitura::{StatusKind, Summary};

use super::run::Found;
use crate::rows::body;
use crate::world::State;

/// Checks that each instance is found by what its summary says, and by nothing else. Workflows here set no attributes.
pub(super) fn is_that_of_the_summaries(state: &State) -> Found {
    let mut expected = BTreeSet::new();
    for (_, value) in state.keys.space("instances") {
        let summary: Summary = body(value).map_err(|error| ("what is stored can be read", error.to_string()))?;
        expected.extend(keys(&summary));
    }
    let rows = state.keys.space("index").filter(|(key, _)| !key.starts_with(b"v"));
    let found: BTreeSet<Vec<u8>> = rows.map(|(key, _)| key.to_vec()).collect();
    let Some(wrong) = expected.symmetric_difference(&found).next() else { return Ok(()) };
    let what = if found.contains(wrong) { "is no longer true" } else { "is missing" };
    Err(("an instance is found where it stands", format!("the row {} {what}", wrong.escape_ascii())))
}

/// The keys as the format has them, which is what other versions read.
fn keys(summary: &Summary) -> Vec<Vec<u8>> {
    let status = match summary.status.kind() {
        StatusKind::Running => 1,
        StatusKind::Stopped => 2,
        StatusKind::Paused => 3,
        StatusKind::Completed => 4,
        StatusKind::Failed => 5,
        StatusKind::Cancelled => 6,
        _ => 0,
    };
    let Summary { workflow, id, started_at, closed_at, tags, parent, .. } = summary;
    let key = |scope: &[u8], at: u64| {
        [scope, &(u64::MAX - at).to_be_bytes()[..], format!("{workflow}\0{id}").as_bytes()].concat()
    };
    let standing = |order: u8| [&[order, status][..], format!("{workflow}\0").as_bytes()].concat();
    let mut keys = vec![key(&standing(b's'), *started_at)];
    keys.extend(closed_at.map(|at| key(&standing(b'c'), at)));
    keys.extend(tags.iter().map(|tag| key(&[b"t\0", &[tag.len() as u8][..], tag.as_bytes()].concat(), *started_at)));
    let of = |(workflow, id): (&String, &String)| key(format!("p{workflow}\0{id}\0").as_bytes(), *started_at);
    keys.extend(parent.as_ref().map(|parent| of((&parent.workflow, &parent.id))));
    keys
}
