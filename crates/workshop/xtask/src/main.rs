//! The repository's own commands: `cargo xtask --help`.
//!
//! | command | what it does |
//! |---|---|
//! | `test` | everything that CI runs, step by step, with a summary |
//! | `tidy` | the repository's rules that no compiler knows |
//! | `book` | the pages of `docs/` as a web site |
//! | `bench` | the engine on the embedded broker, or adapters against their raw clients |
//! | `conformance` | the conformance suite on each broker |
//! | `brokers` | real brokers and Postgres on this machine: up, down, status |
//! | `scenarios` | the engine's tests, and processes that are killed, on each broker |
//! | `simulate` | the engine and the lanes in seeded worlds |

mod bench;
mod book;
mod brokers;
mod cargo;
mod conformance;
mod failure;
mod failures;
mod jobs;
mod package;
mod repository;
mod scenarios;
mod simulate;
mod steps;
mod test;
mod tidy;
mod trials;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "cargo xtask", about = "The repository's own commands")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Runs everything that CI runs, with a summary.
    Test(test::Arguments),
    /// Checks the repository's rules: dependencies, code map, ADRs, vendor names, links, toolchain.
    Tidy,
    /// Builds the pages of `docs/` as a web site, by mdBook.
    Book(book::Arguments),
    /// Runs the engine's benchmarks in release mode.
    Bench(bench::Arguments),
    /// Runs the conformance suite: [NAME…] [--all] [--tier N] [--json] [--report DIR].
    Conformance(conformance::Arguments),
    /// Runs real brokers and Postgres on this machine: up|down|status [NAME…] [--wipe] [--json].
    Brokers(brokers::Arguments),
    /// Runs the engine's tests, and an example whose processes are killed, on each broker: [NAME…] [--all] [--orders N].
    Scenarios(scenarios::Arguments),
    /// Runs the engine and the lanes in seeded worlds with faults: --seeds N [--from SEED] [--json].
    Simulate(simulate::Arguments),
    #[command(hide = true, name = jobs::ONLY_DOCUMENTATION)]
    OnlyDocumentation(jobs::Arguments),
}

fn main() -> ExitCode {
    let outcome = match Arguments::parse().command {
        Command::Test(arguments) => test::run(&arguments),
        Command::Tidy => tidy::run(),
        Command::Book(arguments) => book::run(&arguments),
        Command::Bench(arguments) => bench::run(&arguments),
        Command::Conformance(arguments) => conformance::run(&arguments),
        Command::Brokers(arguments) => brokers::run(&arguments),
        Command::Scenarios(arguments) => scenarios::run(&arguments),
        Command::Simulate(arguments) => simulate::run(&arguments),
        Command::OnlyDocumentation(arguments) => jobs::only_documentation(&arguments),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("error: {failure}");
            ExitCode::FAILURE
        }
    }
}
