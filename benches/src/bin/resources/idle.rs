//! Workers without work.

use std::process::Stdio;
use std::time::{Duration, Instant};

use clap::builder::RangedU64ValueParser;
use partitura_bench_kit::{Failure, Process};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};

use crate::figures::Figures;
use crate::types::MOST;

/// The longest time until a worker is ready.
const READY_TIMEOUT: Duration = Duration::from_secs(600);

#[derive(clap::Args)]
pub(crate) struct Options {
    /// The running broker: nats://…, kafka://…, amqp://…, pulsar://…. Topics are left on it.
    #[arg(long, value_name = "URL")]
    broker: String,
    /// The number of workflow types, up to 100.
    #[arg(long, default_value_t = MOST, value_parser = RangedU64ValueParser::<usize>::new().range(1..=MOST as u64))]
    types: usize,
    /// The number of partitions of each.
    #[arg(long, default_value_t = 16)]
    partitions: u32,
    /// The number of worker processes.
    #[arg(long, default_value_t = 3)]
    processes: usize,
    /// The seconds between the last start and the measurement, in which partitions find their owners.
    #[arg(long, default_value_t = 20)]
    settle: u64,
    /// The seconds of the measurement.
    #[arg(long, default_value_t = 30)]
    seconds: u64,
    /// Prints each figure as a line of JSON on standard output.
    #[arg(long)]
    json: bool,
}

/// A worker process, and the time that it took until it was ready.
struct Worker {
    child: Child,
    process: Process,
    ready: f64,
}

pub(crate) async fn run(options: Options) -> Result<(), Failure> {
    let namespace = format!("idle{}", std::process::id());
    let began = Instant::now();
    let starting = (0..options.processes).map(|_| start(&options, &namespace));
    let mut workers = futures::future::try_join_all(starting).await?;
    let all_ready = began.elapsed().as_secs_f64();
    tokio::time::sleep(Duration::from_secs(options.settle)).await;

    let broker = port(&options.broker).and_then(Process::listening);
    let spent = |process: Process| process.processor_seconds();
    let before: Vec<_> = workers.iter().map(|worker| spent(worker.process)).collect();
    let broker_before = broker.and_then(spent);
    let clock = Instant::now();
    tokio::time::sleep(Duration::from_secs(options.seconds)).await;
    let seconds = clock.elapsed().as_secs_f64();
    let share = |before: Option<f64>, after: Option<f64>| Some(100.0 * (after? - before?) / seconds);

    let mut figures = Figures::new(&options.broker, "idle", options.json);
    for (at, (worker, before)) in workers.iter().zip(before).enumerate() {
        let (of, process) = (format!("worker {}", at + 1), worker.process);
        figures.add(&of, "core %", share(before, spent(process)));
        figures.add(&of, "threads", process.threads());
        figures.add(&of, "connections", process.connections());
        figures.add(&of, "resident MiB", process.resident_mib());
        figures.add(&of, "ready after s", Some(worker.ready));
    }
    figures.add("broker", "core %", share(broker_before, broker.and_then(spent)));
    figures.add("broker", "resident MiB", broker.and_then(Process::resident_mib));
    figures.add("all workers", "ready after s", Some(all_ready));
    let Options { types, partitions, processes, .. } = options;
    eprintln!("\n{types} workflow types, {partitions} partitions, {processes} processes\n{}", figures.table());
    stop(&mut workers).await
}

/// Starts a worker, and waits until it is ready.
async fn start(options: &Options, namespace: &str) -> Result<Worker, Failure> {
    let Options { broker, types, partitions, .. } = options;
    let mut child = Command::new(std::env::current_exe()?)
        .args(["worker", "--broker", broker, "--namespace", namespace])
        .args(["--types", &types.to_string(), "--partitions", &partitions.to_string()])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    let output = child.stdout.take().ok_or("the worker has no output")?;
    let mut line = String::new();
    let mut output = BufReader::new(output);
    let read = tokio::time::timeout(READY_TIMEOUT, output.read_line(&mut line)).await;
    read.map_err(|_| format!("a worker was not ready within {READY_TIMEOUT:?}"))??;
    let ready = line.trim().parse().map_err(|_| "a worker ended before it was ready; its error is above")?;
    let process = Process::new(child.id().ok_or("a worker ended")?);
    Ok(Worker { child, process, ready })
}

/// Ends the workers. Their standard input ends.
async fn stop(workers: &mut [Worker]) -> Result<(), Failure> {
    for worker in &mut *workers {
        drop(worker.child.stdin.take());
    }
    for worker in workers {
        let status = worker.child.wait().await?;
        if !status.success() {
            return Err(format!("a worker ended with {status}").into());
        }
    }
    Ok(())
}

/// The port of a URL's first server.
fn port(url: &str) -> Option<u16> {
    let (_, rest) = url.split_once("://")?;
    let servers = rest.split(['/', '?']).next()?;
    let first = servers.rsplit_once('@').map_or(servers, |(_, servers)| servers).split(',').next()?;
    first.rsplit_once(':')?.1.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_port_is_read_from_every_form_of_url() {
        assert_eq!(port("broker://127.0.0.1:14222"), Some(14222));
        assert_eq!(port("broker://guest:guest@127.0.0.1:17672/%2f?a=b"), Some(17672));
        assert_eq!(port("broker://a:1,b:2"), Some(1));
        assert_eq!(port("broker://127.0.0.1:16650?admin=http://127.0.0.1:18080"), Some(16650));
        assert_eq!(port("memory:"), None);
    }
}
