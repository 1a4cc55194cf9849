//! A schedule, and the instances that it starts.

use std::sync::Arc;
use std::time::Duration;

use partitura::history::{Event, EventKind};
use partitura::jiff::Timestamp;
use partitura::{Cancelled, Client, Cx, Overlap, ScheduleHandle, StartPolicy, Workflow};
use partitura_engine::ScheduleWorkflow;

use super::deleted::is_deleted;
use super::entry::{Entry, entry};
use super::expected::{Expected, Outcome, REASON};
use super::operating::{Operate, Order, operated};
use super::performing::{Answered, Part, Performance, Piece, Verdict, outcome, pause};
use crate::random::Random;
use crate::world::World;

pub(super) const WORKFLOWS: &[Entry] = &[entry::<ScheduleWorkflow>().starts(&["Tick"]), entry::<Tick>()];

/// The time from one tick to the next, in milliseconds.
const PERIOD: i64 = 1_000;

/// One instance of a schedule.
#[derive(Debug, Default)]
struct Tick;

#[partitura::workflow]
impl Tick {
    #[run]
    async fn run(_cx: Cx<Self>) -> Result<u64, Cancelled> {
        Ok(7)
    }
}

/// Starts a number of ticks, and is terminated when all have ended.
pub(super) fn clockwork(random: &mut Random, id: String, begin: u64) -> Piece {
    let (ticks, overlap) = (random.between(1, 8), random.pick(&[Overlap::AllowAll, Overlap::BufferAll]));
    let name = id.clone();
    let perform = move |client: Client, world: World| -> Performance {
        let name = name.clone();
        Box::pin(async move {
            pause(begin).await;
            let schedule = client.schedule(name.clone());
            let specification =
                schedule.every(Duration::from_millis(PERIOD as u64)).overlap(overlap).at_most(ticks).tag("tick");
            while let Err(error) = specification.clone().start::<Tick>(()).await {
                world.lock().note("client", format_args!("starts {name} again: {error}"));
                pause(100).await;
            }
            let handle = client.workflow::<ScheduleWorkflow>(name.clone());
            while !has_ticked(&schedule, ticks).await {
                if handle.describe().await.is_ok_and(|summary| summary.status.is_closed())
                    || is_deleted(&world, &handle)
                {
                    break;
                }
                pause(1_000).await;
            }
            while handle.terminate(REASON).await.is_err() {
                pause(100).await;
            }
            Ok(Answered { verdict: Verdict::Accepted, outcome: outcome(&handle, &world).await? })
        })
    };
    let part = Part { perform: Box::new(perform), policy: StartPolicy::RestartEnded, may_crash: false };
    let operated = operated::<ScheduleWorkflow>(id.clone());
    // Its client ends it, when all have ticked.
    let operate: Operate = Arc::new(move |client, order| match order {
        Order::Terminate => operated(client, Order::Describe),
        order => operated(client, order),
    });
    let model = move |events: &[Event]| expected(events, ticks);
    Piece { id, workflow: ScheduleWorkflow::NAME, model: Arc::new(model), operate, parts: vec![part] }
}

async fn has_ticked(schedule: &ScheduleHandle, ticks: u64) -> bool {
    schedule.describe().await.is_ok_and(|found| found.recent.len() as u64 == ticks)
}

/// Each time has a tick, and there is no gap between them.
fn expected(events: &[Event], ticks: u64) -> Expected {
    let mut expected = Expected::new(Outcome::Other(REASON.to_owned()), Vec::new());
    let mut times = Vec::new();
    for event in events {
        if let EventKind::ChildStarted { id, .. } = &event.kind {
            let time = id.get(id.len().saturating_sub("2026-01-01T00:00:00Z".len())..).unwrap_or_default();
            times.extend(time.parse::<Timestamp>().map(|time| time.as_millisecond()));
            expected = expected.and::<Tick>(id.clone(), Outcome::ok(&7));
        }
    }
    let is_even = times.windows(2).all(|pair| pair[1] - pair[0] == PERIOD);
    if times.len() as u64 != ticks || !is_even {
        expected.outcome = Outcome::Other(format!("{ticks} ticks, {PERIOD} ms apart, and not {times:?}"));
    }
    expected
}
