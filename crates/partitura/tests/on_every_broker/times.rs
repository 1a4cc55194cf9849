//! The times of schedules: what runs already, clocks that change, jitter, and times at which no worker ran.

use partitura::jiff::{SignedDuration, Timestamp};
use partitura::{
    ActionEnd, Client, ClientError, Overlap, Recurrence, ScheduleDescription, ScheduleHandle, hours, millis, seconds,
};

use crate::schedules::Beat;
use crate::stage::Stage;
use crate::support::{Waits, WaitsSignal, eventually, soon};

/// The years with a 29th of February, so that nothing starts by itself while a trial runs.
const LEAP_DAYS: &str = "0 0 29 2 *";

fn time(text: &str) -> Timestamp {
    text.parse().expect("a time")
}

/// Makes up for three leap days, as if each came while the instances of those before run.
async fn three_times(client: &Client, overlap: Overlap) -> ScheduleHandle {
    let rare = client.schedule(format!("{overlap:?}"));
    rare.cron(LEAP_DAYS).start::<Waits>(()).await.expect("started");
    let (from, to) = (time("2016-01-01T00:00:00Z"), time("2024-12-31T00:00:00Z"));
    soon(rare.backfill(from, to, overlap)).await.expect("taken");
    rare
}

/// Waits until the schedule has decided about the three.
async fn decided(schedule: &ScheduleHandle) -> ScheduleDescription {
    eventually(async || {
        let found = schedule.describe().await.ok()?;
        (found.started + found.skipped + found.waiting.len() as u64 == 3).then_some(found)
    })
    .await
}

/// Waits until this many were started and only the last of them runs.
async fn runs_last(schedule: &ScheduleHandle, started: u64) -> ScheduleDescription {
    eventually(async || {
        let found = schedule.describe().await.ok()?;
        (found.started == started && found.running.len() == 1).then_some(found)
    })
    .await
}

/// Lets the instance end, once it has begun.
async fn release(client: &Client, id: &str) {
    let waits = client.workflow::<Waits>(id);
    eventually(async || waits.signal(WaitsSignal::release("on time".into())).confirmed().await.ok()).await;
}

pub(crate) async fn times_are_skipped_or_wait_while_an_instance_runs(stage: Stage) {
    let partitura = stage.application().await;
    let worker = partitura.worker().workflow::<Waits>().schedules().start().await.expect("a worker");
    let client = partitura.client();
    let (skip, one) = (three_times(&client, Overlap::Skip).await, three_times(&client, Overlap::BufferOne).await);
    let found = decided(&skip).await;
    assert_eq!((found.started, found.skipped, found.waiting.len()), (1, 2, 0), "{found:?}");
    let found = decided(&one).await;
    assert_eq!((found.started, found.skipped, found.waiting.len()), (1, 1, 1), "{found:?}");
    assert_eq!(found.running[0].id, "BufferOne-2016-02-29T00:00:00Z");
    release(&client, &found.running[0].id).await;
    assert_eq!(runs_last(&one, 2).await.running[0].id, "BufferOne-2020-02-29T00:00:00Z");
    worker.stop().await.expect("stopped");
}

pub(crate) async fn a_new_time_ends_what_runs_or_starts_an_instance_beside_it(stage: Stage) {
    let partitura = stage.application().await;
    let worker = partitura.worker().workflow::<Waits>().schedules().start().await.expect("a worker");
    let client = partitura.client();
    let beside = decided(&three_times(&client, Overlap::AllowAll).await).await;
    assert_eq!((beside.started, beside.running.len(), beside.skipped), (3, 3, 0), "{beside:?}");
    for overlap in [Overlap::CancelOther, Overlap::TerminateOther] {
        // While the first one ends, the third takes the place of the second.
        let found = runs_last(&three_times(&client, overlap).await, 2).await;
        assert_eq!((found.skipped, found.recent.len()), (1, 1), "{found:?}");
        assert!(found.running[0].id.ends_with("2024-02-29T00:00:00Z"), "{found:?}");
        match (overlap, &found.recent[0].end) {
            (Overlap::CancelOther, Some(ActionEnd::Cancelled(_))) => {}
            (Overlap::TerminateOther, Some(ActionEnd::Terminated(_))) => {}
            _ => panic!("{found:?}"),
        }
    }
    worker.stop().await.expect("stopped");
}

pub(crate) async fn a_time_that_the_clocks_skip_or_repeat_is_started_once(stage: Stage) {
    let partitura = stage.application().await;
    let worker = partitura.worker().workflow::<Beat>().schedules().start().await.expect("a worker");
    let nightly = partitura.client().schedule("n");
    let specified = nightly.cron("30 2 * * *").time_zone("Europe/Berlin").paused("only what is made up for counts");
    specified.start::<Beat>(1).await.expect("started");
    // At half past two there is no such time in the second of these nights; in the last one there are two.
    for (from, to) in [("2026-03-28", "2026-03-30"), ("2026-10-25", "2026-10-25")] {
        let (from, to) = (time(&format!("{from}T00:00:00Z")), time(&format!("{to}T20:00:00Z")));
        soon(nightly.backfill(from, to, Overlap::AllowAll)).await.expect("taken");
    }
    let found = eventually(async || nightly.describe().await.ok().filter(|found| found.recent.len() == 4)).await;
    let mut times: Vec<String> = found.recent.into_iter().map(|start| start.id).collect();
    times.sort_unstable();
    let expected = ["2026-03-28T01:30:00Z", "2026-03-29T01:00:00Z", "2026-03-30T00:30:00Z", "2026-10-25T00:30:00Z"];
    assert_eq!(times, expected.map(|time| format!("n-{time}")));
    worker.stop().await.expect("stopped");
}

pub(crate) async fn jitter_is_the_same_in_every_worker(stage: Stage) {
    let [first, second] = stage.processes(|settings| settings).await;
    let monthly = second.client().schedule("monthly");
    let (month, most) = (hours(30 * 24), hours(12));
    monthly.every(month).jitter(most).start::<Beat>(1).await.expect("started");
    let mut seen = Vec::new();
    for partitura in [&first, &second] {
        let worker = partitura.worker().workflow::<Beat>().schedules().start().await.expect("a worker");
        seen.push(eventually(async || monthly.describe().await.ok().filter(|found| found.next.len() == 10)).await.next);
        worker.stop().await.expect("stopped");
    }
    assert_eq!(seen[0], seen[1]);
    let month = i64::try_from(month.as_millis()).expect("small");
    let late: Vec<i64> = seen[0].iter().map(|due| due.as_millisecond() % month).collect();
    assert!(late.iter().all(|late| u128::from(late.unsigned_abs()) <= most.as_millis()), "{late:?}");
    assert!(late.iter().any(|other| *other != late[0]), "{late:?}");
}

pub(crate) async fn times_without_a_worker_are_made_up_for_within_the_window(stage: Stage) {
    let partitura = stage.application().await;
    let run = async || partitura.worker().workflow::<Beat>().schedules().start().await.expect("a worker");
    let first = run().await;
    let (wide, narrow) = (partitura.client().schedule("wide"), partitura.client().schedule("narrow"));
    wide.every(seconds(1)).overlap(Overlap::AllowAll).at_most(4).start::<Beat>(1).await.expect("started");
    narrow.every(seconds(1)).catch_up(millis(100)).start::<Beat>(1).await.expect("started");
    for schedule in [&wide, &narrow] {
        eventually(async || schedule.describe().await.ok().filter(|found| !found.next.is_empty())).await;
    }
    first.stop().await.expect("stopped");
    tokio::time::sleep(millis(2_200)).await;
    let second = run().await;
    eventually(async || narrow.describe().await.ok().filter(|found| found.missed >= 1)).await;
    soon(narrow.pause("seen enough")).await.expect("taken");
    let found = eventually(async || wide.describe().await.ok().filter(|found| found.recent.len() == 4)).await;
    assert_eq!((found.missed, found.remaining), (0, Some(0)), "{found:?}");
    let mut times: Vec<Timestamp> = found.recent.iter().map(|start| start.nominal.expect("a time")).collect();
    times.sort_unstable();
    assert!(times.windows(2).all(|two| two[1].duration_since(two[0]) == SignedDuration::from_secs(1)), "{times:?}");
    second.stop().await.expect("stopped");
}

/// Programs say what schedules there are whenever they begin.
pub(crate) async fn a_schedule_is_declared_by_each_program_that_begins(stage: Stage) {
    let partitura = stage.application().await;
    let worker = partitura.worker().workflow::<Beat>().schedules().start().await.expect("a worker");
    let rare = partitura.client().schedule("rare");
    for _ in 0..2 {
        rare.cron(LEAP_DAYS).paused("not yet").start_or_update::<Beat>(1).await.expect("declared");
    }
    let found = eventually(async || rare.describe().await.ok()).await;
    assert_eq!((found.paused.as_deref(), found.started), (Some("not yet"), 0));
    // A later version of the program, and one that only wants it to be there.
    rare.cron("0 0 1 1 *").start_or_update::<Beat>(2).await.expect("declared");
    rare.every(hours(1)).start::<Beat>(3).await.expect("declared");
    let is_new = |found: &ScheduleDescription| found.specification.times == [Recurrence::Cron("0 0 1 1 *".to_owned())];
    let found = eventually(async || rare.describe().await.ok().filter(is_new)).await;
    assert_eq!(found.paused.as_deref(), Some("not yet"), "it is as it was");
    let invalid = rare.cron("0 0 32 1 *").start::<Beat>(1).await;
    assert!(matches!(invalid, Err(ClientError::InvalidSchedule { .. })), "{invalid:?}");
    worker.stop().await.expect("stopped");
}
