//! The processes of a world: workers that join and leave, and clients, of which one stays.

use std::num::{NonZeroU32, NonZeroUsize};
use std::sync::Arc;
use std::time::Duration;

use partitura::{Builder, Client, Partitura};
use partitura_broker::Result;
use tokio::time::sleep;

use crate::broker::SimBroker;
use crate::catalogue::doomed::InProcess;
use crate::catalogue::{self, Answered, Part};
use crate::plan::{Plan, StateIn};
use crate::process::Process;
use crate::service::{Musician, PlayerService};
use crate::store::SimStore;
use crate::world::World;

/// Runs one worker after the other, each until it dies or is told to leave.
pub(crate) async fn worker(world: World, number: usize) {
    for life in 1.. {
        let process = world.process(format!("w{number}.{life}"), true);
        let (why, in_good_order) = tokio::select! {
            biased;
            () = process.died() => ("died", false),
            ended = work(&process) => ended,
        };
        process.exit(in_good_order);
        let rest = {
            let mut state = world.lock();
            state.note(&format!("w{number}.{life}"), format_args!("is over: {why}"));
            if state.can_do_without(process.id) && state.random.coin() {
                return;
            }
            let longest = if state.chaos { 5_000 } else { 500 };
            state.random.between(1, longest)
        };
        sleep(Duration::from_millis(rest)).await;
    }
}

/// The reason why it ended, and whether it ended in good order.
async fn work(process: &Process) -> (&'static str, bool) {
    let Ok(partitura) = connect(process).await else { return ("no connection", false) };
    let service = PlayerService(Musician(process.clone()));
    let (concurrency, workflows) = {
        let state = process.world.lock();
        (state.plan.concurrency, state.workflows.clone())
    };
    let worker = partitura.worker().service(service).concurrency(at_least_one(concurrency));
    let worker = worker.layer(InProcess(process.clone()));
    let worker = catalogue::register(worker, &workflows, process.generation());
    let Ok(mut running) = worker.start().await else { return ("no start", false) };
    process.begins_to_count();
    tokio::select! {
        biased;
        () = process.leaves() => match running.stop().await {
            Ok(()) => ("it left", true),
            Err(_) => ("it left, not cleanly", false),
        },
        _ = running.ended() => ("it cannot go on", false),
    }
}

/// Runs one client, one process after the other if it may crash. The other clients share a process that does not crash.
pub(crate) async fn client(world: World, name: String, part: Part, spared: Client) -> Result<Answered, String> {
    if !(part.may_crash && world.lock().plan.clients_crash) {
        return (part.perform)(spared, world).await;
    }
    for life in 1.. {
        let process = world.process(format!("{name}.{life}"), true);
        let performance = async {
            let client = persistent(&process).await;
            process.begins_to_count();
            (part.perform)(client, world.clone()).await
        };
        let answered = tokio::select! {
            biased;
            () = process.died() => None,
            answered = performance => Some(answered),
        };
        process.exit(answered.is_some());
        if let Some(answered) = answered {
            return answered;
        }
        let rest = world.lock().random.between(1, 2_000);
        sleep(Duration::from_millis(rest)).await;
    }
    Err("a client has many lives".to_owned())
}

/// A client, as soon as there is a connection.
pub(crate) async fn persistent(process: &Process) -> Client {
    loop {
        match connect(process).await {
            Ok(partitura) => return partitura.client(),
            Err(_) => sleep(Duration::from_millis(100)).await,
        }
    }
}

/// Joins the world's broker, and its store where it has one.
async fn connect(process: &Process) -> Result<Partitura> {
    let plan = process.world.lock().plan.clone();
    settings(process, &plan).await
}

fn settings(process: &Process, plan: &Plan) -> Builder {
    let mut builder = Partitura::on(Arc::new(SimBroker::connect(process)))
        .clock(Arc::new(process.clone()))
        .ids(Arc::new(process.world.clone()))
        .crashes(plan.crashes())
        .partitions(NonZeroU32::new(plan.partitions).unwrap_or(NonZeroU32::MIN))
        .cache(at_least_one(plan.cache))
        .ask_again(Duration::from_secs(10))
        .drain_within(Duration::from_millis(plan.drain_within()));
    if plan.state_in != StateIn::Broker {
        builder = builder.store(Arc::new(SimStore::connect(process)));
    }
    builder
}

fn at_least_one(number: usize) -> NonZeroUsize {
    NonZeroUsize::new(number).unwrap_or(NonZeroUsize::MIN)
}
