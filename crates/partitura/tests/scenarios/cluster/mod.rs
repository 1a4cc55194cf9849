//! Three processes that do everything, a broker and Postgres, and journeys of tasks, timers, children, updates, batches
//! and a schedule. A random process is killed every two seconds, the broker and Postgres once: all journeys end, each
//! task is begun once, each update counts once, and the schedule starts as often as it should.

mod journeys;

use std::collections::{BTreeMap, BTreeSet};
use std::future::IntoFuture;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use partitura::{Client, Partitura, seconds};
use partitura_servers::Kind;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use self::journeys::{Departure, Journey, JourneyUpdate, Ledger, TASKS, expected, register};
use crate::problem::Problem;
use crate::process::{Process, Program};
use crate::world::{EMBEDDED, World};

/// The first argument of a process that is one of the cluster.
pub(crate) const MEMBER: &str = "member";
const MEMBERS: usize = 3;
/// The variable that says how many journeys there are, and their number without it.
pub(crate) const JOURNEYS: &str = "PARTITURA_SCENARIO_WORKFLOWS";
const FEW: u32 = 60;
/// The number of journeys under way at a time.
const AT_ONCE: usize = 200;
const BETWEEN_KILLS: Duration = Duration::from_secs(2);
/// The starts of the schedule, one in each second.
const DEPARTURES: u64 = 10;
/// Without any progress for this long, it is stuck.
const TIME_LIMIT: Duration = Duration::from_secs(180);
/// The wait of a client before it asks again.
const PAUSE: Duration = Duration::from_millis(200);

/// The process of a member, until it is told to end.
pub(crate) fn work(arguments: &[String]) -> Result<(), Problem> {
    let named: BTreeMap<&str, &str> =
        arguments.chunks_exact(2).map(|pair| (pair[0].trim_start_matches('-'), &*pair[1])).collect();
    let [broker, store, run, data] = ["broker", "store", "run", "data"].map(|name| named.get(name).copied());
    let (Some(broker), Some(store), Some(run), Some(data)) = (broker, store, run, data) else {
        return Err("a member needs --broker, --store, --run and --data".into());
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(async {
        let mut terminate = signal(SignalKind::terminate())?;
        let partitura = connect(broker, store, run).await?;
        let ledger = Ledger::open(&PathBuf::from(data))?;
        let mut worker = register(partitura.worker(), ledger).start().await?;
        tokio::select! {
            _ = terminate.recv() => worker.stop().await?,
            ended = worker.ended() => return Err(format!("the worker ended by itself: {ended:?}").into()),
        }
        partitura.close().await?;
        Ok(())
    })
}

async fn connect(broker: &str, store: &str, run: &str) -> Result<Partitura, Problem> {
    let run = run.to_owned();
    Ok(partitura::connect(broker).store(store).with(move |settings| settings.namespace(run)).await?)
}

/// Has all journeys made, and compares their results and the ledger with what there was to do.
pub(crate) fn run(broker: Option<Kind>) -> Result<(), Problem> {
    let journeys = match std::env::var(JOURNEYS) {
        Ok(number) => number.parse()?,
        Err(_) => FEW,
    };
    let world = World::create(broker, 0)?;
    let Some((url, store)) = world.urls() else { return Err("a cluster needs a broker to share".into()) };
    let ledger = Ledger::open(world.data())?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let began = Instant::now();
    let done = Arc::new(AtomicUsize::new(0));
    let client = runtime.block_on(async {
        let mut cluster = Cluster::start(&world)?;
        let partitura = connect(&url, &store, world.run()).await?;
        let client = partitura.client();
        let mut travelling = tokio::spawn(travel(client.clone(), journeys, done.clone()));
        let kills = cluster.trouble(&mut travelling, &done, journeys as usize).await?;
        println!("{kills} kills of members");
        depart_as_often_as_it_should(&client).await?;
        cluster.stop().await?;
        Ok::<_, Problem>(client)
    })?;
    drop(client);
    runtime.shutdown_background();
    let name = broker.map_or(EMBEDDED, Kind::name);
    let called = ledger.read()?;
    let rate = f64::from(journeys) / began.elapsed().as_secs_f64();
    println!("{name}: {journeys} journeys in {:?}, {rate:.0} per second; {} calls", began.elapsed(), called.len());
    compare(&called, journeys as usize * TASKS + DEPARTURES as usize)
}

/// A task may be called again after a kill, under the same key. There are as many keys as tasks.
fn compare(called: &[String], tasks: usize) -> Result<(), Problem> {
    let keys: BTreeSet<&String> = called.iter().collect();
    match keys.len() {
        found if found == tasks => Ok(()),
        found => Err(format!("{tasks} tasks were to be run, and {found} have been").into()),
    }
}

/// Starts all journeys, pays for each once, and awaits their results. Each request is made again, under the same id,
/// until it is answered.
async fn travel(client: Client, journeys: u32, done: Arc<AtomicUsize>) -> Result<(), Problem> {
    let places = Arc::new(Semaphore::new(AT_ONCE));
    let mut all = JoinSet::new();
    let schedule = client.schedule("departures");
    let departures = || schedule.every(seconds(1)).at_most(DEPARTURES).catch_up(seconds(3_600));
    insist(|| departures().start::<Departure>(1)).await;
    for number in 0..journeys {
        let place = places.clone().acquire_owned().await?;
        let (client, done) = (client.clone(), done.clone());
        all.spawn(async move {
            let journey = client.workflow::<Journey>(format!("journey-{number}"));
            insist(|| journey.start(number).into_future()).await;
            let paid = insist(|| journey.update(JourneyUpdate::pay()).id("pay").into_future()).await;
            let result = insist(|| journey.result()).await;
            done.fetch_add(1, Ordering::SeqCst);
            drop(place);
            (number, paid, result)
        });
    }
    while let Some(ended) = all.join_next().await {
        let (number, paid, result) = ended?;
        if (paid, result) != (1, expected(number)) {
            return Err(format!("journey {number} was paid for {paid} times and ended with {result}").into());
        }
    }
    Ok(())
}

/// Asks until there is an answer. The time limit is that of the whole.
async fn insist<T, E: std::fmt::Display, F: Future<Output = Result<T, E>>>(ask: impl Fn() -> F) -> T {
    loop {
        match ask().await {
            Ok(answer) => return answer,
            Err(error) => {
                tracing::debug!(%error, "asking again");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

async fn depart_as_often_as_it_should(client: &Client) -> Result<(), Problem> {
    let schedule = client.schedule("departures");
    let until = Instant::now() + TIME_LIMIT;
    loop {
        let found = insist(|| schedule.describe()).await;
        if found.started == DEPARTURES && found.running.is_empty() {
            return Ok(());
        }
        if Instant::now() > until {
            return Err(format!("the schedule should have started {DEPARTURES} times: {found:?}").into());
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// The processes, and their fate.
struct Cluster<'w> {
    world: &'w World,
    program: Program,
    members: Vec<Process>,
    chance: u64,
}

impl<'w> Cluster<'w> {
    fn start(world: &'w World) -> Result<Self, Problem> {
        let chance = std::process::id().into();
        println!("the order of kills has the seed {chance}");
        let mut cluster = Self { world, program: Program::this()?, members: Vec::new(), chance };
        for _ in 0..MEMBERS {
            let member = cluster.member()?;
            cluster.members.push(member);
        }
        Ok(cluster)
    }

    fn member(&self) -> Result<Process, Problem> {
        let mut arguments = vec![MEMBER.to_owned()];
        arguments.extend(self.world.arguments());
        self.program.start(MEMBER, &arguments)
    }

    /// Kills a random member every two seconds until all journeys are made, the broker after a third of them and
    /// Postgres after two thirds. Gives the number of kills of members.
    async fn trouble(
        &mut self,
        travelling: &mut tokio::task::JoinHandle<Result<(), Problem>>,
        done: &AtomicUsize,
        journeys: usize,
    ) -> Result<usize, Problem> {
        let (mut broker, mut store, mut kills) = (false, false, 0);
        let (mut seen, mut progress) = (0, Instant::now());
        loop {
            tokio::select! {
                ended = &mut *travelling => return ended?.map(|()| kills),
                () = tokio::time::sleep(BETWEEN_KILLS) => {}
            }
            let now = done.load(Ordering::SeqCst);
            if kills % 10 == 0 {
                println!("{now} of {journeys} journeys, {kills} kills");
            }
            if now > seen {
                (seen, progress) = (now, Instant::now());
            } else if progress.elapsed() > TIME_LIMIT {
                return Err(format!("stuck after {seen} of {journeys} journeys:\n{}", self.said()).into());
            }
            if !broker && now > journeys / 3 {
                broker = true;
                tokio::task::block_in_place(|| self.world.restart_broker())?;
            }
            if !store && now > 2 * journeys / 3 {
                store = true;
                tokio::task::block_in_place(|| self.world.restart_store())?;
            }
            self.kill()?;
            kills += 1;
        }
    }

    /// Kills a random member, and replaces all that are gone: one ends by itself if the broker is away when it starts.
    fn kill(&mut self) -> Result<(), Problem> {
        // The generator of Knuth's MMIX.
        self.chance = self.chance.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let victim = (self.chance >> 33) as usize % self.members.len();
        self.members[victim].kill()?;
        for at in 0..self.members.len() {
            if self.members[at].ended()?.is_some() {
                self.members[at] = self.member()?;
            }
        }
        Ok(())
    }

    async fn stop(self) -> Result<(), Problem> {
        let stopping = self.members.into_iter().map(|member| tokio::task::spawn_blocking(move || member.stop()));
        for stopped in stopping.collect::<Vec<_>>() {
            stopped.await??;
        }
        Ok(())
    }

    fn said(&mut self) -> String {
        self.members.iter_mut().map(|member| format!("{MEMBER}: {}\n", member.said())).collect()
    }
}
