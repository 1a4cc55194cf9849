//! The metrics of workflows and tasks, and the files that name them.

use std::collections::BTreeSet;

use partitura::{Cx, Retry, WorkflowError, millis};

use crate::recorder::Recorded;
use crate::support::{Oops, TextService, TextStub, Texts, eventually, soon};

/// Calls, waits and waits for a signal; or fails; or has code that cannot go on.
#[derive(Debug, Default)]
struct Measured {
    goes_on: bool,
}

#[partitura::workflow]
impl Measured {
    #[run]
    async fn run(cx: Cx<Self>, way: String) -> Result<String, Oops> {
        let text = cx.service::<TextStub>();
        match &*way {
            "panics" => panic!("as it was asked to"),
            "fails" => {
                let retry = Retry::fixed(millis(1)).max_attempts(2);
                return Ok(text.busy_until(9).retry(retry).await?.to_string());
            }
            _ => {}
        }
        let said = text.dot(way).await?;
        cx.sleep(millis(5)).await?;
        cx.until(|measured: &Self| measured.goes_on).await?;
        Ok(said)
    }

    #[signal]
    fn go_on(&mut self) {
        self.goes_on = true;
    }
}

/// Everything that is measured happens once at least. The recorder is that of this thread, on which all of it runs.
async fn measure(recorded: &Recorded) {
    let _recorder = metrics::set_default_local_recorder(recorded);
    let partitura = partitura::connect("memory:").with(|builder| builder.cache(1)).await.expect("it is well");
    let worker = partitura.worker().service(TextService(Texts::default())).workflow::<Measured>();
    let worker = worker.start().await.expect("it is well");
    let client = partitura.client();
    let ids = ["one-of-two", "two-of-two"];
    for id in ids {
        client.workflow::<Measured>(id).start(id.to_owned()).await.expect("it is well");
    }
    eventually(async || (recorded.values("partitura_timer_lateness_seconds", &[]).len() == 2).then_some(())).await;
    for id in ids {
        let measured = client.workflow::<Measured>(id);
        measured.signal(MeasuredSignal::go_on()).await.expect("it is well");
        assert_eq!(soon(measured.result()).await.expect("it is well"), format!("{id}."));
    }
    let failing = client.workflow::<Measured>("fails");
    failing.start("fails".to_owned()).await.expect("it is well");
    assert!(matches!(soon(failing.result()).await, Err(WorkflowError::Failed(_))));
    let panicking = client.workflow::<Measured>("panics");
    panicking.start("panics".to_owned()).await.expect("it is well");
    assert!(matches!(soon(panicking.result()).await, Err(WorkflowError::Stopped { .. })));
    panicking.terminate("seen").await.expect("it is well");
    soon(panicking.result()).await.expect_err("it was terminated");
    worker.stop().await.expect("it is well");
}

#[tokio::test]
async fn a_workflow_a_task_a_timer_and_a_dead_letter_are_measured() {
    let recorded = Recorded::default();
    measure(&recorded).await;
    let workflow = "workflow=\"Measured\"";
    assert_eq!(recorded.sum("partitura_instances_started_total", &[workflow]), 4.0);
    for (outcome, closed) in [("completed", 2.0), ("failed", 1.0), ("terminated", 1.0)] {
        let outcome = format!("outcome={outcome:?}");
        assert_eq!(recorded.sum("partitura_instances_closed_total", &[workflow, &outcome]), closed, "{outcome}");
    }
    assert_eq!(recorded.sum("partitura_instances_stopped_total", &[workflow]), 1.0);
    let task = |method: &str, outcome: &str| {
        let labels = [format!("method={method:?}"), format!("outcome={outcome:?}"), "service=\"Text\"".to_owned()];
        recorded.values("partitura_task_run_seconds", &labels.each_ref().map(String::as_str)).len()
    };
    assert_eq!((task("dot", "completed"), task("busy_until", "failed")), (2, 2));
    assert_eq!(recorded.values("partitura_task_schedule_to_start_seconds", &[]).len(), 4);
    assert_eq!(recorded.sum("partitura_dead_letters_total", &["reason=\"attempts\""]), 1.0);
    assert!(recorded.sum("partitura_cache_misses_total", &[]) > 0.0);
    assert!(recorded.values("partitura_timer_lateness_seconds", &[]).iter().all(|late| *late < 60.0));
    let partitions = ["messaging_destination_name=\"workflow.Measured.commands\""];
    assert!(recorded.values("partitura_owned_partitions", &partitions).contains(&8.0));
    for labels in recorded.labels() {
        let ids = ["one-of-two", "two-of-two", "\"fails\"", "\"panics\""];
        assert!(ids.iter().all(|id| !labels.contains(id)), "an id is a label: {labels}");
    }
}

#[tokio::test]
async fn the_guide_names_every_metric_and_the_board_and_the_alerts_name_no_other() {
    let recorded = Recorded::default();
    measure(&recorded).await;
    let there = recorded.names();
    let guide = include_str!("../../../../docs/guides/operating.md");
    let rows = guide.lines().filter_map(|line| line.strip_prefix("| `")).filter_map(|rest| rest.split('`').next());
    let told: BTreeSet<String> = rows.filter(|name| is_metric(name)).map(str::to_owned).collect();
    assert_eq!(told, there);
    let board = include_str!("../../../../docs/telemetry/grafana.json");
    let board: serde_json::Value = serde_json::from_str(board).unwrap();
    let alerts = include_str!("../../../../docs/telemetry/alerts.yml");
    for (file, text) in [("grafana.json", board.to_string()), ("alerts.yml", alerts.to_owned())] {
        let named = metrics_in(&text);
        assert!(!named.is_empty(), "{file} names no metric");
        assert_eq!(named.difference(&there).collect::<Vec<_>>(), [""; 0], "{file} names what does not exist");
    }
}

fn is_metric(name: &str) -> bool {
    name.starts_with("partitura_") || name.starts_with("messaging_")
}

/// The metrics that a text names. Prometheus shows a histogram as three of them.
fn metrics_in(text: &str) -> BTreeSet<String> {
    let words = text.split(|character: char| !(character.is_ascii_alphanumeric() || character == '_'));
    let base = |word: &str| {
        let part = ["_bucket", "_sum", "_count"].iter().find_map(|part| word.strip_suffix(part));
        part.unwrap_or(word).to_owned()
    };
    let labels = ["messaging_destination_name", "messaging_system"];
    words.filter(|word| is_metric(word) && !labels.contains(word)).map(base).collect()
}
