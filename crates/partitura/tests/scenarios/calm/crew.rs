use std::collections::HashMap;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use partitura::contract::Broker;
use partitura::{Builder, Client, Partitura, RunningWorker};
use tokio::signal::unix::{SignalKind, signal};

use super::diary::{self, Diary};
use super::pieces::{Chain, CrewService, Fan, Return, Worker};
use crate::problem::Problem;
use crate::process::{Process, Program};
use crate::world::World;

/// The first argument of a process that is to be a worker.
pub(crate) const WORK: &str = "work";

/// The broker, the names and the directory of a run.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    /// `None`: all is in this process.
    servers: Option<(String, String)>,
    run: String,
    pub(crate) data: PathBuf,
    pub(crate) task: Duration,
    arguments: Vec<String>,
}

impl Place {
    pub(crate) fn in_world(world: &World, task: Duration) -> Self {
        let mut arguments = world.arguments();
        arguments.extend(["--task".to_owned(), task.as_secs().to_string()]);
        Self::read(arguments)
    }

    /// Reads the arguments of a worker's process.
    fn read(arguments: Vec<String>) -> Self {
        let named: HashMap<&str, &String> =
            arguments.chunks_exact(2).map(|pair| (pair[0].trim_start_matches('-'), &pair[1])).collect();
        let value = |name: &str| named.get(name).map(|value| (*value).clone());
        Self {
            servers: value("broker").zip(value("store")),
            run: value("run").unwrap_or_default(),
            data: value("data").unwrap_or_default().into(),
            task: Duration::from_secs(value("task").and_then(|task| task.parse().ok()).unwrap_or_default()),
            arguments,
        }
    }

    /// Few instances in memory; and a worker that leaves finishes what it began.
    fn settings(&self) -> impl FnOnce(Builder) -> Builder + Send + 'static {
        let (run, drain) = (self.run.clone(), self.task * 3);
        move |builder| builder.namespace(run).cache(NonZeroUsize::MIN).drain_within(drain)
    }

    async fn connect(&self, memory: Option<&Arc<dyn Broker>>) -> Result<Partitura, Problem> {
        Ok(match (&self.servers, memory) {
            (Some((broker, store)), _) => partitura::connect(broker).store(store).with(self.settings()).await?,
            (None, Some(broker)) => (self.settings())(Partitura::on(broker.clone())).await?,
            (None, None) => return Err("a process of its own needs a broker to share".into()),
        })
    }

    async fn begin(&self, partitura: &Partitura, diary: &Arc<Diary>) -> Result<RunningWorker, Problem> {
        diary::of_this_process(diary, self.task);
        let hands = CrewService(Worker { diary: diary.clone(), task: self.task });
        let worker = partitura.worker().service(hands);
        Ok(worker.workflow::<Chain>().workflow::<Fan>().workflow::<Return>().start().await?)
    }
}

/// The process of a worker, until it is told to end.
pub(crate) fn work(arguments: Vec<String>) -> Result<(), Problem> {
    let place = Place::read(arguments);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(async {
        let mut terminate = signal(SignalKind::terminate())?;
        let partitura = place.connect(None).await?;
        let mut worker = place.begin(&partitura, &Diary::open(&place.data)?).await?;
        tokio::select! {
            _ = terminate.recv() => worker.stop().await?,
            ended = worker.ended() => return Err(format!("the worker ended by itself: {ended:?}").into()),
        }
        partitura.close().await?;
        Ok(())
    })
}

/// The workers at present.
pub(crate) struct Crew {
    place: Place,
    diary: Arc<Diary>,
    memory: Option<Arc<dyn Broker>>,
    members: HashMap<usize, Member>,
    joined: usize,
}

enum Member {
    Process(Process),
    Here(RunningWorker),
}

impl Crew {
    pub(crate) async fn new(place: Place, diary: Arc<Diary>) -> Result<Self, Problem> {
        let memory = match place.servers {
            Some(_) => None,
            None => Some(partitura::broker("memory:").await?),
        };
        Ok(Self { place, diary, memory, members: HashMap::new(), joined: 0 })
    }

    pub(crate) async fn client(&self) -> Result<Client, Problem> {
        Ok(self.place.connect(self.memory.as_ref()).await?.client())
    }

    /// How often somebody has joined.
    pub(crate) fn joined(&self) -> usize {
        self.joined
    }

    /// Another worker. Gives its number.
    pub(crate) async fn join(&mut self) -> Result<usize, Problem> {
        let member = if self.memory.is_some() {
            let partitura = self.place.connect(self.memory.as_ref()).await?;
            let worker = self.place.begin(&partitura, &self.diary).await?;
            Member::Here(worker)
        } else {
            let mut arguments = vec![WORK.to_owned()];
            arguments.extend(self.place.arguments.iter().cloned());
            Member::Process(Program::this()?.start("worker", &arguments)?)
        };
        self.joined += 1;
        self.members.insert(self.joined, member);
        Ok(self.joined)
    }

    /// A worker finishes what it does, and is gone.
    pub(crate) async fn leave(&mut self, number: usize) -> Result<(), Problem> {
        let limit = self.place.task * 4;
        match self.members.remove(&number) {
            Some(Member::Process(process)) => tokio::task::spawn_blocking(move || process.stop_within(limit)).await?,
            // The broker is the others', too.
            Some(Member::Here(worker)) => Ok(worker.stop().await?),
            None => Err(format!("worker {number} is gone already").into()),
        }
    }

    pub(crate) async fn go_home(mut self) -> Result<(), Problem> {
        let numbers: Vec<usize> = self.members.keys().copied().collect();
        for number in numbers {
            self.leave(number).await?;
        }
        Ok(())
    }
}
