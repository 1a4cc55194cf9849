//! The remains of instances that are deleted.

use partitura_broker::Message;

use super::run::{Found, Run};
use crate::world::State;

/// Checks that nothing is kept of instances that are deleted: neither their histories nor what is beside them, nor
/// when they were to be deleted. Earlier runs are forgotten when their time is over.
pub(super) fn leave_nothing(state: &State, runs: &[Run]) -> Found {
    for run in runs.iter().filter(|run| run.deleted && !run.again) {
        let key = format!("{}\0{}\0{}", run.workflow, run.id, run.run);
        for space in ["history", "heartbeats", "children"] {
            if state.keys.space(space).any(|(kept, _)| kept.starts_with(key.as_bytes())) {
                return Err(("what is deleted leaves nothing", format!("{} is left in {space}", run.name)));
            }
        }
        let is_latest = runs.iter().rfind(|other| other.name == run.name).is_some_and(|last| last.run == run.run);
        let name = format!("{}\0{}", run.id, run.run);
        if is_latest && state.keys.space("expiries").any(|(kept, _)| kept.ends_with(name.as_bytes())) {
            return Err(("what is deleted leaves nothing", format!("{} is to be deleted once more", run.name)));
        }
    }
    Ok(())
}

/// Checks that messages that were refused are sent again some time, of deleted instances as of others.
pub(super) fn are_sent_again(state: &State) -> Found {
    for (key, _) in state.keys.space("refused") {
        let id = key.split(|byte| *byte == 0).nth(1).unwrap_or_default();
        let tries = |message: &Message| message.key.as_deref() == Some(id) && message.id.as_str().contains(".w");
        let mut queues = state.topics.values().flat_map(|topic| &topic.queues);
        if !queues.any(|queue| queue.delayed.values().any(tries)) {
            let name = String::from_utf8_lossy(key).replace('\0', "/");
            return Err(("what the broker refuses is sent again", name));
        }
    }
    Ok(())
}
