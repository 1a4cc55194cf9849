//! The engine on the embedded broker, in the peers' workloads, through the public interface.
//!
//! Workflows, tasks, client and broker share this process. Every task is a message to its service's topic, and what is
//! confirmed was synced to the file.

mod drive;
mod plan;
mod work;

use std::error::Error;
use std::io::Write as _;
use std::path::PathBuf;

use clap::Parser;
use partitura::Partitura;
use partitura_benches::{Measure, Usage, table};
use tempfile::TempDir;

use crate::plan::{Name, Plan, Sizes, plans};

type Failure = Box<dyn Error + Send + Sync>;

/// The engine on the embedded broker, in the peers' workloads.
#[derive(Parser)]
#[command(name = "cargo xtask bench")]
struct Arguments {
    /// What to measure; everything without a name.
    #[arg(value_name = "NAME")]
    names: Vec<Name>,
    /// As NAME, for the peers' scripts.
    #[arg(long, hide = true)]
    workload: Vec<Name>,
    #[command(flatten)]
    sizes: Sizes,
    /// How often everything is measured.
    #[arg(long, default_value_t = 1)]
    repeat: usize,
    /// Prints each figure as a line of JSON on standard output.
    #[arg(long)]
    json: bool,
    /// What the figures are called: partitura-embedded unless said otherwise.
    #[arg(long)]
    peer: Option<String>,
    /// Where the store is, and stays. Otherwise it is made below target/bench, and removed.
    #[arg(long, conflicts_with = "memory")]
    data: Option<PathBuf>,
    /// In memory: nothing is synced and nothing survives. For comparison only.
    #[arg(long)]
    memory: bool,
}

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let arguments = Arguments::parse();
    // Dropped at the end, it removes what is in it.
    let scratch = scratch(&arguments)?;
    let directory = scratch.as_ref().map(TempDir::path).or(arguments.data.as_deref());
    let url = directory.map_or("memory:".to_owned(), |directory| format!("embedded:{}", directory.display()));
    let partitura = partitura::connect(url).await?;
    let worker = work::register(partitura.worker()).start().await?;

    let chosen: Vec<Name> = arguments.names.iter().chain(&arguments.workload).copied().collect();
    let mut measures = Vec::new();
    for _ in 0..arguments.repeat {
        for plan in plans(&chosen, &arguments.sizes) {
            let measure = measure(&arguments, &partitura, &plan).await?;
            eprintln!("{} at {}: {:.0}/s", measure.workload, measure.concurrency, measure.per_s);
            if arguments.json {
                println!("{}", serde_json::to_string(&measure)?);
                std::io::stdout().flush()?;
            }
            measures.push(measure);
        }
    }
    worker.stop().await?;
    partitura.close().await?;
    eprintln!("\n{}", table(&measures));
    Ok(())
}

fn scratch(arguments: &Arguments) -> Result<Option<TempDir>, Failure> {
    if arguments.memory || arguments.data.is_some() {
        return Ok(None);
    }
    // Not in the system's temporary directory: that may be memory, and nothing would be synced.
    let parent = "target/bench";
    let made = std::fs::create_dir_all(parent).and_then(|()| TempDir::new_in(parent));
    let say = |error| format!("cannot make a directory in {parent}: {error}; choose a place for the store with --data");
    Ok(Some(made.map_err(say)?))
}

async fn measure(arguments: &Arguments, partitura: &Partitura, plan: &Plan) -> Result<Measure, Failure> {
    let usual = if arguments.memory { "partitura-memory" } else { "partitura-embedded" };
    let peer = arguments.peer.as_deref().unwrap_or(usual);
    let usage = Usage::watch();
    let figures = drive::drive(&partitura.client(), plan).await?;
    Ok(Measure::new(peer, plan.workload.name(), plan.in_flight, &figures.timed, &figures.notes, &usage()))
}
