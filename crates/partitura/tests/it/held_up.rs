//! One instance that cannot go on holds up nobody.

use std::num::NonZeroUsize;

use partitura::{Cx, Status, join_all, seconds};
use partitura_broker::ErrorKind;

use crate::between::Place;
use crate::interrupted::{Bells, Rings, SecondService};
use crate::support::{Oops, TextService, TextStub, Texts, eventually, soon};

/// Calls a service, then panics at once when it is told to.
#[derive(Debug, Default)]
struct Fragile {
    told: u32,
}

#[partitura::workflow]
impl Fragile {
    #[run]
    async fn run(cx: Cx<Self>) -> Result<u32, Oops> {
        cx.service::<TextStub>().dot("x".into()).await?;
        cx.until(|fragile: &Fragile| fragile.told > 0).await?;
        // Without the noise of the hook.
        std::panic::resume_unwind(Box::new("it breaks"));
    }

    #[signal]
    fn tell(&mut self) {
        self.told += 1;
    }
}

/// How many signals come to the instance that cannot go on; far more than a worker takes up at a time.
const SIGNALS: usize = 10_000;
/// How many tasks and turns a worker has at a time.
const AT_A_TIME: usize = 100;
/// The commands that a worker may hold, both of those that wait and of all others.
const HELD: isize = 3 * AT_A_TIME as isize;

async fn signals_hold_up_nobody(place: &Place, signals: usize, prepare: impl AsyncFn(&Place)) {
    let process = place.process().await;
    let worker = process.worker().service(TextService(Texts::default())).workflow::<Fragile>();
    let worker = worker.concurrency(NonZeroUsize::new(AT_A_TIME).expect("not zero")).start().await.expect("a worker");
    let client = place.process().await.client();
    let fragile = client.workflow::<Fragile>("f");
    prepare(place).await;
    fragile.start(()).await.expect("started");
    for thousand in 0..signals / 1_000 {
        let sent = join_all((0..1_000).map(|_| async { fragile.signal(FragileSignal::tell()).await })).await;
        sent.into_iter().collect::<Result<Vec<_>, _>>().expect("sent");
        // Others work meanwhile.
        let other = client.workflow::<Fragile>(format!("o{thousand}"));
        other.start(()).await.expect("started");
        soon(other.describe()).await.expect("an answer");
    }
    let held = place.most_held();
    println!("{held} deliveries were held at most");
    assert!(held <= HELD, "{held}");
    worker.stop().await.expect("stopped");
}

async fn signals_to_a_stopped_instance_are_kept(number: usize) {
    let place = Place::new();
    signals_hold_up_nobody(&place, number, async |_| {}).await;
    let process = place.process().await;
    let worker = process.worker().workflow::<Fragile>().start().await.expect("a worker");
    let fragile = process.client().workflow::<Fragile>("f");
    let stopped = eventually(|| async { fragile.describe().await.ok() }).await;
    assert!(matches!(stopped.status, Status::Stopped { .. }), "{stopped:?}");
    let kept = soon(fragile.history()).await.expect("a history");
    let signals = kept.iter().filter(|event| event.to_string().starts_with("SignalReceived")).count();
    assert_eq!(signals, number);
    worker.stop().await.expect("stopped");
}

#[tokio::test(start_paused = true)]
async fn signals_to_a_stopped_instance_are_kept_and_hold_up_nobody() {
    signals_to_a_stopped_instance_are_kept(SIGNALS).await;
}

#[tokio::test(start_paused = true)]
#[ignore = "minutes without optimization: cargo test --release -p partitura --test it ten_times -- --ignored"]
async fn ten_times_as_many_signals_to_a_stopped_instance_hold_up_nobody_either() {
    signals_to_a_stopped_instance_are_kept(10 * SIGNALS).await;
}

#[tokio::test(start_paused = true)]
async fn signals_to_an_instance_whose_messages_the_broker_does_not_take_hold_up_nobody() {
    let place = Place::new();
    signals_hold_up_nobody(&place, SIGNALS, async |place| {
        place.refuse(|message| message.topic.as_str().ends_with(".tasks").then_some(ErrorKind::Timeout));
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn an_instance_answers_though_the_next_attempt_of_its_task_cannot_be_sent() {
    let (place, bells) = (Place::new(), Bells::default());
    let process = place.process().await;
    let worker = process.worker().workflow::<Rings>().service(SecondService(bells.clone()));
    let worker = worker.start().await.expect("a worker");
    let rings = place.process().await.client().workflow::<Rings>("b");
    rings.start("fail".into()).await.expect("started");
    tokio::time::sleep(seconds(1)).await;
    assert!(bells.calls() > 0);
    place.refuse(|message| message.topic.as_str().ends_with(".tasks").then_some(ErrorKind::Timeout));
    tokio::time::sleep(seconds(10)).await;
    soon(rings.describe()).await.expect("described");
    soon(async { rings.terminate("enough").await }).await.expect("sent");
    soon(rings.result()).await.expect_err("it is terminated");
    worker.stop().await.expect("stopped");
}
