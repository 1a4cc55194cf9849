//! Recorded histories against the code of today.

use std::fs;
use std::path::{Path, PathBuf};

use partitura_workflow::{Definition, Event, Execution, Workflow};

/// Replays one recorded history with the code of the workflow `W`. [`replay_all`] says which forms it may have.
///
/// # Errors
/// Says where the code of today asks for something else than is recorded, or for the same with other values.
///
/// ```no_run
/// # use partitura::Cx;
/// # #[derive(Default)]
/// # struct Checkout;
/// # #[partitura::workflow]
/// # impl Checkout {
/// #     #[run] async fn run(_cx: Cx<Self>) -> Result<(), partitura::Cancelled> { Ok(()) }
/// # }
/// let history = std::fs::read_to_string("tests/histories/order-42.jsonl").expect("a file");
/// partitura::testing::replay::<Checkout>(&history).expect("this code fits");
/// ```
pub fn replay<W: Workflow>(history: &str) -> Result<(), String> {
    let events = events(history).map_err(|error| format!("it is not a history: {error}"))?;
    let replayed = Execution::replay(&Definition::for_workflow::<W>(), events);
    let (execution, _) = replayed.map_err(|stop| stop.reason.to_string())?;
    execution.unread_input().or_else(|| execution.unread_result()).map_or(Ok(()), Err)
}

/// Replays each history of a directory with the code of the workflow `W`: a test in CI that tells whether a change of
/// the code stops instances that run.
///
/// Each file with the extension `json` or `jsonl` is the history of one run, in any of the forms in which histories are
/// written: as JSON lines, by `partitura export` and the page's download, or as an array, by `serde_json` of
/// [`WorkflowHandle::history`](crate::WorkflowHandle::history). Histories of runs that have ended are good as well.
///
/// ```no_run
/// # use partitura::Cx;
/// # #[derive(Default)]
/// # struct Checkout;
/// # #[partitura::workflow]
/// # impl Checkout {
/// #     #[run] async fn run(_cx: Cx<Self>) -> Result<(), partitura::Cancelled> { Ok(()) }
/// # }
/// // In a `#[test]`:
/// partitura::testing::replay_all::<Checkout>("tests/histories/checkout");
/// ```
///
/// Returns how many histories there are.
///
/// # Panics
/// With the names of all files whose history the code does not fit and the reasons, also where only values differ; and
/// where a file cannot be read, or the directory has none.
#[track_caller]
pub fn replay_all<W: Workflow>(directory: impl AsRef<Path>) -> usize {
    let directory = directory.as_ref();
    let files = match histories(directory) {
        Ok(files) => files,
        Err(error) => panic!("read {}: {error}", directory.display()),
    };
    assert!(!files.is_empty(), "{} has no history: put some there, as files *.json or *.jsonl", directory.display());
    let problems: Vec<String> = files
        .iter()
        .filter_map(|file| replay_file::<W>(file).err().map(|problem| format!("\n{}: {problem}", file.display())))
        .collect();
    let (all, name) = (files.len(), W::NAME);
    let misfits = problems.len();
    assert!(problems.is_empty(), "{misfits} of {all} histories do not fit workflow {name}:{}", problems.concat());
    all
}

/// The files, in the order of their names.
fn histories(directory: &Path) -> std::io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "json" || extension == "jsonl") {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

fn replay_file<W: Workflow>(file: &Path) -> Result<(), String> {
    let text = fs::read_to_string(file).map_err(|error| format!("it cannot be read: {error}"))?;
    replay::<W>(&text)
}

/// An array of events, or one after the other.
fn events(text: &str) -> serde_json::Result<Vec<Event>> {
    if text.trim_start().starts_with('[') {
        return serde_json::from_str(text);
    }
    serde_json::Deserializer::from_str(text).into_iter().collect()
}
