//! Rows of instances, written in bulk.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use partitura::contract::{Expect, Put, ScanRange};
use partitura::{Cancelled, Cx, Partitura, Store};
use partitura_bench_kit::Failure;
use serde_json::{Value, json};

/// The spaces of the engine's summaries, histories and notes of workers.
const INSTANCES: &str = "instances";
const HISTORY: &str = "history";
const SERVED: &str = "served";
/// The rows that are written at once.
const AT_ONCE: u64 = 1_000;
/// The instances start this far apart.
const APART: Duration = Duration::from_millis(100);

/// Runs once, for its row.
#[derive(Default)]
struct Template;

#[partitura::workflow]
impl Template {
    #[run]
    async fn run(cx: Cx<Self>) -> Result<u64, Cancelled> {
        cx.sleep(Duration::from_millis(1)).await?;
        Ok(42)
    }
}

/// The turns of the long history, of two events each.
const TURNS: u32 = 50_000;
/// The id of its instance, and its run.
pub(crate) const LONG: &str = "long";
const LONG_RUN: &str = "0198f7e2-5d0c-7cc3-98c4-000000000000";

/// The name of a workflow.
pub(crate) fn workflow(number: u64) -> String {
    format!("Workflow{number:02}")
}

pub(crate) async fn fill(
    partitura: &Partitura,
    store: &Arc<dyn Store>,
    count: u64,
    workflows: u64,
) -> Result<(), Failure> {
    let template = template(partitura, store).await?;
    note_workers(store, workflows).await?;
    long_history(store, &template).await?;
    let now = u64::try_from(SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis())?;
    for from in (0..count).step_by(usize::try_from(AT_ONCE)?) {
        let puts = (from..count.min(from + AT_ONCE)).map(|number| {
            let started = now - (count - number) * u64::try_from(APART.as_millis()).unwrap_or(1);
            put(&template, number, workflows, started)
        });
        write(store, puts.collect()).await?;
    }
    Ok(())
}

/// The row of an instance that ran to its end.
async fn template(partitura: &Partitura, store: &Arc<dyn Store>) -> Result<Value, Failure> {
    let worker = partitura.worker().workflow::<Template>().start().await?;
    let instance = partitura.client().workflow::<Template>("template");
    instance.start(()).await?;
    instance.result().await?;
    worker.stop().await?;
    let rows = store.scan(ScanRange::prefix(INSTANCES, &b"Template\0"[..]), 1).await?;
    let row = rows.first().ok_or("the instance has no row")?;
    Ok(serde_json::from_slice(&row.value)?)
}

/// Notes workers of the workflows, as these do when they start.
async fn note_workers(store: &Arc<dyn Store>, workflows: u64) -> Result<(), Failure> {
    let noted = store.scan(ScanRange::prefix(SERVED, &b"w"[..]), 1).await?;
    let noted = noted.first().ok_or("the worker has left no note")?;
    let note = |number| put_row(SERVED, format!("w{}", workflow(number)).into(), noted.value.to_vec());
    write(store, (0..workflows).map(note).collect()).await
}

/// Writes an instance with a long history, whose timers follow one another.
async fn long_history(store: &Arc<dyn Store>, template: &Value) -> Result<(), Failure> {
    let rows = store.scan(ScanRange::prefix(HISTORY, &b"Template\0"[..]), 2).await?;
    let turns: Vec<Value> =
        rows.iter().map(|row| serde_json::from_slice(&row.value)).collect::<Result<_, serde_json::Error>>()?;
    let [first, second] = &turns[..] else { return Err("the instance has not two turns".into()) };
    let numbered = |event: &Value, seq: u32| {
        let mut event = event.clone();
        number(&mut event, seq);
        event
    };
    let (started, timer, fired) = (&first["body"][0], &first["body"][1], &second["body"][0]);
    let prefix = [workflow(0).as_bytes(), b"\0", LONG.as_bytes(), b"\0", LONG_RUN.as_bytes(), b"\0"].concat();
    let mut puts = Vec::new();
    for turn in 0..TURNS {
        let mut row = if turn == 0 { first.clone() } else { second.clone() };
        let event = if turn == 0 { started.clone() } else { numbered(fired, turn) };
        row["body"] = json!([event, numbered(timer, turn + 1)]);
        if turn > 0 {
            row["before"] = json!(2 * turn);
        }
        puts.push(put_row(HISTORY, [&prefix[..], &turn.to_be_bytes()].concat(), row.to_string().into()));
        if puts.len() == 1_000 {
            write(store, std::mem::take(&mut puts)).await?;
        }
    }
    let mut row = template.clone();
    let body = &mut row["body"];
    (body["workflow"], body["id"], body["run"]) = (json!(workflow(0)), json!(LONG), json!(LONG_RUN));
    body["status"] = json!("Running");
    if let Some(fields) = body.as_object_mut() {
        fields.retain(|name, _| !["closed_at", "end", "expires_at"].contains(&&**name));
    }
    puts.push(put_row(INSTANCES, [workflow(0).as_bytes(), b"\0", LONG.as_bytes()].concat(), row.to_string().into()));
    write(store, puts).await
}

/// Gives an event another number, wherever that stands in it.
fn number(value: &mut Value, seq: u32) {
    let Some(fields) = value.as_object_mut() else { return };
    for (name, value) in fields {
        if name == "seq" { *value = json!(seq) } else { number(value, seq) }
    }
}

fn put_row(space: &'static str, key: Vec<u8>, value: Vec<u8>) -> Put {
    Put { space, key: key.into(), expect: Expect::Any, value: Some(value.into()) }
}

async fn write(store: &Arc<dyn Store>, puts: Vec<Put>) -> Result<(), Failure> {
    store.write(vec![puts]).await.into_iter().collect::<Result<(), _>>().map_err(Failure::from)
}

/// Of a thousand, one is stopped, 300 run, 9 failed, 40 are cancelled; the rest completed.
fn put(template: &Value, number: u64, workflows: u64, started: u64) -> Put {
    let (workflow, id) = (workflow(number % workflows), format!("order-{number:07}"));
    // All workflows have instances of all kinds.
    let status = match (number / workflows) % 1_000 {
        0 => json!({"Stopped": {"reason": "it panicked: no such carrier"}}),
        1..=300 => json!("Running"),
        301..=309 => json!("Failed"),
        310..=349 => json!("Cancelled"),
        _ => json!("Completed"),
    };
    let is_closed = matches!(status.as_str(), Some("Failed" | "Cancelled" | "Completed"));
    let mut row = template.clone();
    let body = &mut row["body"];
    body["workflow"] = json!(workflow);
    body["id"] = json!(id);
    body["run"] = json!(format!("0198f7e2-5d0c-7cc3-98c4-{number:012}"));
    body["status"] = status;
    body["started_at"] = json!(started);
    body["tags"] = json!([format!("customer-{}", number % 10_000)]);
    body["build"] = json!(if number % 100_000 == 7 { "rare" } else { "usual" });
    if is_closed {
        body["closed_at"] = json!(started + 60_000);
    } else if let Some(fields) = body.as_object_mut() {
        fields.remove("closed_at");
        fields.remove("end");
    }
    put_row(INSTANCES, [workflow.as_bytes(), b"\0", id.as_bytes()].concat(), row.to_string().into())
}
