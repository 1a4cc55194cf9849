//! Timers count from when the code asks for them, however long it was on its way there.

use std::sync::atomic::{AtomicU64, Ordering};

use partitura_broker::Clock;
use partitura_workflow::seconds;

use super::*;
use crate::storage::history;

/// The least time that is lost on the way to a timer.
const LOST: Duration = Duration::from_millis(30);

/// Takes its time before it sets a timer, at its first signal.
#[derive(Debug, Default)]
struct Late(Tally);

/// The moment at which a timer was asked for last, in milliseconds, rounded down.
static ASKED: AtomicU64 = AtomicU64::new(0);

impl Workflow for Late {
    const NAME: &'static str = Tally::NAME;
    type Input = u64;
    type Output = u64;
    type Error = String;

    async fn run(cx: Cx<Self>, busy: u64) -> Result<u64, String> {
        cx.until(|late: &Self| late.0.0 > 0).await.map_err(|cancelled| cancelled.to_string())?;
        // Code must not wait like this, but the machine may take the processor away from it.
        std::thread::sleep(Duration::from_millis(busy));
        ASKED.store(SystemClock.now().as_millis(), Ordering::Relaxed);
        cx.sleep(seconds(1)).await.map_err(|cancelled| cancelled.to_string())?;
        Ok(busy)
    }

    fn signal(&mut self, name: &str, payload: &Payload) -> Result<bool, PayloadError> {
        self.0.signal(name, payload)
    }

    fn describe(error: &String) -> String {
        error.clone()
    }
}

/// How long the timer lasts from the moment at which the code asked for it.
async fn lasts(stage: &Stage, owner: &Owner) -> u64 {
    let (run, _) = stage.summary(owner).await;
    let history = history::load(&owner.runner.0.context.turn_store, &stage.key, &run).await.expect("a history");
    let due = history.events.iter().find_map(|event| match event.kind {
        EventKind::TimerStarted { due_at_ms, .. } => Some(due_at_ms),
        _ => None,
    });
    due.expect("a timer") - ASKED.load(Ordering::Relaxed)
}

#[tokio::test]
async fn a_timer_lasts_from_when_the_code_asked_for_it() {
    let stage = Stage::new().await;
    let busy = LOST.as_millis() as u64;
    let owner = stage.owner::<Late>().await;
    stage.turn(&owner, [("s", start(FIRST, busy, StartPolicy::UseExisting)), ("a", signal())]).await;
    assert!(lasts(&stage, &owner).await >= 1_000);
    // The next owner has to read the instance first, which takes a while.
    stage.turn(&owner, [("t", start(SECOND, 0, StartPolicy::Replace))]).await;
    let next = stage.owner::<Late>().await;
    next.gate.close(Point::BeforeHistory);
    let slow = stage.turn(&next, [("b", signal())]);
    let store = async {
        next.gate.reached.notified().await;
        tokio::time::sleep(LOST).await;
        next.gate.opened.notify_one();
    };
    tokio::join!(slow, store);
    assert!(lasts(&stage, &next).await >= 1_000);
}
