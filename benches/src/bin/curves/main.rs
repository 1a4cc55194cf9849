//! Measures the cost of long and wide workflows: the time for each task and the resident memory, tenth by tenth. The
//! time of the last tenth is that of the first if the cost grows linearly; memory is flat if it does not grow.

mod work;

use std::process::{Command, Stdio};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use clap::{Parser, ValueEnum};
use partitura::{Client, Partitura};
use partitura_bench_kit::{Failure, Process};
use serde::Serialize;
use tempfile::TempDir;

use crate::work::{Endless, InSequence, Wide};

/// The parts into which a workload is divided.
const PARTS: u32 = 10;

/// Measures one workflow of many tasks, on the embedded broker unless another is named.
#[derive(Parser)]
#[command(name = "cargo xtask bench curves")]
struct Arguments {
    /// The shape of the workflow; without it, all shapes are measured, each size in a process of its own.
    #[arg(value_name = "SHAPE", requires = "tasks")]
    shape: Option<Shape>,
    /// The number of tasks.
    tasks: Option<u32>,
    /// Prints each figure as a line of JSON on standard output.
    #[arg(long)]
    json: bool,
    /// Another, running broker.
    #[arg(long, value_name = "URL", requires = "store")]
    broker: Option<String>,
    /// The store for the state of workflows.
    #[arg(long, value_name = "URL")]
    store: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "snake_case")]
#[value(rename_all = "snake_case")]
enum Shape {
    /// One task after the other, in one run.
    Sequence,
    /// All tasks at once.
    AtOnce,
    /// One task after the other, in a new run after each 500.
    ContinueAsNew,
}

/// The shapes and sizes that are measured without a name.
const ALL: [(Shape, u32); 6] = [
    (Shape::Sequence, 1_000),
    (Shape::Sequence, 3_000),
    (Shape::Sequence, 10_000),
    (Shape::AtOnce, 1_000),
    (Shape::AtOnce, 10_000),
    (Shape::ContinueAsNew, 100_000),
];

/// The state when a part of the tasks has run.
#[derive(Debug, Clone, Copy)]
struct Mark {
    at: Instant,
    resident_mib: f64,
}

#[derive(Debug, Serialize)]
struct Figures {
    shape: Shape,
    tasks: u32,
    seconds: f64,
    /// The time for each task of the first tenth, of the last one, and of all, in microseconds.
    first_us: f64,
    last_us: f64,
    all_us: f64,
    /// The resident memory when each tenth has run, in MiB; the first figure is from before.
    resident_mib: Vec<f64>,
}

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let arguments = Arguments::parse();
    let (Some(shape), Some(tasks)) = (arguments.shape, arguments.tasks) else { return all() };
    let scratch = scratch()?;
    let partitura = connect(&arguments, &scratch).await?;
    let worker = work::register(partitura.worker()).start().await?;
    let figures = measure(&partitura.client(), shape, tasks).await?;
    worker.stop().await?;
    partitura.close().await?;
    eprintln!(
        "{shape:?} of {tasks}: {:.2} s; {:.0} µs a task, {:.0} in the first tenth, {:.0} in the last; {:.0?} MiB",
        figures.seconds, figures.all_us, figures.first_us, figures.last_us, figures.resident_mib
    );
    if arguments.json {
        println!("{}", serde_json::to_string(&figures)?);
    }
    Ok(())
}

/// Measures everything, with the options of this process.
fn all() -> Result<(), Failure> {
    let options: Vec<_> = std::env::args_os().skip(1).collect();
    for (shape, tasks) in ALL {
        let name = shape.to_possible_value().ok_or("a shape without a name")?;
        let mut command = Command::new(std::env::current_exe()?);
        let status =
            command.arg(name.get_name()).arg(tasks.to_string()).args(&options).stdin(Stdio::null()).status()?;
        if !status.success() {
            return Err(format!("{shape:?} of {tasks} ended with {status}").into());
        }
    }
    Ok(())
}

fn scratch() -> Result<TempDir, Failure> {
    // Not in the system's temporary directory: that may be memory, and nothing would be synced.
    std::fs::create_dir_all("target/bench")?;
    Ok(TempDir::new_in("target/bench")?)
}

async fn connect(arguments: &Arguments, scratch: &TempDir) -> Result<Partitura, partitura::Error> {
    match (&arguments.broker, &arguments.store) {
        (Some(broker), Some(store)) => {
            partitura::connect(broker).store(store).with(|settings| settings.namespace("curves")).await
        }
        _ => partitura::connect(format!("embedded:{}", scratch.path().display())).await,
    }
}

async fn measure(client: &Client, shape: Shape, tasks: u32) -> Result<Figures, Failure> {
    // The first workflow of a process opens producers and consumers.
    run(client, shape, 10).await?;
    work::DONE.store(0, Ordering::SeqCst);
    let mut marks = vec![mark()];
    let watching = tokio::spawn(async move {
        for part in 1..=PARTS {
            while work::DONE.load(Ordering::SeqCst) < u64::from(tasks / PARTS * part) {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            marks.push(mark());
        }
        marks
    });
    let began = Instant::now();
    let done = run(client, shape, tasks).await?;
    let seconds = began.elapsed().as_secs_f64();
    if done != tasks {
        return Err(format!("{done} of {tasks} tasks have run: the figure would be worthless").into());
    }
    let marks = watching.await?;
    let each = |from: usize| {
        let took = marks[from + 1].at.duration_since(marks[from].at);
        took.as_secs_f64() * 1e6 / f64::from(tasks / PARTS)
    };
    Ok(Figures {
        shape,
        tasks,
        seconds,
        first_us: each(0),
        last_us: each(PARTS as usize - 1),
        all_us: seconds * 1e6 / f64::from(tasks),
        resident_mib: marks.iter().map(|mark| mark.resident_mib).collect(),
    })
}

fn mark() -> Mark {
    let resident_mib = Process::new(std::process::id()).resident_mib().unwrap_or_default();
    Mark { at: Instant::now(), resident_mib }
}

/// Runs one workflow to its end, and returns the number of its tasks.
async fn run(client: &Client, shape: Shape, tasks: u32) -> Result<u32, Failure> {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?.as_micros();
    let id = format!("{shape:?}-{tasks}-{now}");
    let failed = |error: &dyn std::fmt::Display| Failure::from(error.to_string());
    match shape {
        Shape::Sequence => {
            let instance = client.workflow::<InSequence>(id);
            instance.start(tasks).await?;
            instance.result().await.map_err(|error| failed(&error))
        }
        Shape::AtOnce => {
            let instance = client.workflow::<Wide>(id);
            instance.start(tasks).await?;
            instance.result().await.map_err(|error| failed(&error))
        }
        Shape::ContinueAsNew => {
            let instance = client.workflow::<Endless>(id);
            instance.start((0, tasks)).await?;
            instance.result().await.map_err(|error| failed(&error))
        }
    }
}
