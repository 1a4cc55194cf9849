//! A worker that is measured. It says when it is ready, and runs until its standard input ends.

use std::time::Instant;

use tokio::io::{AsyncReadExt as _, stdin};

use partitura_bench_kit::Failure;

use crate::types;

#[derive(clap::Args)]
pub(crate) struct Options {
    /// The broker.
    #[arg(long)]
    broker: String,
    #[arg(long)]
    namespace: String,
    #[arg(long)]
    types: usize,
    #[arg(long)]
    partitions: u32,
}

pub(crate) async fn run(options: Options) -> Result<(), Failure> {
    let Options { broker, namespace, types, partitions } = options;
    let began = Instant::now();
    // No instances are started. So a store in memory does, which needs no connection.
    let store = partitura::store("memory:").await?;
    let configured =
        move |builder: partitura::Builder| builder.store(store).namespace(namespace).partitions(partitions);
    let partitura = partitura::connect(broker).with(configured).await?;
    let worker = types::register(partitura.worker(), types).start().await?;
    println!("{}", began.elapsed().as_secs_f64());
    let mut end = Vec::new();
    stdin().read_to_end(&mut end).await?;
    worker.stop().await?;
    partitura.close().await?;
    Ok(())
}
