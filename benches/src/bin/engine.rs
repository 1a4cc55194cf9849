//! The peers' workloads on Partitura with its embedded broker, through the public interface:
//! `cargo xtask bench [NAME…] [--json]`.
//!
//! Every task is a message through the broker, and every confirm waits for a real sync of the file. Workflows, services,
//! client and broker share this process.

use std::error::Error;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::Parser;
use partitura::{Cancelled, Cx, Partitura, Signal, TaskError, WorkflowHandle, join_all, seconds};
use partitura_benches::{Latencies, Measure, Usage, closed_loop, table};

type Failure = Box<dyn Error + Send + Sync>;

#[derive(Parser)]
#[command(about = "The peers' workloads on Partitura's embedded broker")]
struct Arguments {
    /// seq, fan, timer, signal; all of them without a name.
    #[arg(value_name = "NAME", value_parser = ["engine", "seq", "fan", "timer", "signal"])]
    workloads: Vec<String>,
    /// One line of JSON for each measure on stdout; the table goes to stderr in any case.
    #[arg(long)]
    json: bool,
    /// Where the broker's file is made (a new directory in it); the system's temporary directory otherwise.
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// In memory: not durable, for comparison only.
    #[arg(long)]
    memory: bool,
    /// How often each workload is run.
    #[arg(long, default_value_t = 1)]
    repeat: usize,
    /// Workflows of `seq` at more than one in flight.
    #[arg(long, default_value_t = 10_000)]
    seq: usize,
    /// Workflows of `seq` at one in flight.
    #[arg(long, default_value_t = 1_000)]
    seq_one: usize,
    /// How many are in flight in `seq`.
    #[arg(long, value_delimiter = ',', default_values_t = [1, 50, 500])]
    in_flight: Vec<usize>,
    /// Workflows of `fan`.
    #[arg(long, default_value_t = 2_000)]
    fan: usize,
    /// Workflows of `timer`, all at once.
    #[arg(long, default_value_t = 2_000)]
    timer: usize,
    /// Workflows of `signal`.
    #[arg(long, default_value_t = 5_000)]
    signal: usize,
}

/// Three trivial tasks.
#[partitura::service]
trait Tasks {
    async fn one(&self, text: String) -> String;
    async fn two(&self, text: String) -> String;
    async fn three(&self, text: String) -> String;
}

struct Dots;

impl Tasks for Dots {
    async fn one(&self, text: String) -> String {
        text + "."
    }
    async fn two(&self, text: String) -> String {
        text + "."
    }
    async fn three(&self, text: String) -> String {
        text + "."
    }
}

type Plain = TaskError<partitura::Never>;

/// Three tasks, one after the other.
#[derive(Default)]
struct Seq;

#[partitura::workflow]
impl Seq {
    #[run]
    async fn run(cx: Cx<Self>, text: String) -> Result<String, Plain> {
        let tasks = cx.service::<TasksStub>();
        let text = tasks.one(text).await?;
        let text = tasks.two(text).await?;
        tasks.three(text).await
    }
}

/// Twenty tasks at once.
#[derive(Default)]
struct Fan;

#[partitura::workflow]
impl Fan {
    #[run]
    async fn run(cx: Cx<Self>, text: String) -> Result<usize, Plain> {
        let tasks = cx.service::<TasksStub>();
        let results = join_all((0..20).map(|_| tasks.one(text.clone()))).await;
        results.into_iter().map(|text| Ok(text?.len())).sum()
    }
}

/// One durable timer of a second; gives the wall-clock time, in milliseconds, by which it was late.
#[derive(Default)]
struct Timer;

#[partitura::workflow]
impl Timer {
    #[run]
    async fn run(cx: Cx<Self>) -> Result<i64, Cancelled> {
        let begun = cx.now();
        cx.sleep(seconds(1)).await?;
        Ok(cx.now().as_millisecond() - begun.as_millisecond() - 1_000)
    }
}

/// Waits for a signal.
#[derive(Default)]
struct Sig;

#[partitura::workflow]
impl Sig {
    #[run]
    async fn run(cx: Cx<Self>) -> Result<String, partitura::ReceiveError> {
        cx.channel::<String>("go").recv().await
    }
}

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let arguments = Arguments::parse();
    let directory = match &arguments.data {
        Some(parent) => tempfile::tempdir_in(parent)?,
        None => tempfile::tempdir()?,
    };
    let url = if arguments.memory { "memory:".into() } else { format!("embedded:{}", directory.path().display()) };
    let partitura = partitura::connect(url).await?;
    let worker = partitura.worker().service(TasksService(Dots));
    let worker = worker.workflow::<Seq>().workflow::<Fan>().workflow::<Timer>().workflow::<Sig>().start().await?;

    let mut measures = Vec::new();
    for run in 0..arguments.repeat {
        let bench = Bench { partitura: &partitura, arguments: &arguments, run };
        if bench.wants("seq") {
            for &in_flight in &arguments.in_flight {
                report(&arguments, &mut measures, bench.seq(in_flight).await?)?;
            }
        }
        if bench.wants("fan") {
            report(&arguments, &mut measures, bench.fan().await?)?;
        }
        if bench.wants("timer") {
            report(&arguments, &mut measures, bench.timer().await?)?;
        }
        if bench.wants("signal") {
            report(&arguments, &mut measures, bench.signal().await?)?;
        }
    }
    worker.stop().await?;
    partitura.close().await?;
    eprintln!("{}", table(&measures));
    Ok(())
}

fn report(arguments: &Arguments, measures: &mut Vec<Measure>, measure: Measure) -> Result<(), Failure> {
    if arguments.json {
        println!("{}", serde_json::to_string(&measure)?);
    } else {
        eprintln!("{} at {}: {:.0}/s", measure.workload, measure.concurrency, measure.per_s);
    }
    measures.push(measure);
    Ok(())
}

struct Bench<'a> {
    partitura: &'a Partitura,
    arguments: &'a Arguments,
    run: usize,
}

impl Bench<'_> {
    fn wants(&self, workload: &str) -> bool {
        let names = &self.arguments.workloads;
        names.is_empty() || names.iter().any(|name| name == workload || name == "engine")
    }

    fn peer(&self) -> &'static str {
        if self.arguments.memory { "partitura-memory" } else { "partitura-embedded" }
    }

    /// The id of a workflow, never used before.
    fn id(&self, what: &str, number: usize) -> String {
        format!("{what}-{}-{number}", self.run)
    }

    async fn seq(&self, in_flight: usize) -> Result<Measure, Failure> {
        let n = if in_flight > 1 { self.arguments.seq } else { self.arguments.seq_one };
        let whole = |what: String| {
            let client = self.partitura.client();
            move |number: usize| {
                let handle = client.workflow::<Seq>(format!("{what}-{number}"));
                async move { timed(handle.start("abc".into()), &handle).await }
            }
        };
        let prefix = self.id("seq", in_flight);
        closed_loop(in_flight, n / 10 + in_flight, whole(format!("{prefix}-warm"))).await?;
        let usage = Usage::watch();
        let timed = closed_loop(in_flight, n, whole(prefix)).await?;
        Ok(Measure::new(self.peer(), "seq", in_flight, &timed, "", &usage()))
    }

    async fn fan(&self) -> Result<Measure, Failure> {
        let n = self.arguments.fan;
        let whole = |what: String| {
            let client = self.partitura.client();
            move |number: usize| {
                let handle = client.workflow::<Fan>(format!("{what}-{number}"));
                async move { timed(handle.start("abc".into()), &handle).await }
            }
        };
        let prefix = self.id("fan", 20);
        closed_loop(50, n / 10, whole(format!("{prefix}-warm"))).await?;
        let usage = Usage::watch();
        let timed = closed_loop(50, n, whole(prefix)).await?;
        Ok(Measure::new(self.peer(), "fan", 50, &timed, "20 tasks each", &usage()))
    }

    async fn timer(&self) -> Result<Measure, Failure> {
        let n = self.arguments.timer;
        let (client, prefix) = (self.partitura.client(), self.id("timer", 0));
        let (seen, mut ends) = tokio::sync::mpsc::unbounded_channel();
        let usage = Usage::watch();
        let run = closed_loop(n, n, move |number| {
            let (client, seen) = (client.clone(), seen.clone());
            let handle: WorkflowHandle<Timer> = client.workflow(format!("{prefix}-{number}"));
            async move {
                let begun = Instant::now();
                handle.start(()).await?;
                let late = handle.result().await.map_err(|error| error.to_string())?;
                // The receiver lives until all are done.
                let _ = seen.send(begun.elapsed().saturating_sub(seconds(1)));
                Ok::<_, Failure>(Duration::from_millis(late.max(0).unsigned_abs()))
            }
        });
        let timed = run.await?;
        let mut whole = Vec::with_capacity(n);
        ends.recv_many(&mut whole, n).await;
        let whole = Latencies::new(whole);
        let notes = format!(
            "p50/p99 are lateness inside the workflow; start to result less 1 s: p50 {:.0} p99 {:.0} ms; all done in {:.2} s",
            whole.percentile_ms(0.5),
            whole.percentile_ms(0.99),
            timed.took.as_secs_f64()
        );
        Ok(Measure::new(self.peer(), "timer", n, &timed, &notes, &usage()))
    }

    async fn signal(&self) -> Result<Measure, Failure> {
        let n = self.arguments.signal;
        let (client, prefix) = (self.partitura.client(), self.id("signal", 0));
        let (starter, ids) = (client.clone(), prefix.clone());
        let started = closed_loop(50, n, move |number| {
            let handle: WorkflowHandle<Sig> = starter.workflow(format!("{ids}-{number}"));
            async move {
                handle.start(()).await?;
                // An answer means that the first turn is over: the workflow waits.
                handle.describe().await?;
                Ok::<_, Failure>(Duration::ZERO)
            }
        })
        .await?;
        let usage = Usage::watch();
        let timed = closed_loop(50, n, move |number| {
            let handle: WorkflowHandle<Sig> = client.workflow(format!("{prefix}-{number}"));
            async move { timed(handle.signal(Signal::to_channel("go", &"x")), &handle).await }
        })
        .await?;
        let notes = format!(
            "signal sent to workflow completed; waiting workflows started beforehand at {:.0}/s",
            n as f64 / started.took.as_secs_f64()
        );
        Ok(Measure::new(self.peer(), "signal", 50, &timed, &notes, &usage()))
    }
}

/// How long from the request to the workflow's result.
async fn timed<W: partitura::Workflow, T>(
    request: impl IntoFuture<Output = Result<T, partitura::ClientError>>,
    handle: &WorkflowHandle<W>,
) -> Result<Duration, Failure>
where
    W::Error: std::fmt::Display,
{
    let begun = Instant::now();
    request.await?;
    handle.result().await.map_err(|error| error.to_string())?;
    Ok(begun.elapsed())
}
