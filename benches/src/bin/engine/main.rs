//! Measures the engine with the workloads of other engines' benchmarks, through the public interface: on the embedded
//! broker, or on any other.
//!
//! Workflows, tasks and client share this process; so does the embedded broker. Every task is a message to its
//! service's topic, and a confirmed message was synced to the file.

mod drive;
mod plan;
mod rest;
mod work;

use std::io::Write as _;
use std::path::PathBuf;
use std::sync::Arc;

use clap::Parser;
use partitura::Partitura;
use partitura_bench_kit::{Failure, Latencies, Measure, Timed, Usage, table};
use tempfile::TempDir;

use crate::plan::{Name, Plan, Sizes, plans, rests};
use crate::rest::{Calls, Counted, REST};

/// Measures the engine with the workloads of other engines' benchmarks, on the embedded broker unless another is named.
#[derive(Parser)]
#[command(name = "cargo xtask bench")]
struct Arguments {
    /// The workloads to measure; without a name, all.
    #[arg(value_name = "NAME")]
    names: Vec<Name>,
    /// The same as NAME, for scripts of the other benchmarks.
    #[arg(long, hide = true)]
    workload: Vec<Name>,
    #[command(flatten)]
    sizes: Sizes,
    /// The number of times that everything is measured.
    #[arg(long, default_value_t = 1)]
    repeat: usize,
    /// Prints each figure as a line of JSON on standard output.
    #[arg(long)]
    json: bool,
    /// The name of the figures. By default it is partitura-embedded, or that of the broker.
    #[arg(long)]
    peer: Option<String>,
    /// The directory of the store, which is kept. By default it is made below target/bench, and removed.
    #[arg(long, conflicts_with_all = ["memory", "broker"])]
    data: Option<PathBuf>,
    /// Another, running broker: nats://…, kafka://…, amqp://…, amqp10://…, pulsar://…. Topics are left on it, in the
    /// namespace `bench`.
    #[arg(long, value_name = "URL", requires = "store", conflicts_with = "memory")]
    broker: Option<String>,
    /// The store for the state of workflows: postgres://….
    #[arg(long, value_name = "URL")]
    store: Option<String>,
    /// In memory: nothing is synced and nothing survives. For comparison only.
    #[arg(long)]
    memory: bool,
}

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let arguments = Arguments::parse();
    let chosen: Vec<Name> = arguments.names.iter().chain(&arguments.workload).copied().collect();
    // It is dropped at the end, and removes its files.
    let scratch = scratch(&arguments)?;
    let directory = scratch.as_ref().map(TempDir::path).or(arguments.data.as_deref());
    let embedded = || directory.map_or("memory:".to_owned(), |directory| format!("embedded:{}", directory.display()));
    let store = match &arguments.store {
        Some(url) => Some(Counted::over(partitura::store(url).await?)),
        None if chosen.iter().any(|name| matches!(name, Name::Rest)) => return Err("rest: give it a --store".into()),
        None => None,
    };
    let partitura = connect(arguments.broker.clone().unwrap_or_else(embedded), store.clone()).await?;
    let worker = work::register(partitura.worker()).start().await?;

    let mut measures = Vec::new();
    for _ in 0..arguments.repeat {
        for plan in plans(&chosen, &arguments.sizes) {
            let measure = measure(&arguments, &partitura, &plan).await?;
            report(&arguments, measure, &mut measures)?;
        }
        if let Some(store) = store.as_ref().filter(|_| rests(&chosen)) {
            report(&arguments, at_rest(&peer(&arguments, &partitura), store.at_rest().await), &mut measures)?;
        }
    }
    worker.stop().await?;
    partitura.close().await?;
    eprintln!("\n{}", table(&measures));
    Ok(())
}

async fn connect(url: String, store: Option<Arc<Counted>>) -> Result<Partitura, partitura::Error> {
    let connect = partitura::connect(url);
    match store {
        Some(store) => connect.with(|settings| settings.store(store).namespace("bench")).await,
        None => connect.await,
    }
}

fn report(arguments: &Arguments, measure: Measure, measures: &mut Vec<Measure>) -> Result<(), Failure> {
    eprintln!("{} at {}: {:.0}/s", measure.workload, measure.concurrency, measure.per_s);
    if arguments.json {
        println!("{}", serde_json::to_string(&measure)?);
        std::io::stdout().flush()?;
    }
    measures.push(measure);
    Ok(())
}

fn scratch(arguments: &Arguments) -> Result<Option<TempDir>, Failure> {
    if arguments.memory || arguments.data.is_some() || arguments.broker.is_some() {
        return Ok(None);
    }
    // Not in the system's temporary directory: that may be memory, and nothing would be synced.
    let parent = "target/bench";
    let made = std::fs::create_dir_all(parent).and_then(|()| TempDir::new_in(parent));
    let say = |error| format!("cannot make a directory in {parent}: {error}; choose a place for the store with --data");
    Ok(Some(made.map_err(say)?))
}

/// The name of the figures.
fn peer(arguments: &Arguments, partitura: &Partitura) -> String {
    let broker = &partitura.broker().capabilities().broker;
    let broker = if arguments.memory { "memory" } else { broker.split(' ').next().unwrap_or_default() };
    arguments.peer.clone().unwrap_or_else(|| format!("partitura-{broker}"))
}

async fn measure(arguments: &Arguments, partitura: &Partitura, plan: &Plan) -> Result<Measure, Failure> {
    let usage = Usage::watch();
    let figures = drive::drive(&partitura.client(), plan).await?;
    let peer = peer(arguments, partitura);
    Ok(Measure::new(&peer, plan.workload.name(), plan.in_flight, &figures.timed, &figures.notes, &usage()))
}

/// Makes a figure of the store's calls: their number, and the number for each second.
fn at_rest(peer: &str, Calls { writes, reads, clock }: Calls) -> Measure {
    let timed = Timed { took: REST, latencies: Latencies::new(Vec::new()) };
    let notes = format!(
        "calls of the store in {REST:?} without work: {writes} writes, {reads} reads; its clock, which is not counted, was read {clock} times"
    );
    let calls = (writes + reads) as usize;
    let measure = Measure::new(peer, "rest", 0, &timed, &notes, &Usage::default());
    Measure { n: calls, per_s: calls as f64 / REST.as_secs_f64(), ..measure }
}
