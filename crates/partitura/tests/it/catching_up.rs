//! Schedules whose workers come and go, and what is kept of them.

use partitura::{Cancelled, Cx, Filter, Overlap, Partitura, Summary, days, hours, minutes, seconds};
use partitura_broker::{Broker, Clock, ScanRange};
use tokio::time::sleep;

use crate::support::soon;
use crate::troubled::{Virtual, embedded};

/// Takes a moment.
#[derive(Debug, Default)]
struct Beat;

#[partitura::workflow]
impl Beat {
    #[run]
    async fn run(cx: Cx<Self>) -> Result<(), Cancelled> {
        cx.sleep(seconds(1)).await
    }
}

async fn beats(partitura: &Partitura) -> Vec<Summary> {
    soon(partitura.client().list::<Beat>(Filter::all())).await.expect("listed")
}

#[tokio::test(start_paused = true)]
async fn times_without_a_worker_are_made_up_for_within_the_catch_up_window() {
    let clock = Virtual::new();
    let partitura = Partitura::on(embedded(&clock)).clock(clock.clone()).await.expect("an engine");
    let worker = async || partitura.worker().workflow::<Beat>().schedules().start().await.expect("a worker");
    let hourly = partitura.client().schedule("hourly");
    let first = worker().await;
    let specification = hourly.every(hours(1)).overlap(Overlap::AllowAll).catch_up(hours(3) + minutes(20));
    specification.start::<Beat>(()).await.expect("started");
    let half_past = 5_400_000 - clock.now().as_millis() % 3_600_000;
    sleep(std::time::Duration::from_millis(half_past)).await;
    let before = soon(hourly.describe()).await.expect("known").started;
    first.stop().await.expect("stopped");
    // Seven times pass.
    sleep(hours(7)).await;
    let second = worker().await;
    sleep(minutes(5)).await;
    let found = soon(hourly.describe()).await.expect("known");
    assert_eq!((found.started - before, found.missed), (3, 4), "{found:?}");
    sleep(hours(1)).await;
    assert_eq!(soon(hourly.describe()).await.expect("known").started - before, 4);
    assert_eq!(beats(&partitura).await.len() as u64, before + 4);
    second.stop().await.expect("stopped");
}

#[tokio::test(start_paused = true)]
async fn a_month_of_a_schedule_leaves_no_more_than_what_is_kept() {
    let clock = Virtual::new();
    let broker = embedded(&clock);
    let engine = Partitura::on(broker.clone()).clock(clock).partitions(2).retention(hours(6));
    let partitura = engine.await.expect("an engine");
    let worker = partitura.worker().workflow::<Beat>().schedules().start().await.expect("a worker");
    let often = partitura.client().schedule("often");
    often.every(minutes(30)).start::<Beat>(()).await.expect("started");
    let stored = async |space| {
        let transactions = broker.transactions().expect("it keeps state");
        transactions.scan(ScanRange::prefix(space, ""), usize::MAX).await.expect("read").len()
    };
    sleep(days(2)).await;
    let (history, instances) = (stored("history").await, stored("instances").await);
    sleep(days(28)).await;
    let found = soon(often.describe()).await.expect("known");
    assert_eq!((found.started, found.skipped, found.missed), (30 * 48, 0, 0));
    // Twelve beats are kept, and one that may be about to go.
    assert_eq!(instances, stored("instances").await);
    assert!((12..=15).contains(&instances), "{instances}");
    // The runs of the schedule differ in length.
    let at_last = stored("history").await;
    assert!(at_last.abs_diff(history) <= 500, "{history} {at_last}");
    assert!(at_last <= 14 * 3 + 1_000, "{at_last}");
    often.delete().await.expect("deleted");
    sleep(hours(7)).await;
    for space in ["history", "instances", "expiries", "children", "heartbeats"] {
        assert_eq!(stored(space).await, 0, "{space}");
    }
    worker.stop().await.expect("stopped");
}
