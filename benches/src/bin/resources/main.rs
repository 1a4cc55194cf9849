//! Measures what a worker takes of a machine on a running broker: while nothing happens, and while large messages wait
//! for a slow handler.
//!
//! Each measured program is a process of its own: this program, started again.

mod figures;
mod idle;
mod memory;
mod types;
mod worker;

use clap::{Parser, Subcommand};
use partitura_bench_kit::Failure;

/// Measures what a worker takes of a machine on a running broker.
#[derive(Parser)]
#[command(name = "cargo xtask bench")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Workers without work: processor time, threads, connections and memory of each, and the time to start.
    Idle(idle::Options),
    /// Large messages that wait behind a slow handler: the memory of the process.
    Memory(memory::Options),
    /// A measured worker.
    #[command(hide = true)]
    Worker(worker::Options),
    /// A measured consumer.
    #[command(hide = true)]
    Reader(memory::ReaderOptions),
}

#[tokio::main]
async fn main() -> Result<(), Failure> {
    match Arguments::parse().command {
        Command::Idle(options) => idle::run(options).await,
        Command::Memory(options) => memory::run(options).await,
        Command::Worker(options) => worker::run(options).await,
        Command::Reader(options) => memory::read(options).await,
    }
}
