//! Calls of tasks: what a method knows of its call, what is tried again, for how long, where, and together with which.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use partitura::{Cx, Retry, TaskContext, TaskError, Transient, Worker, join_all, millis, seconds};
use serde::{Deserialize, Serialize};

use crate::shop;
use crate::stage::Stage;
use crate::support::{Oops, soon};

/// It says of itself whether it passes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
enum Weather {
    #[error("there is fog")]
    Fog,
    #[error("there is a storm")]
    Storm,
}

impl Transient for Weather {
    fn is_transient(&self) -> bool {
        *self == Self::Fog
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Crate {
    harbour: String,
    number: u32,
}

/// The facts that a method knows of its call: workflow, id, attempt, key, and the time that it has.
type Known = (String, String, u32, String, Option<Duration>);

#[partitura::service]
trait Port {
    /// Gives what it knows in its second attempt.
    #[task(retry = Retry::fixed(millis(1)).max_attempts(3))]
    async fn report(&self) -> Result<Known, Weather>;
    #[task(retry = Retry::fixed(millis(1)).max_attempts(3))]
    async fn cross(&self, weather: Weather) -> Result<(), Weather>;
    async fn load(&self, number: u32) -> Result<u32, Weather>;
    #[batch(max = 1_000, within_ms = 300, per = "crates.harbour")]
    async fn ship(&self, crates: Vec<Crate>) -> Vec<Result<u32, Weather>>;
}

#[derive(Debug, Default)]
struct Seen {
    keys: Vec<String>,
    crossed: Vec<Weather>,
    /// How many are loaded now, and at most.
    loaded: (u32, u32),
    shipments: Vec<Vec<Crate>>,
}

#[derive(Debug, Clone, Default)]
struct Pier(Arc<Mutex<Seen>>);

impl Pier {
    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Port for Pier {
    async fn report(&self) -> Result<Known, Weather> {
        let task = TaskContext::current().expect("inside of a task");
        let (key, attempt) = (task.idempotency_key(), task.attempt());
        self.seen().keys.push(key.clone());
        if attempt == 1 {
            return Err(Weather::Fog);
        }
        Ok((task.workflow().to_owned(), task.workflow_id().to_owned(), attempt, key, task.timeout()))
    }

    async fn cross(&self, weather: Weather) -> Result<(), Weather> {
        self.seen().crossed.push(weather);
        Err(weather)
    }

    async fn load(&self, number: u32) -> Result<u32, Weather> {
        {
            let Seen { loaded: (now, most), .. } = &mut *self.seen();
            *now += 1;
            *most = (*now).max(*most);
        }
        tokio::time::sleep(millis(20)).await;
        self.seen().loaded.0 -= 1;
        Ok(number)
    }

    async fn ship(&self, crates: Vec<Crate>) -> Vec<Result<u32, Weather>> {
        let numbers = crates.iter().map(|one| Ok(one.number)).collect();
        self.seen().shipments.push(crates);
        numbers
    }
}

/// Runs one instance beside a pier.
async fn outcome<W: partitura::Workflow<Error = Oops>>(
    stage: &Stage,
    pier: &Pier,
    register: impl FnOnce(Worker) -> Worker,
    input: W::Input,
) -> W::Output {
    let partitura = stage.application().await;
    let worker = register(partitura.worker().service(PortService(pier.clone())).workflow::<W>());
    let worker = worker.start().await.expect("a worker");
    let handle = partitura.client().workflow::<W>("one");
    handle.start(input).await.expect("started");
    let outcome = soon(handle.result()).await.expect("a result");
    worker.stop().await.expect("stopped");
    outcome
}

/// Asks for three reports, with three times.
#[derive(Debug, Default)]
struct Reports;

#[partitura::workflow]
impl Reports {
    #[run]
    async fn run(cx: Cx<Self>) -> Result<Vec<Known>, Oops> {
        let port = cx.service::<PortStub>();
        Ok(vec![port.report().await?, port.report().timeout(seconds(7)).await?, port.report().no_timeout().await?])
    }
}

pub(crate) async fn a_method_knows_its_workflow_its_key_and_its_time(stage: Stage) {
    let pier = Pier::default();
    let known = outcome::<Reports>(&stage, &pier, |worker| worker, ()).await;
    let mut keys = Vec::new();
    for ((workflow, id, attempt, key, timeout), limit) in known.into_iter().zip([Some(3_600), Some(7), None]) {
        assert_eq!((&*workflow, &*id, attempt), ("Reports", "one", 2));
        assert_eq!(timeout, limit.map(seconds));
        // The same in both attempts.
        keys.extend([key.clone(), key]);
    }
    assert_eq!(pier.seen().keys, keys);
    keys.dedup();
    assert_eq!(keys.len(), 3);
}

/// Crosses in each weather, and says what came of it.
#[derive(Debug, Default)]
struct Crosses;

#[partitura::workflow]
impl Crosses {
    #[run]
    async fn run(cx: Cx<Self>) -> Result<Vec<Option<Weather>>, Oops> {
        let port = cx.service::<PortStub>();
        let crossed = [port.cross(Weather::Fog).await, port.cross(Weather::Storm).await];
        Ok(crossed.map(|crossed| crossed.err().and_then(TaskError::into_failed)).to_vec())
    }
}

pub(crate) async fn the_type_of_an_error_says_which_of_its_values_are_tried_again(stage: Stage) {
    let pier = Pier::default();
    let crossed = outcome::<Crosses>(&stage, &pier, |worker| worker, ()).await;
    assert_eq!(crossed, [Some(Weather::Fog), Some(Weather::Storm)]);
    assert_eq!(pier.seen().crossed, [Weather::Fog, Weather::Fog, Weather::Fog, Weather::Storm]);
}

/// Tries for a second, and no longer.
#[derive(Debug, Default)]
struct Hurries;

#[partitura::workflow]
impl Hurries {
    #[run]
    async fn run(cx: Cx<Self>) -> Result<(), Oops> {
        let cross = cx.service::<PortStub>().cross(Weather::Fog).retry(Retry::fixed(millis(150)).max_attempts(1_000));
        match cross.overall_timeout(seconds(1)).await {
            Err(TaskError::TimedOut | TaskError::Failed(Weather::Fog)) => Ok(()),
            other => Err(Oops::Task(format!("{other:?}"))),
        }
    }
}

pub(crate) async fn all_attempts_together_have_no_more_than_their_overall_time(stage: Stage) {
    let pier = Pier::default();
    outcome::<Hurries>(&stage, &pier, |worker| worker, ()).await;
    let attempts = pier.seen().crossed.len();
    assert!((1..=7).contains(&attempts), "{attempts} attempts");
}

/// Calls a method that only a newer version of the service has.
#[derive(Debug, Default)]
struct Early;

#[partitura::workflow]
impl Early {
    #[run]
    async fn run(cx: Cx<Self>) -> Result<String, Oops> {
        match cx.service::<shop::new::ShopStub>().refund(1).await {
            Err(TaskError::Unknown(problem)) => Ok(problem),
            other => Err(Oops::Task(format!("{other:?}"))),
        }
    }
}

pub(crate) async fn a_method_that_no_worker_knows_fails_with_the_builds_that_were_asked(stage: Stage) {
    let calls = shop::Calls::default();
    let old = |worker: Worker| {
        let worker = worker.service(shop::old::ShopService(calls.clone())).build_id("b-1");
        worker.try_elsewhere(millis(200))
    };
    let problem = outcome::<Early>(&stage, &Pier::default(), old, ()).await;
    assert!(problem.contains("refund") && problem.contains("tried by builds b-1"), "{problem}");
    assert!(calls.all().is_empty());
}

/// Has many crates loaded at once.
#[derive(Debug, Default)]
struct Loads;

#[partitura::workflow]
impl Loads {
    #[run]
    async fn run(cx: Cx<Self>, count: u32) -> Result<u32, Oops> {
        let port = cx.service::<PortStub>();
        let loaded = join_all((0..count).map(|number| port.load(number))).await;
        loaded.into_iter().map(|number| Ok(number?)).sum()
    }
}

pub(crate) async fn a_worker_runs_no_more_tasks_at_a_time_than_it_has_places(stage: Stage) {
    let pier = Pier::default();
    let sum = outcome::<Loads>(&stage, &pier, |worker| worker.concurrency(3), 20).await;
    assert_eq!((sum, pier.seen().loaded), ((0..20).sum(), (0, 3)));
}

/// Ships crates to two harbours, all at once.
#[derive(Debug, Default)]
struct Ships;

#[partitura::workflow]
impl Ships {
    #[run]
    async fn run(cx: Cx<Self>, count: u32) -> Result<Vec<u32>, Oops> {
        let port = cx.service::<PortStub>();
        let to = |number: u32| if number.is_multiple_of(2) { "Kiel" } else { "Oslo" };
        let ship = |number| port.ship(Crate { harbour: to(number).to_owned(), number });
        join_all((0..count).map(ship)).await.into_iter().map(|number| Ok(number?)).collect()
    }
}

pub(crate) async fn a_batch_has_one_key_and_goes_when_its_time_is_up(stage: Stage) {
    let pier = Pier::default();
    let shipped = outcome::<Ships>(&stage, &pier, |worker| worker, 12).await;
    assert_eq!(shipped, (0..12).collect::<Vec<_>>());
    let seen = pier.seen();
    for shipment in &seen.shipments {
        assert!(shipment.iter().all(|one| one.harbour == shipment[0].harbour), "{shipment:?}");
    }
    // None of them is full.
    assert!(seen.shipments.iter().any(|shipment| shipment.len() > 1), "none came together: {:?}", seen.shipments);
    assert_eq!(seen.shipments.iter().map(Vec::len).sum::<usize>(), 12);
}
