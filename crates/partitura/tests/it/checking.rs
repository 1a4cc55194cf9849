//! Today's code against instances that are open, and against recorded histories.

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use partitura::history::Event;
use partitura::testing::replay_all;

use crate::builds::{guarded, new, old, strict, unchanged, unguarded};
use crate::in_memory;
use crate::support::{eventually, soon};

#[tokio::test]
async fn an_input_that_the_code_cannot_read_and_what_is_stopped_already_are_reported() {
    let partitura = in_memory().await;
    let worker = partitura.worker().workflow::<old::Ships>().workflow::<unchanged::Changes>();
    let worker = worker.start().await.expect("a worker");
    let (order, change) = (partitura.client().workflow::<old::Ships>("o"), partitura.client().workflow("c"));
    order.start(old::order()).await.expect("started");
    soon(order.describe()).await.expect("known");
    change.start(()).await.expect("started");
    let change: partitura::WorkflowHandle<unchanged::Changes> = change;
    eventually(|| async { change.history().await.ok().filter(|events| events.len() >= 3) }).await;
    worker.stop().await.expect("stopped");

    let fitting = partitura.worker().workflow::<new::Ships>().workflow::<guarded::Changes>();
    let fits = fitting.check().await.expect("read");
    assert_eq!((fits.replayed, fits.misfits), (2, 0), "{fits}");
    assert_eq!(fits.to_string(), "2 open instances were replayed; the code fits all but 0");
    let strict = partitura.worker().workflow::<strict::Ships>().check().await.expect("read");
    assert_eq!((strict.replayed, strict.misfits), (1, 1));
    assert!(strict.named[0].reason.contains("pieces"), "{strict}");

    let wrong = partitura.worker().workflow::<unguarded::Changes>().start().await.expect("a worker");
    eventually(|| async { change.describe().await.ok()?.status.reason().map(str::to_owned) }).await;
    wrong.stop().await.expect("stopped");
    let still = partitura.worker().workflow::<unguarded::Changes>().check().await.expect("read");
    assert_eq!((still.misfits, still.named[0].status.name()), (1, "stopped"), "{still}");
    let repaired = partitura.worker().workflow::<unchanged::Changes>().check().await.expect("read");
    assert!(repaired.is_fit() && repaired.replayed == 1, "{repaired}");
}

/// Writes the history of an instance, as an array and as lines.
async fn record(directory: &Path) -> Vec<Event> {
    let partitura = in_memory().await;
    let worker = partitura.worker().workflow::<unchanged::Changes>().start().await.expect("a worker");
    let change = partitura.client().workflow::<unchanged::Changes>("c");
    change.start(()).await.expect("started");
    change.signal(unchanged::ChangesSignal::end()).await.expect("sent");
    soon(change.result()).await.expect("a result");
    let history = soon(change.history()).await.expect("a history");
    worker.stop().await.expect("stopped");
    fs::write(directory.join("array.json"), serde_json::to_string(&history).expect("JSON")).expect("written");
    let lines: Vec<String> = history.iter().map(|event| serde_json::to_string(event).expect("JSON")).collect();
    fs::write(directory.join("lines.json"), lines.join("\n")).expect("written");
    fs::write(directory.join("README.md"), "no history").expect("written");
    history
}

fn complaint(replay: impl FnOnce() -> usize) -> String {
    let panic = catch_unwind(AssertUnwindSafe(replay)).expect_err("it does not fit");
    panic.downcast_ref::<String>().expect("a text").clone()
}

#[tokio::test]
async fn all_histories_of_a_directory_are_replayed_and_all_misfits_are_named_with_their_files() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path();
    assert!(complaint(|| replay_all::<unchanged::Changes>(path)).contains("has no history"));
    record(path).await;
    assert_eq!(replay_all::<unchanged::Changes>(path), 2);
    assert_eq!(replay_all::<guarded::Changes>(path), 2);
    fs::write(path.join("torn.json"), "[{\"at\":1").expect("written");
    let said = complaint(|| replay_all::<unguarded::Changes>(path));
    assert!(said.starts_with("3 of 3 histories do not fit workflow Changes:"), "{said}");
    for part in ["array.json: non-deterministic at event 1", "lines.json: non-deterministic", "torn.json: it is not a"]
    {
        assert!(said.contains(part), "{said}");
    }
}
