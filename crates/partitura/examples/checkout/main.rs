//! The checkout of an online shop: reserve, charge, wait until it is packed, ship, tell the customer; undo it all if something fails.
//!
//! ```text
//! cargo run --release -p partitura --example checkout
//! cargo run --release -p partitura --example checkout -- --orders 5000 --data ./shop --json
//! ```
//!
//! Kill it at any moment (`kill -9`, too) and run it again with the same `--data`: it finishes what it began, and nobody is
//! charged twice.
//!
//! Read on in `workflow.rs` (the business process) and `services/` (what it calls). The rest is a shop around them, to try it with.

// An example reads better with `pub` than with `pub(crate)` on every line.
#![allow(unreachable_pub)]

mod arguments;
mod audit;
mod chance;
mod intake;
mod ledger;
mod orders;
mod progress;
mod report;
mod services;
mod shop;
mod warnings;
mod workflow;

use std::error::Error;
use std::process::ExitCode;
use std::time::Instant;

use clap::Parser;

use crate::arguments::Arguments;
use crate::audit::Audit;
use crate::progress::Progress;
use crate::report::Report;
use crate::services::inventory::{InventoryService, Stockroom};
use crate::services::notifications::{Mailer, NotificationsService};
use crate::services::payments::{Acquirer, PaymentsService};
use crate::services::shipping::{Couriers, ShippingService};
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
    let intake = arguments.intake()?;
    intake.skipped.iter().for_each(|skipped| eprintln!("{skipped}"));
    let data = arguments.data()?;

    // The one line that knows which broker there is. It fails if another process is using the directory.
    let partitura = partitura::connect(format!("embedded:{}", data.display())).await?;
    println!("data     {} (run it again with --data {} to go on)", data.display(), data.display());

    let ledgers = data.join("ledger");
    let mut worker = partitura
        .worker()
        .service(InventoryService(Stockroom::open(&ledgers)?))
        .service(PaymentsService(Acquirer::open(&ledgers)?))
        .service(ShippingService(Couriers::open(&ledgers)?))
        .service(NotificationsService(Mailer::open(&ledgers)?))
        .workflow::<Checkout>()
        .workflow::<Delivery>()
        .start()
        .await?;

    let mut report = Report::of(&intake);
    let progress = Progress::of(intake.orders.len());
    let began = Instant::now();
    let served = shop::serve(partitura.client(), &intake.orders, arguments.in_flight, |settled| {
        progress.one_more();
        report.add(settled);
    });
    let finished = tokio::select! {
        () = served => true,
        never = progress.lines() => match never {},
        () = interrupted() => false,
        ended = worker.ended() => return Err(ended.map_or_else(Into::into, |()| "the worker ended by itself".into())),
    };
    let took = began.elapsed();
    progress.finish();
    worker.stop().await?;
    partitura.close().await?;

    if !finished {
        println!("stopped with {} of {} orders settled", report.settled(), intake.orders.len());
        println!("to go on, run it again with the same orders and --data {}", data.display());
        return Ok(ExitCode::from(130));
    }
    let audit = Audit::of(&ledgers, &intake.orders, report.outcomes())?;
    report.print(&audit, took, arguments.json)
}

/// Resolves at the first Ctrl-C, for a clean end; the second ends the process at once, which loses nothing either.
async fn interrupted() {
    if tokio::signal::ctrl_c().await.is_err() {
        return std::future::pending().await;
    }
    eprintln!("finishing what runs …");
    tokio::spawn(async {
        if tokio::signal::ctrl_c().await.is_ok() {
            std::process::exit(130);
        }
    });
}

fn with_causes(error: &dyn Error) -> String {
    let causes = std::iter::successors(error.source(), |&cause| cause.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}
