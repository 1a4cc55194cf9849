use std::sync::Arc;
use std::time::Duration;

use partitura_broker::Clock;
use partitura_engine::Client;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use super::attempts::{Attempts, Repeated};
use super::standing::{Registered, Standing};
use super::turns::Restless;

const DAY: Duration = Duration::from_secs(24 * 60 * 60);
/// After how long an instance is looked at first; then twice as long each time.
const FIRST: Duration = Duration::from_secs(1);
/// The longest time between two looks at what goes on: what is stopped tries again 144 times a day, and prints each
/// panic.
const LONGEST: Duration = DAY.saturating_mul(7);
/// An instance without any event for so long, while virtual time is free to pass, waits for what never comes.
const FOR_EVER: Duration = DAY.saturating_mul(3_650);
/// How long virtual time stands still for what comes in real time, before an instance is given up: an answer from a
/// socket or a thread.
const GRACE: Duration = Duration::from_secs(2);

/// A moment in both times.
#[derive(Debug, Clone, Copy)]
struct Moment {
    virtual_time: Instant,
    real_time: std::time::Instant,
}

impl Moment {
    fn now() -> Self {
        Self { virtual_time: Instant::now(), real_time: std::time::Instant::now() }
    }

    /// Whether so much real time has passed, and virtual time enough to tell that the test did not merely compute.
    fn is_long_ago(&self, real_time: Duration) -> bool {
        self.real_time.elapsed() >= real_time && self.virtual_time.elapsed() >= DAY
    }
}

/// Knows when what a test waits for will never come.
#[derive(Debug)]
pub(super) struct Watch {
    pub(super) registered: Registered,
    pub(super) attempts: Arc<Attempts>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) restless: Restless,
    /// For how much real time an instance may go on, or others may while it waits, if virtual time passes in days.
    pub(super) give_up_after: Duration,
}

impl Watch {
    /// Ends the test if the workflow is not registered.
    ///
    /// # Panics
    /// Then; the message says what to write.
    pub(super) fn expect_workflow(&self, workflow: &str) {
        let known = self.registered.workflows.contains_key(workflow);
        assert!(known, "the workflow {workflow} is not registered: write `TestEnv::new().workflow::<{workflow}>()`");
    }

    /// Resolves when the instance will not end, with the reason and what to write; never if it ends.
    pub(super) async fn hopeless(&self, client: &Client, instance: (&str, &str)) -> String {
        tokio::select! {
            biased;
            reason = self.restless.found() => reason,
            reason = self.waits_for_ever(client, instance) => reason,
        }
    }

    async fn waits_for_ever(&self, client: &Client, instance: (&str, &str)) -> String {
        let (workflow, id) = instance;
        let mut repeated = self.attempts.subscribe();
        let began = Moment::now();
        let (mut changed, mut pause, mut events, mut is_last_look) = (began, FIRST, 0, false);
        loop {
            tokio::select! {
                biased;
                reason = self.endless(client, &mut repeated) => return reason,
                () = self.pass(pause, changed) => {}
            }
            let standing = self.registered.look(client, self.clock.now(), instance).await;
            if let Some(reason) = standing.stopped {
                return reason;
            }
            if standing.events != events {
                (events, changed, is_last_look) = (standing.events, Moment::now(), false);
                pause = (2 * pause).min(LONGEST);
                if began.is_long_ago(self.give_up_after) {
                    let (days, real) =
                        (began.virtual_time.elapsed().as_secs() / DAY.as_secs(), began.real_time.elapsed());
                    return format!(
                        "workflow {workflow}/{id} goes on and on: in {days} days of virtual time, which took {real:.0?}, \
                         it has not ended. Does its code ask again and again for what never comes?"
                    );
                }
                continue;
            }
            let others = self.registered.others(client, standing.instances).await;
            if let Some(reason) = others.stopped {
                return reason;
            }
            let is_over = changed.is_long_ago(self.give_up_after)
                || (changed.virtual_time.elapsed() >= FOR_EVER && standing.next_timer.is_none());
            if is_over && (is_last_look || standing.misses) {
                return never_ends(instance, &standing);
            }
            let longest = standing.next_timer.map_or(Duration::MAX, |due_in| due_in + FIRST);
            pause = (2 * pause).min(longest).min(if others.run { LONGEST } else { FOR_EVER });
            is_last_look = is_over;
            if is_over {
                pause = FIRST;
                // Virtual time stands still while a blocking task runs.
                let _ = tokio::task::spawn_blocking(|| std::thread::sleep(GRACE)).await;
            }
        }
    }

    /// Lets virtual time pass, or less of it when it does so too slowly.
    async fn pass(&self, time: Duration, since: Moment) {
        let until = Instant::now() + time;
        while Instant::now() < until && !since.is_long_ago(self.give_up_after) {
            sleep_until(until.min(Instant::now() + LONGEST)).await;
        }
    }

    /// Resolves when virtual time will not pass, with the reason and what to write.
    pub(super) async fn stands_still(
        &self,
        client: &Client,
        repeated: &mut watch::Receiver<Option<Repeated>>,
    ) -> String {
        tokio::select! {
            biased;
            reason = self.restless.found() => reason,
            reason = self.endless(client, repeated) => reason,
        }
    }

    /// Resolves when some task is tried again for ever, with the reason and what to write.
    async fn endless(&self, client: &Client, repeated: &mut watch::Receiver<Option<Repeated>>) -> String {
        loop {
            if repeated.changed().await.is_err() {
                return std::future::pending().await;
            }
            let Some(Repeated { workflow, id, service, method, failed, failure }) =
                repeated.borrow_and_update().clone()
            else {
                continue;
            };
            if self.registered.is_endless(client, (&workflow, &id), (service, &method)).await {
                return format!(
                    "the task {service}.{method} of workflow {workflow}/{id} has failed {failed} times, and its retries have \
                     no end. The last failure: {failure}\n  repair the service, give the call an end \
                     (`.retry(Retry::exponential().max_attempts(10))`), or let the test wait for more failures \
                     (`TestEnv::attempts`)"
                );
            }
        }
    }
}

fn never_ends((workflow, id): (&str, &str), standing: &Standing) -> String {
    let waits = standing.waits.join("\n  * ");
    format!(
        "workflow {workflow}/{id} will not end: nothing is left to happen in virtual time, and it waits for\n  * {waits}\n\
         Let the test send or return what is missing before it awaits the result, or give the wait an end: `select!` with \
         `cx.sleep`, `.timeout(…)` for a task"
    )
}
