//! Measures the memory of many sleeping workflows: `cargo run --release -p partitura-benches --bin sleepers`.

use std::error::Error;

use clap::Parser;
use partitura::{Cancelled, Cx, Filter, StatusKind, days};
use partitura_bench_kit::closed_loop;

type Failure = Box<dyn Error + Send + Sync>;

#[derive(Parser)]
#[command(about = "What many sleeping workflows cost in memory")]
struct Arguments {
    /// The number of workflows.
    #[arg(long, default_value_t = 100_000)]
    n: usize,
}

/// Sleeps for a month.
#[derive(Default)]
struct Sleeper;

#[partitura::workflow]
impl Sleeper {
    #[run]
    async fn run(cx: Cx<Self>) -> Result<(), Cancelled> {
        cx.sleep(days(30)).await
    }
}

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let Arguments { n } = Arguments::parse();
    let directory = tempfile::tempdir()?;
    let partitura = partitura::connect(format!("embedded:{}", directory.path().display())).await?;
    let worker = partitura.worker().workflow::<Sleeper>().start().await?;
    let client = partitura.client();
    let starter = client.clone();
    let started = closed_loop(500, n, move |number| {
        let handle = starter.workflow::<Sleeper>(number.to_string());
        async move {
            let begun = std::time::Instant::now();
            handle.start(()).await?;
            // An answer means that the first turn is over: the workflow sleeps.
            handle.describe().await?;
            Ok::<_, Failure>(begun.elapsed())
        }
    })
    .await?;
    let running = client.list::<Sleeper>(Filter::first(1_000).status(StatusKind::Running)).await?.len();
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let of = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        line.and_then(|text| text.split_whitespace().next()?.parse::<f64>().ok()).unwrap_or_default() / 1024.0
    };
    println!(
        r#"{{"peer":"partitura-embedded","workload":"sleepers","n":{n},"per_s":{:.0},"rss_mib":{:.0},"peak_rss_mib":{:.0},"listed_running":{running}}}"#,
        n as f64 / started.took.as_secs_f64(),
        of("VmRSS:"),
        of("VmHWM:"),
    );
    worker.stop().await?;
    partitura.close().await?;
    Ok(())
}
