//! Rows of instances, written in bulk.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use partitura::contract::{Expect, Put, ScanRange};
use partitura::{Cancelled, Cx, Partitura, Store};
use partitura_bench_kit::Failure;
use serde_json::{Value, json};

/// The space of the engine's summaries.
const INSTANCES: &str = "instances";
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
    let now = u64::try_from(SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis())?;
    for from in (0..count).step_by(usize::try_from(AT_ONCE)?) {
        let puts = (from..count.min(from + AT_ONCE)).map(|number| {
            let started = now - (count - number) * u64::try_from(APART.as_millis()).unwrap_or(1);
            put(&template, number, workflows, started)
        });
        for result in store.write(vec![puts.collect()]).await {
            result?;
        }
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
    let key = [workflow.as_bytes(), b"\0", id.as_bytes()].concat();
    Put { space: INSTANCES, key: key.into(), expect: Expect::Any, value: Some(row.to_string().into()) }
}
