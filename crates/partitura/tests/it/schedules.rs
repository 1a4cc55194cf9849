//! Instances that are started again and again.

use std::time::Duration;

use partitura::jiff::tz::TimeZone;
use partitura::jiff::{SignedDuration, Timestamp, Zoned};
use partitura::testing::TestEnv;
use partitura::{
    ActionEnd, Cancelled, ClientError, Cx, Filter, Overlap, Recurrence, ScheduleDescription, ScheduleHandle, Status,
    Summary, days, hours, minutes, seconds,
};

/// Takes as many minutes as its input says.
#[derive(Debug, Default)]
struct Report;

#[partitura::workflow]
impl Report {
    #[run]
    async fn run(cx: Cx<Self>, takes: u64) -> Result<u64, Cancelled> {
        cx.sleep(minutes(takes)).await?;
        Ok(takes)
    }
}

fn env() -> TestEnv {
    TestEnv::new().workflow::<Report>().schedules()
}

fn time(ms: u64) -> Timestamp {
    Timestamp::from_millisecond(i64::try_from(ms).expect("a time")).expect("a time")
}

fn now(env: &TestEnv) -> Timestamp {
    time(env.now().as_millis())
}

/// Lets time pass until then.
async fn until(env: &TestEnv, moment: Timestamp) {
    env.advance(Duration::try_from(moment.duration_since(now(env))).expect("in the future")).await;
}

/// The reports that were started, the first one first.
async fn reports(env: &TestEnv) -> Vec<Summary> {
    let mut reports = env.client().await.list::<Report>(Filter::all()).await.expect("listed");
    reports.sort_by_key(|report| report.started_at);
    reports
}

/// Lets time pass up to half an hour before a full hour.
async fn half_past(env: &TestEnv) {
    let into_the_hour = now(env).as_millisecond() % 3_600_000;
    env.advance(Duration::from_millis((3_600_000 - into_the_hour) as u64) + minutes(30)).await;
}

async fn described(schedule: &ScheduleHandle) -> ScheduleDescription {
    schedule.describe().await.expect("an answer")
}

#[tokio::test]
async fn a_month_of_nights_has_a_report_each_night_also_when_the_clocks_change() {
    let (env, berlin) = (env(), TimeZone::get("Europe/Berlin").expect("a time zone"));
    let change = berlin.following(now(&env)).nth(1).expect("the clocks change").timestamp();
    until(&env, change - SignedDuration::from_hours(15 * 24 + 6)).await;
    let nightly = env.client().await.schedule("nightly");
    nightly.cron("0 3 * * *").time_zone("Europe/Berlin").tag("sales").start::<Report>(5).await.expect("started");
    env.advance(days(30)).await;
    let reports = reports(&env).await;
    assert_eq!(reports.len(), 30);
    let mut dates = Vec::new();
    for Summary { id, started_at, status, tags, .. } in &reports {
        let local: Zoned = time(*started_at).to_zoned(berlin.clone());
        assert_eq!((local.hour(), local.minute(), local.second()), (3, 0, 0), "{local}");
        let nominal: Timestamp = id.strip_prefix("nightly-").expect("named after it").parse().expect("a time");
        assert!(time(*started_at).duration_since(nominal) < SignedDuration::from_secs(1), "{id}");
        assert_eq!(*status, Status::Completed);
        assert_eq!(tags[..], ["sales", "schedule:nightly"]);
        dates.push(local.date());
    }
    dates.dedup();
    assert_eq!(dates.len(), 30);
    let description = described(&nightly).await;
    assert_eq!((description.started, description.skipped, description.missed), (30, 0, 0));
    assert_eq!((description.next.len(), description.recent.len(), description.running.len()), (10, 10, 0));
    assert!(description.recent.iter().all(|start| start.end == Some(ActionEnd::Completed)));
    let next = description.next[0].to_zoned(berlin);
    assert_eq!((next.hour(), next.minute()), (3, 0));
}

#[tokio::test]
async fn what_runs_at_the_next_time_is_dealt_with_by_policy() {
    let env = env();
    half_past(&env).await;
    let policies = [
        ("skip", Overlap::Skip),
        ("one", Overlap::BufferOne),
        ("all", Overlap::BufferAll),
        ("cancel", Overlap::CancelOther),
        ("terminate", Overlap::TerminateOther),
        ("beside", Overlap::AllowAll),
    ];
    let client = env.client().await;
    for (id, overlap) in policies {
        // Each takes almost three hours.
        client.schedule(id).every(hours(1)).overlap(overlap).start::<Report>(170).await.expect("started");
    }
    // Six times.
    env.advance(hours(6)).await;
    for (id, started, skipped, running, waiting) in [
        ("skip", 2, 4, 1, 0),
        ("one", 2, 3, 1, 1),
        ("all", 2, 0, 1, 4),
        ("cancel", 6, 0, 1, 0),
        ("terminate", 6, 0, 1, 0),
        ("beside", 6, 0, 3, 0),
    ] {
        let found = described(&client.schedule(id)).await;
        let counts = (found.started, found.skipped, found.running.len(), found.waiting.len());
        assert_eq!(counts, (started, skipped, running, waiting), "{id}: {found:?}");
    }
    let ends = async |id| described(&client.schedule(id)).await.recent.into_iter().map(|start| start.end);
    assert!(ends("cancel").await.all(|end| matches!(end, Some(ActionEnd::Cancelled(_)))));
    assert!(ends("terminate").await.all(|end| matches!(end, Some(ActionEnd::Terminated(_)))));
    assert_eq!(ends("beside").await.len(), 3);
}

#[tokio::test]
async fn a_schedule_is_paused_triggered_resumed_and_backfilled() {
    let env = env();
    half_past(&env).await;
    let began = now(&env);
    let hourly = env.client().await.schedule("hourly");
    hourly.every(hours(1)).start::<Report>(1).await.expect("started");
    env.advance(hours(2)).await;
    hourly.pause("a holiday").await.expect("taken");
    env.advance(hours(3)).await;
    let paused = described(&hourly).await;
    assert_eq!((paused.paused.as_deref(), paused.started, paused.next.len()), (Some("a holiday"), 2, 0));
    hourly.trigger().await.expect("taken");
    hourly.trigger().await.expect("taken");
    assert_eq!(described(&hourly).await.running.len(), 2, "beside each other");
    env.advance(minutes(2)).await;
    assert_eq!(reports(&env).await.len(), 4);
    hourly.resume().await.expect("taken");
    env.advance(hours(1)).await;
    let resumed = described(&hourly).await;
    assert_eq!((resumed.paused, resumed.started, resumed.missed), (None, 5, 0));
    // The instances that were started before are not started again.
    hourly.backfill(began, now(&env), Overlap::BufferAll).await.expect("taken");
    env.advance(minutes(10)).await;
    assert_eq!(reports(&env).await.len(), 5 + 3);
    let filled = described(&hourly).await;
    assert_eq!((filled.started, filled.running.len(), filled.waiting.len()), (5 + 6, 0, 0));
}

#[tokio::test]
async fn a_schedule_has_a_limit_and_is_updated_listed_and_deleted() {
    let env = env();
    half_past(&env).await;
    let client = env.client().await;
    let twice = client.schedule("twice");
    twice.every(hours(1)).at_most(2).start::<Report>(1).await.expect("started");
    // It is there already.
    twice.every(hours(1)).at_most(9).start::<Report>(1).await.expect("taken");
    env.advance(seconds(1)).await;
    assert_eq!(described(&twice).await.next.len(), 2);
    env.advance(hours(5)).await;
    let done = described(&twice).await;
    assert_eq!((done.started, done.remaining, done.next.len()), (2, Some(0), 0));
    twice.cron("15 * * * *").at_most(3).update::<Report>(2).await.expect("updated");
    env.advance(hours(5)).await;
    let updated = described(&twice).await;
    assert_eq!((updated.started, updated.remaining), (5, Some(0)));
    assert_eq!(updated.specification.times, [Recurrence::Cron("15 * * * *".into())]);
    client.schedule("other").every(hours(2)).offset(minutes(7)).start_or_update::<Report>(1).await.expect("started");
    client.schedule("other").every(hours(3)).offset(minutes(8)).start_or_update::<Report>(1).await.expect("updated");
    env.advance(seconds(1)).await;
    assert_eq!(client.schedules().await.expect("listed"), ["other", "twice"]);
    let other = described(&client.schedule("other")).await;
    assert_eq!(other.specification.times, [Recurrence::Every { period: hours(3), offset: minutes(8) }]);
    assert_eq!(other.next[0].as_millisecond() % 10_800_000, 480_000);
    twice.delete().await.expect("deleted");
    assert_eq!(client.schedules().await.expect("listed"), ["other"]);
    assert!(matches!(twice.describe().await, Err(ClientError::NotFound { .. })));
    assert!(matches!(twice.pause("gone").await, Err(ClientError::NotFound { .. })));
    // Its id is free.
    twice.every(hours(1)).at_most(1).paused("not yet").start::<Report>(1).await.expect("started");
    env.advance(hours(2)).await;
    let paused = described(&twice).await;
    assert_eq!((paused.started, paused.paused.as_deref()), (0, Some("not yet")));
}

#[tokio::test]
async fn a_schedule_that_cannot_be_is_refused() {
    let env = env();
    let schedule = env.client().await.schedule("s");
    for (refused, told) in [
        (
            schedule.cron("0 3 * * *").time_zone("Mars/Olympus").start::<Report>(1).await,
            "no time zone \"Mars/Olympus\"",
        ),
        (schedule.cron("every day").start::<Report>(1).await, "has 2 fields, not 5"),
        (schedule.every(Duration::ZERO).start::<Report>(1).await, "the least is 1 s"),
    ] {
        let error = refused.expect_err("refused").to_string();
        assert!(error.starts_with("schedule s: ") && error.contains(told), "{error}");
    }
    assert!(matches!(schedule.describe().await, Err(ClientError::NotFound { .. })));
}

#[tokio::test]
async fn jitter_delays_each_start_by_less_than_its_limit() {
    let env = env();
    half_past(&env).await;
    let client = env.client().await;
    client.schedule("j").every(hours(1)).jitter(minutes(10)).start::<Report>(1).await.expect("started");
    env.advance(hours(24)).await;
    let late: Vec<u64> = reports(&env).await.iter().map(|report| report.started_at % 3_600_000).collect();
    assert_eq!(late.len(), 24);
    assert!(late.iter().all(|late| *late <= 600_100), "{late:?}");
    assert!(late.iter().any(|late| *late > 60_000) && late.iter().any(|late| *late < 540_000), "{late:?}");
}
