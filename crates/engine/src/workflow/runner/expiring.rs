//! Deletes runs that have ended, when their time is over.

use std::time::Duration;

use partitura_broker::{Partition, Result, Timestamp};
use tokio::sync::watch;
use tokio::time::sleep;

use super::WorkflowRunner;
use crate::storage::expiries::{self, Expiry};
use crate::wire::{self, Command};

/// How many runs are asked to go at a time.
const RUNS: usize = 100;
/// The pause between them.
const PAUSE: Duration = Duration::from_millis(100);
/// The longest sleep.
const LONGEST: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// The time of the expiry that was noted last, for the task that waits for the earliest.
pub(super) type Noted = watch::Receiver<Option<Timestamp>>;

impl WorkflowRunner {
    /// Has runs deleted for as long as the partition is ours. Reads when it begins, when the first one is due, and when
    /// one is noted that is due before.
    pub(super) async fn expire(&self, partition: Partition, term: u64, mut noted: Noted) {
        let mut after = None;
        loop {
            noted.mark_unchanged();
            let next = || self.expire_due(partition, after.as_ref());
            let Some(asked) = self.insist(partition, term, "reading which instances expire", next).await else {
                return;
            };
            after = asked.last;
            let wait =
                asked.due.map_or(Duration::MAX, |due| due.since(self.0.context.clock.now()).clamp(PAUSE, LONGEST));
            tokio::select! {
                () = sleep(wait) => {}
                is_ours = is_earlier(&mut noted, asked.due) => if !is_ours { return },
            }
        }
    }

    /// Asks the runs that are due to go, of a page behind `after`.
    async fn expire_due(&self, partition: Partition, after: Option<&Expiry>) -> Result<Asked> {
        let context = &self.0.context;
        let now = context.clock.now();
        let mut page = expiries::next(&context.turn_store, &self.0.workflow, partition, after, RUNS).await?;
        let behind = page.iter().position(|expiry| expiry.due > now).unwrap_or(page.len());
        let goes_on = behind == RUNS;
        let due = page.get(behind).map(|expiry| expiry.due).or(goes_on.then_some(now));
        page.truncate(behind);
        let expire = |Expiry { id, run, due }: &Expiry| {
            let command = Command::Expire { run: run.clone(), due: due.as_millis() };
            let (payloads, fresh) = (context.directory.payloads(), context.ids.fresh().to_string());
            wire::command(payloads, &context.topics.commands, id, fresh, &command)
        };
        let commands: Vec<_> = page.iter().map(expire).collect();
        if !commands.is_empty() {
            self.0.producer.publish(commands).await.into_iter().collect::<Result<Vec<_>>>()?;
        }
        Ok(Asked { last: page.pop().filter(|_| goes_on), due })
    }
}

/// The result of a page of expiries.
struct Asked {
    /// The last of them, if there are more behind it.
    last: Option<Expiry>,
    /// When the next one is due, if there is one.
    due: Option<Timestamp>,
}

/// Waits until an expiry is noted that is due before `due`. `false`: the partition is no longer ours.
async fn is_earlier(noted: &mut Noted, due: Option<Timestamp>) -> bool {
    while noted.changed().await.is_ok() {
        let new = *noted.borrow_and_update();
        if new.is_some_and(|new| due.is_none_or(|due| new < due)) {
            return true;
        }
    }
    false
}
