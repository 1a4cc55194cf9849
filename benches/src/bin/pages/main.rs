//! Measures lists, searches, counts and the overview of a store with a million instances: `cargo xtask bench pages`.
//!
//! The instances did not run. Their rows are copies of that of one instance that did, with other ids, times, statuses and
//! tags, and the engine writes its index of them.

mod fill;
mod look;

use std::sync::Arc;
use std::time::Instant;

use clap::Parser;
use partitura::{BrokerStore, Partitura, Store};
use partitura_bench_kit::Failure;
use tempfile::TempDir;

use crate::look::Figure;

#[derive(Parser)]
#[command(name = "cargo xtask bench pages", about = "How long lists, searches and counts of many instances take")]
struct Arguments {
    /// The number of instances.
    #[arg(long, default_value_t = 1_000_000)]
    n: u64,
    /// The number of workflows that they are of.
    #[arg(long, default_value_t = 20)]
    workflows: u64,
    /// The number of times that each page is read.
    #[arg(long, default_value_t = 20)]
    repeat: usize,
    /// The store, if it is not the embedded one: postgres://…. The instances stay in it, so name a schema that can be
    /// dropped: ?schema=pages. A store that has them is not filled again.
    #[arg(long, value_name = "URL")]
    store: Option<String>,
}

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let arguments = Arguments::parse();
    // It is dropped at the end, and removes its files.
    std::fs::create_dir_all("target/bench")?;
    let directory = TempDir::new_in("target/bench")?;
    let embedded = format!("embedded:{}", directory.path().display());
    let (name, partitura, store) = match &arguments.store {
        None => {
            let partitura = partitura::connect(embedded).await?;
            let store: Arc<dyn Store> = Arc::new(BrokerStore::new(partitura.broker().clone())?);
            ("embedded", partitura, store)
        }
        // Beside the store stands a broker that has nothing to do.
        Some(url) => {
            let store = partitura::store(url).await?;
            let given = store.clone();
            let partitura = partitura::connect("memory:").with(move |settings| settings.store(given)).await?;
            ("postgres", partitura, store)
        }
    };
    prepare(&arguments, &partitura, &store).await?;
    let figures = look::look(&partitura, (arguments.n, arguments.repeat)).await?;
    for Figure { page, found, p50, worst } in &figures {
        println!(
            "{}",
            serde_json::json!({
                "peer": format!("partitura-{name}"), "workload": "pages", "n": arguments.n, "measure": page,
                "found": found, "p50_ms": p50, "max_ms": worst,
            })
        );
        eprintln!("{page:<52} {found:>7} found {p50:>9.2} ms {worst:>9.2} ms at most");
    }
    partitura.close().await?;
    Ok(())
}

/// Fills the store, unless it is full.
async fn prepare(arguments: &Arguments, partitura: &Partitura, store: &Arc<dyn Store>) -> Result<(), Failure> {
    if !partitura.client().instances().workflow(fill::workflow(0)).page(1).await?.instances.is_empty() {
        return Ok(());
    }
    let begun = Instant::now();
    fill::fill(partitura, store, arguments.n, arguments.workflows).await?;
    eprintln!("{} rows were written in {:.0} s", arguments.n, begun.elapsed().as_secs_f64());
    let begun = Instant::now();
    let indexed = partitura.client().instances().reindex().await?;
    eprintln!("{indexed} instances were indexed in {:.0} s", begun.elapsed().as_secs_f64());
    Ok(())
}
