//! Instances that go on and on while virtual time does not: it moves on when nothing runs, so a loop that never waits
//! for time keeps a test from its end.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use partitura_engine::{Layer, Next, TurnCall, TurnResult};
use tokio::sync::watch;

/// An instance that takes more turns than this in a second of real time goes on and on,
const PER_SECOND: f64 = 10.0;
/// unless virtual time passes so much faster than real time: then the end of the test's patience comes in virtual time.
const FASTER: u32 = 100;

type Taken = HashMap<(String, String), u64>;

/// How many turns each instance of a test has taken, by workflow and id.
#[derive(Debug, Clone, Default)]
pub(super) struct Turns(Arc<Mutex<Taken>>);

impl Turns {
    fn taken(&self) -> MutexGuard<'_, Taken> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Layer for Turns {
    async fn turn(&self, turn: &TurnCall<'_>, next: Next<'_, TurnResult>) -> TurnResult {
        *self.taken().entry((turn.workflow().to_owned(), turn.id().to_owned())).or_default() += 1;
        next.await
    }
}

/// Knows of instances that take turn after turn.
#[derive(Debug)]
pub(super) struct Restless {
    turns: Turns,
    /// How long they may.
    give_up_after: Duration,
    /// Changes twice in that time. Real time passes in a thread: virtual time stands still while a blocking task runs.
    ticks: watch::Receiver<()>,
}

impl Restless {
    pub(super) fn new(turns: Turns, give_up_after: Duration) -> Self {
        let (tick, ticks) = watch::channel(());
        let half = (give_up_after / 2).max(Duration::from_millis(1));
        let run = move || {
            while !tick.is_closed() {
                thread::sleep(half);
                tick.send_replace(());
            }
        };
        // Without a thread nothing is noticed.
        let _ = thread::Builder::new().name("partitura-test".into()).spawn(run);
        Self { turns, give_up_after, ticks }
    }

    /// Resolves when an instance goes on and on, with the reason and what to write.
    pub(super) async fn found(&self) -> String {
        let mut ticks = self.ticks.clone();
        ticks.mark_unchanged();
        // One of them may be over.
        pass(&mut ticks, 3).await;
        loop {
            let before = self.turns.taken().clone();
            let (began, virtual_time) = (Instant::now(), tokio::time::Instant::now());
            pass(&mut ticks, 2).await;
            if virtual_time.elapsed() >= began.elapsed().saturating_mul(FASTER) {
                continue;
            }
            let turns = |(instance, taken): (&(String, String), &u64)| {
                (taken.saturating_sub(before.get(instance).copied().unwrap_or(0)), instance.clone())
            };
            let most = self.turns.taken().iter().map(turns).max();
            let least = PER_SECOND * began.elapsed().as_secs_f64().max(self.give_up_after.as_secs_f64());
            if let Some((turns, (workflow, id))) = most.filter(|(turns, _)| *turns as f64 >= least) {
                let (real, passed) = (began.elapsed(), virtual_time.elapsed());
                return format!(
                    "workflow {workflow}/{id} goes on and on: it took {turns} turns in {real:.1?}, while {passed:?} of \
                     virtual time passed. Does its code ask again and again for what never comes? Let it wait with \
                     `cx.sleep` in between, or let the test have more time (`TestEnv::give_up_after`)"
                );
            }
        }
    }
}

/// Lets real time pass. Never resolves without a thread.
async fn pass(ticks: &mut watch::Receiver<()>, number: u32) {
    for _ in 0..number {
        if ticks.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}
