//! The clients of each workload. A latency is defined as in the benchmarks of the other engines.

use std::fmt::Display;
use std::sync::mpsc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use partitura::{Client, Signal, Workflow};
use partitura_bench_kit::{Failure, Latencies, Timed, closed_loop};

use crate::plan::{Plan, Workload};
use crate::work::{Fan, Seq, Timer, Waiting};

const WRONG: &str = "a workflow gave a wrong result: the figure would be worthless";

/// The measurements of one workload.
pub(crate) struct Figures {
    pub(crate) timed: Timed,
    pub(crate) notes: String,
}

pub(crate) async fn drive(client: &Client, plan: &Plan) -> Result<Figures, Failure> {
    match plan.workload {
        Workload::Seq => whole::<Seq>(client, plan, "abc...".to_owned()).await,
        Workload::Fan => whole::<Fan>(client, plan, 80).await,
        Workload::Timer => timer(client, plan).await,
        Workload::Signal => signal(client, plan).await,
    }
}

/// Makes ids that no earlier run on the same store has used.
fn ids(what: &str) -> impl Fn(usize) -> String + Clone + Send + 'static + use<> {
    let run = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_micros();
    let prefix = format!("{what}-{run}");
    move |number| format!("{prefix}-{number}")
}

/// Measures from the request of the start to the result.
async fn whole<W>(client: &Client, plan: &Plan, expected: W::Output) -> Result<Figures, Failure>
where
    W: Workflow<Input = String>,
    W::Output: PartialEq + Clone + Sync,
    W::Error: Display,
{
    let requests = |what: &str| {
        let (client, expected, id) = (client.clone(), expected.clone(), ids(what));
        move |number: usize| {
            let (instance, expected) = (client.workflow::<W>(id(number)), expected.clone());
            async move {
                let begun = Instant::now();
                instance.start("abc".to_owned()).await?;
                let result = instance.result().await.map_err(|error| error.to_string())?;
                let took = begun.elapsed();
                if result == expected { Ok(took) } else { Err(Failure::from(WRONG)) }
            }
        }
    };
    closed_loop(plan.in_flight, plan.warmup, requests("warmup")).await?;
    let timed = closed_loop(plan.in_flight, plan.n, requests("run")).await?;
    Ok(Figures { timed, notes: String::new() })
}

/// Measures the lateness of each timer inside its workflow; the notes have it from end to end.
async fn timer(client: &Client, plan: &Plan) -> Result<Figures, Failure> {
    let (seen, all) = mpsc::channel();
    let (client, id) = (client.clone(), ids("timer"));
    let timed = closed_loop(plan.in_flight, plan.n, move |number| {
        let (instance, seen) = (client.workflow::<Timer>(id(number)), seen.clone());
        async move {
            let begun = Instant::now();
            instance.start(()).await?;
            let started = begun.elapsed();
            let late = instance.result().await.map_err(|error| error.to_string())?;
            // The receiver outlives the loop.
            let _ = seen.send((started, begun.elapsed().saturating_sub(Duration::from_secs(1)), late));
            Ok::<_, Failure>(Duration::from_secs_f64(late.max(0.0) / 1e3))
        }
    })
    .await?;
    let all: Vec<_> = all.try_iter().collect();
    let early: Vec<f64> = all.iter().map(|(.., late)| -late).filter(|early| *early > 0.0).collect();
    let (accepted, end_to_end): (Vec<_>, Vec<_>) =
        all.into_iter().map(|(accepted, whole, _)| (accepted, whole)).unzip();
    let (accepted, end_to_end) = (Latencies::new(accepted), Latencies::new(end_to_end));
    let notes = format!(
        "p50/p99 are lateness inside the workflow; max {:.0} ms; accept p99 {:.0} ms; start to completed less 1 s: p50 {:.0} p99 {:.0} ms; \
         all done in {:.2} s; {}",
        timed.latencies.percentile_ms(1.0),
        accepted.percentile_ms(0.99),
        end_to_end.percentile_ms(0.5),
        end_to_end.percentile_ms(0.99),
        timed.took.as_secs_f64(),
        match early.iter().copied().reduce(f64::max) {
            Some(most) => format!("{} TOO EARLY, by up to {most:.3} ms", early.len()),
            None => "none too early".to_owned(),
        }
    );
    Ok(Figures { timed, notes })
}

/// Measures from the signal to the result, for waiting instances that were started before.
async fn signal(client: &Client, plan: &Plan) -> Result<Figures, Failure> {
    let instances = {
        let (client, id) = (client.clone(), ids("signal"));
        move |number: usize| client.workflow::<Waiting>(id(number))
    };
    let of = instances.clone();
    let started = closed_loop(plan.in_flight, plan.n, move |number| {
        let instance = of(number);
        async move {
            instance.start(()).await?;
            Ok::<_, Failure>(Duration::ZERO)
        }
    })
    .await?;
    let of = instances.clone();
    closed_loop(plan.in_flight, plan.n, move |number| {
        let instance = of(number);
        async move {
            // An answer means that the first turn is over: the workflow waits.
            instance.describe().await?;
            Ok::<_, Failure>(Duration::ZERO)
        }
    })
    .await?;
    let timed = closed_loop(plan.in_flight, plan.n, move |number| {
        let instance = instances(number);
        async move {
            let begun = Instant::now();
            instance.signal(Signal::to_channel("go", &"x".to_owned())).await?;
            let result = instance.result().await.map_err(|error| error.to_string())?;
            let took = begun.elapsed();
            if result == "x" { Ok(took) } else { Err(Failure::from(WRONG)) }
        }
    })
    .await?;
    let rate = plan.n as f64 / started.took.as_secs_f64();
    let notes = format!("signal sent to workflow completed; waiting workflows started beforehand at {rate:.0}/s");
    Ok(Figures { timed, notes })
}
