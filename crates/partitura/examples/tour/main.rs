//! A tour: each file is a program of its own, which says something and leaves. `cargo run --example tour` runs all of
//! them, `cargo run --example tour saga` one. They run on the embedded broker in a temporary directory.

mod children;
mod delegated;
mod events;
mod fan_out;
mod hello;
mod in_axum;
mod long_task;
mod messaging;
mod saga;
mod said;
mod schedule;
mod signal_and_timer;
mod update;

use std::error::Error;

use partitura::Partitura;

use crate::said::Said;

const NAMES: [&str; 12] = [
    "hello",
    "signal_and_timer",
    "saga",
    "fan_out",
    "children",
    "schedule",
    "update",
    "long_task",
    "delegated",
    "events",
    "messaging",
    "in_axum",
];

async fn run(name: &str) -> Said {
    let directory = tempfile::tempdir()?;
    let partitura = partitura::connect(format!("embedded:{}", directory.path().display())).await?;
    let said = one(name, &partitura).await;
    partitura.close().await?;
    said
}

async fn one(name: &str, partitura: &Partitura) -> Said {
    match name {
        "hello" => hello::run(partitura).await,
        "signal_and_timer" => signal_and_timer::run(partitura).await,
        "saga" => saga::run(partitura).await,
        "fan_out" => fan_out::run(partitura).await,
        "children" => children::run(partitura).await,
        "schedule" => schedule::run(partitura).await,
        "update" => update::run(partitura).await,
        "long_task" => long_task::run(partitura).await,
        "delegated" => delegated::run(partitura).await,
        "events" => events::run(partitura).await,
        "messaging" => messaging::run(partitura).await,
        "in_axum" => in_axum::run(partitura).await,
        other => Err(format!("there is no {other:?}: {}", NAMES.join(", ")).into()),
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let named: Vec<String> = std::env::args().skip(1).collect();
    let all = NAMES.map(str::to_owned).to_vec();
    for name in if named.is_empty() { all } else { named } {
        println!("{name}: {}", run(&name).await?);
    }
    Ok(())
}

#[cfg(test)]
#[tokio::test]
async fn each_program_of_the_tour_says_what_it_is_meant_to() {
    let expected = [
        ("hello", "Good morning, Ada"),
        ("signal_and_timer", "order-1 was paid; order-2 was not paid in time"),
        ("saga", "no seat left; undone: hotel in Rome"),
        ("fan_out", "385 is the sum of ten squares"),
        ("children", "parcel of tea, parcel of milk"),
        ("schedule", "report-… was started by hand, and has ended: Completed"),
        ("update", "2 items, then: tea and milk"),
        ("long_task", "attempt 2 went on at row 3 and read 10 rows"),
        ("delegated", "a person said: yes"),
        ("events", "partitura.task.started charge, partitura.task.completed charge"),
        ("messaging", "ada: 1999 cents, in attempt 2"),
        ("in_axum", "POST: 202 Accepted, GET: order-7 is packed"),
    ];
    assert_eq!(expected.map(|(name, _)| name), NAMES);
    for (name, wanted) in expected {
        let said = tokio::time::timeout(std::time::Duration::from_secs(60), run(name)).await.expect(name);
        assert_eq!(said.expect(name), wanted, "{name}");
    }
}
