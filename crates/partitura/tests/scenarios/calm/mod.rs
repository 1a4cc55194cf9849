//! Workers that join, share and leave in good order, and nothing that fails: every task, step and compensation is
//! called once.
//!
//! Three workers conduct three workflows each, whose tasks are long: one joins while the others are at work, then each
//! leaves and another takes its place. They are processes of their own, or on the broker without a server, workers of
//! one process.

mod crew;
mod diary;
mod pieces;

use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use partitura::Client;
use partitura_servers::Kind;
use serde::Serialize;

use self::crew::{Crew, Place};
use self::diary::Diary;
use self::pieces::Piece;
use crate::problem::Problem;
use crate::world::{EMBEDDED, World};

pub(crate) use self::crew::{WORK, work};

/// How long a task takes, in seconds.
const TASK: u64 = 10;
/// A run is stuck that has no end after this many times the length of a task.
const LIMIT_IN_TASKS: u32 = 30;

/// The figures of the run.
#[derive(Debug, Serialize)]
pub(crate) struct Figures {
    broker: String,
    /// How often tasks, steps and compensations were called.
    calls: usize,
    /// How many of them there were.
    tasks: usize,
    /// How often a worker joined.
    workers: usize,
    seconds: u64,
}

/// Has everything performed, and compares what was called with what there was to do.
pub(crate) fn run(broker: Option<Kind>) -> Result<(), Problem> {
    let task = match std::env::var("PARTITURA_SCENARIO_TASK") {
        Ok(seconds) => seconds.parse()?,
        Err(_) => TASK,
    };
    let world = World::create(broker, 0)?;
    let place = Place::in_world(&world, Duration::from_secs(task));
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let diary = Diary::open(&place.data)?;
    let started = Instant::now();
    let workers = runtime.block_on(async {
        let performance = perform(&place, &diary);
        let limit = place.task * LIMIT_IN_TASKS;
        tokio::time::timeout(limit, performance)
            .await
            .map_err(|_| format!("no end within {limit:?}; called were {:?}", diary.read().unwrap_or_default()))?
    })?;
    runtime.shutdown_background();
    let called = diary.read()?;
    let wanted: Vec<String> = Piece::all().iter().flat_map(Piece::calls).collect();
    let figures = Figures {
        broker: broker.map_or(EMBEDDED, Kind::name).to_owned(),
        calls: called.len(),
        tasks: wanted.len(),
        workers,
        seconds: started.elapsed().as_secs(),
    };
    report(&figures)?;
    diary::compare(called, wanted)
}

/// The crew changes while the pieces are performed. Gives how many workers there were.
async fn perform(place: &Place, diary: &Arc<Diary>) -> Result<usize, Problem> {
    let mut crew = Crew::new(place.clone(), diary.clone()).await?;
    let client = crew.client().await?;
    let (early, late): (Vec<Piece>, Vec<Piece>) = Piece::all().into_iter().partition(|piece| piece.number % 2 == 0);
    let first = crew.join().await?;
    let second = crew.join().await?;
    start(&client, &early).await?;
    diary.holds(early.len()).await?;
    let third = crew.join().await?;
    start(&client, &late).await?;
    diary.holds(early.len() + late.len()).await?;
    // One after the other, each in the middle of what it does.
    for leaving in [first, second, third] {
        crew.leave(leaving).await?;
        crew.join().await?;
    }
    for piece in early.iter().chain(&late) {
        piece.ends_well(&client).await?;
    }
    let workers = crew.joined();
    crew.go_home().await?;
    Ok(workers)
}

async fn start(client: &Client, pieces: &[Piece]) -> Result<(), Problem> {
    for piece in pieces {
        piece.start(client).await?;
    }
    Ok(())
}

/// One line of JSON, where somebody asks for it.
fn report(figures: &Figures) -> Result<(), Problem> {
    let Figures { broker, calls, tasks, workers, seconds } = figures;
    println!("{broker}: {calls} calls of {tasks} tasks by {workers} workers in {seconds} s");
    if let Some(file) = std::env::var_os("PARTITURA_SCENARIO_REPORT") {
        let mut file = std::fs::OpenOptions::new().append(true).create(true).open(PathBuf::from(file))?;
        writeln!(file, "{}", serde_json::to_string(figures)?)?;
    }
    Ok(())
}
