//! The example `checkout` as several processes on real brokers, while workers and the broker itself are killed with
//! `kill -9` and started again: nothing is lost, nobody is charged twice.
//!
//! `PARTITURA_SCENARIO_BROKERS` names the brokers, separated by spaces; without it, the one that needs no server is
//! tried, in one process. `PARTITURA_SCENARIO_ORDERS` says how many orders there are. The servers are private ones:
//! others that run are left alone.
//!
//! A cluster of three processes makes many small journeys, and any part of it is killed:
//! `PARTITURA_SCENARIO_WORKFLOWS` says how many; without it, that is done only on the brokers in
//! `PARTITURA_SCENARIO_CLUSTERS`.
//!
//! Then the same without any fault: workers join and leave in good order, and each task is called once.
//! `PARTITURA_SCENARIO_TASK` says how many seconds a task takes there, `PARTITURA_SCENARIO_REPORT` names a file to
//! which the figures are added, a line of JSON for each broker.

mod calm;
mod chaos;
mod cluster;
mod problem;
mod process;
mod world;

use std::process::ExitCode;

use libtest_mimic::{Arguments, Failed, Trial};
use partitura_servers::Kind;

use crate::chaos::Chaos;
use crate::process::{Figures, Program};
use crate::world::{EMBEDDED, World};

fn main() -> ExitCode {
    let mut told = std::env::args().skip(1);
    let role = told.next();
    let worked = match role.as_deref() {
        Some(calm::WORK) => Some(calm::work(told.collect())),
        Some(cluster::MEMBER) => Some(cluster::work(&told.collect::<Vec<_>>())),
        _ => None,
    };
    match worked {
        Some(Ok(())) => return ExitCode::SUCCESS,
        Some(Err(problem)) => {
            eprintln!("{problem}");
            return ExitCode::FAILURE;
        }
        None => {}
    }
    let arguments = Arguments::from_args();
    let brokers = std::env::var("PARTITURA_SCENARIO_BROKERS").unwrap_or_else(|_| EMBEDDED.to_owned());
    let clusters = std::env::var("PARTITURA_SCENARIO_CLUSTERS").unwrap_or_default();
    let clusters: Vec<&str> = clusters.split_whitespace().collect();
    let trials = brokers.split_whitespace().flat_map(|broker| {
        let cluster = trial(broker, "a_cluster_ends_everything_once_while_any_of_it_is_killed", |broker| {
            cluster::run(broker).map_err(Failed::from)
        });
        let alone = [
            trial(broker, "tasks_are_called_once_while_workers_join_and_leave", |broker| {
                calm::run(broker).map_err(Failed::from)
            }),
            trial(broker, "orders_survive_kills_of_workers_clients_and_the_broker", scenario),
        ];
        // It takes minutes.
        let is_asked_for = clusters.contains(&broker) || std::env::var_os(cluster::JOURNEYS).is_some();
        // The broker without a server has no cluster.
        alone.into_iter().chain((broker != EMBEDDED).then_some(cluster.with_ignored_flag(!is_asked_for)))
    });
    // One after the other: each has the machine to itself.
    let arguments = Arguments { test_threads: Some(1), ..arguments };
    libtest_mimic::run(&arguments, trials.collect()).exit_code()
}

fn trial(broker: &str, name: &str, run: fn(Option<Kind>) -> Result<(), Failed>) -> Trial {
    let broker = broker.to_owned();
    Trial::test(format!("{broker}::{name}"), move || {
        let broker = if broker == EMBEDDED { None } else { Some(broker.parse::<Kind>()?) };
        // At once: what follows may be long.
        run(broker).inspect_err(|failed| eprintln!("{}", failed.message().unwrap_or("failed")))
    })
}

fn scenario(broker: Option<Kind>) -> Result<(), Failed> {
    let orders = match std::env::var("PARTITURA_SCENARIO_ORDERS") {
        Ok(orders) => orders.parse()?,
        Err(_) => 300,
    };
    let world = World::create(broker, orders)?;
    let program = Program::build(broker)?;
    let (figures, workers) = Chaos::new(&world, &program).run()?;
    println!("{}", serde_json::to_string(&figures)?);
    judge(&figures, orders)?;
    // Asked to, they finish what they do and leave.
    workers.into_iter().try_for_each(|worker| worker.stop().map_err(Failed::from))
}

fn judge(figures: &Figures, orders: usize) -> Result<(), Failed> {
    let is_well = figures.orders == orders
        && figures.lost == 0
        && figures.failed == 0
        && figures.reconciled
        && figures.completed + figures.compensated == orders;
    if is_well { Ok(()) } else { Err(format!("of {orders} orders: {figures:?}").into()) }
}
