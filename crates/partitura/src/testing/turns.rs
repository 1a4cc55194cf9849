//! Instances that go on and on while virtual time does not: it moves on when nothing runs, so a loop that never waits
//! for time keeps a test from its end.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use partitura_engine::{Layer, Next, TurnCall, TurnResult};
use tokio::sync::watch;

/// How many turns an instance takes at least that goes on and on.
const TURNS: f64 = 100.0;
/// How many turns it takes at least in a second of real time.
const PER_SECOND: f64 = 10.0;
/// How much faster than real time virtual time passes at least for a workflow that waits: the patience of its test ends
/// in virtual time.
const FASTER: u32 = 10;

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
    /// Changes twice in the time for which they may. Real time passes in a thread of its own: virtual time would stand
    /// still for a blocking task.
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
        Self { turns, ticks }
    }

    /// Resolves when an instance goes on and on, with the reason and what to write.
    pub(super) async fn found(&self) -> String {
        let mut ticks = self.ticks.clone();
        ticks.mark_unchanged();
        // One of them may be over.
        pass(&mut ticks, 3).await;
        let now = || (self.turns.taken().clone(), Instant::now(), tokio::time::Instant::now());
        let (mut before, mut began, mut virtual_time) = now();
        loop {
            pass(&mut ticks, 2).await;
            if virtual_time.elapsed() >= began.elapsed().saturating_mul(FASTER) {
                (before, began, virtual_time) = now();
                continue;
            }
            let turns = |(instance, taken): (&(String, String), &u64)| {
                (taken.saturating_sub(before.get(instance).copied().unwrap_or(0)), instance.clone())
            };
            let most = self.turns.taken().iter().map(turns).max();
            let least = TURNS.max(PER_SECOND * began.elapsed().as_secs_f64());
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
