//! The checkout of an online shop: reserve, charge, wait until it is packed, ship, tell the customer; undo it all if
//! something fails.
//!
//! ```text
//! cargo run --release -p partitura --example checkout
//! cargo run --release -p partitura --example checkout -- --orders 5000 --data ./shop --json
//! ```
//!
//! Kill it at any moment (`kill -9`, too) and run it again with the same `--data`: it finishes what it began, and
//! nobody is charged twice.
//!
//! The same on a broker that you run, as many processes as you like (`--features nats,postgres`, say):
//!
//! ```text
//! checkout --role workflows --broker nats://localhost --store postgres://postgres@localhost/shop
//! checkout --role services  --broker nats://localhost --data ./shop
//! checkout --role client    --broker nats://localhost --data ./shop --orders 5000 --json
//! ```
//!
//! Read on in `workflow.rs` (the business process) and `services/` (what it calls). The rest is a shop around them, to
//! try it with.

// An example reads better with `pub` than with `pub(crate)` on every line.
#![allow(unreachable_pub)]

mod arguments;
mod audit;
mod chance;
mod intake;
mod ledger;
mod orders;
mod outcome;
mod progress;
mod report;
mod services;
mod shop;
mod stop;
mod warnings;
mod workflow;

use std::error::Error;
use std::io;
use std::path::Path;
use std::process::ExitCode;
use std::time::Instant;

use clap::Parser;
use partitura::{Client, Partitura, RunningWorker, Worker, seconds};

use crate::arguments::{Arguments, Role};
use crate::audit::Audit;
use crate::intake::Intake;
use crate::progress::Progress;
use crate::report::Report;
use crate::services::inventory::{InventoryService, Stockroom};
use crate::services::notifications::{Mailer, NotificationsService};
use crate::services::payments::{Acquirer, PaymentsService};
use crate::services::shipping::{Couriers, ShippingService};
use crate::stop::{Stop, UNFINISHED};
use crate::workflow::{Checkout, Delivery};

#[tokio::main]
async fn main() -> ExitCode {
    warnings::to_stderr();
    run(Arguments::parse()).await.unwrap_or_else(|error| {
        eprintln!("checkout: {}", with_causes(&*error));
        ExitCode::FAILURE
    })
}

async fn run(arguments: Arguments) -> Result<ExitCode, Box<dyn Error>> {
    let intake = arguments.role.serves_customers().then(|| arguments.intake()).transpose()?;
    let data = arguments.data()?;
    let stop = Stop::listen()?;
    let partitura = tokio::select! {
        connected = connect(&arguments, &data) => connected?,
        () = stop.clone().told() => return Ok(if intake.is_some() { UNFINISHED.into() } else { ExitCode::SUCCESS }),
    };
    let worker = employ(arguments.role, &partitura, &data.join("ledger"))?;
    let exit = match intake {
        Some(intake) => {
            let client = partitura.client();
            tokio::select! {
                worker = worker.start() => serve(&arguments, &data, &intake, client, worker?, stop).await?,
                () = stop.clone().told() => UNFINISHED.into(),
            }
        }
        None => {
            worker.run_until(stop.told()).await?;
            ExitCode::SUCCESS
        }
    };
    partitura.close().await?;
    Ok(exit)
}

/// The embedded broker keeps the state of workflows, too; only one process at a time can use its directory.
async fn connect(arguments: &Arguments, data: &Path) -> Result<Partitura, partitura::Error> {
    let run = arguments.run.clone();
    let mut connect =
        partitura::connect(arguments.broker(data)).with(|settings| settings.namespace(run).ask_again(seconds(10)));
    // Services keep nothing there, but learn from it what time it is.
    let works = arguments.role.conducts_workflows() || arguments.role.runs_services();
    if let Some(store) = arguments.store.clone().filter(|_| works) {
        connect = connect.store(store);
    }
    connect.await
}

/// A worker with what this process does; it may be nothing.
fn employ(role: Role, partitura: &Partitura, ledgers: &Path) -> io::Result<Worker> {
    let mut worker = partitura.worker();
    if role.runs_services() {
        worker = worker
            .service(InventoryService(Stockroom::open(ledgers)?))
            .service(PaymentsService(Acquirer::open(ledgers)?))
            .service(ShippingService(Couriers::open(ledgers)?))
            .service(NotificationsService(Mailer::open(ledgers)?));
    }
    if role.conducts_workflows() {
        worker = worker.workflow::<Checkout>().workflow::<Delivery>();
    }
    Ok(worker)
}

/// Has all orders carried out, and compares what became of them with the ledgers.
async fn serve(
    arguments: &Arguments,
    data: &Path,
    intake: &Intake,
    client: Client,
    mut worker: RunningWorker,
    stop: Stop,
) -> Result<ExitCode, Box<dyn Error>> {
    intake.skipped.iter().for_each(|skipped| eprintln!("{skipped}"));
    println!("data     {0} (run it again with --data {0} to go on)", data.display());

    let mut report = Report::new(intake);
    let progress = Progress::new(intake.orders.len());
    let began = Instant::now();
    let served = shop::serve(client, &intake.orders, arguments.in_flight, |settled| {
        progress.one_more();
        report.add(settled);
    });
    let finished = tokio::select! {
        () = served => true,
        never = progress.lines() => match never {},
        () = stop.told() => false,
        ended = worker.ended() => return Err(ended.map_or_else(Into::into, |()| "the worker ended by itself".into())),
    };
    let took = began.elapsed();
    progress.finish();
    worker.stop().await?;

    if !finished {
        println!("stopped with {} of {} orders settled", report.settled(), intake.orders.len());
        println!("to go on, run it again with the same orders and --data {}", data.display());
        return Ok(UNFINISHED.into());
    }
    let audit = Audit::compare(&data.join("ledger"), &intake.orders, report.outcomes())?;
    report.print(&audit, took, arguments.json)
}

fn with_causes(error: &dyn Error) -> String {
    let causes = std::iter::successors(error.source(), |&cause| cause.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}
