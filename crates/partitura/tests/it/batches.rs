//! Methods that take many calls at once: each call has its own result, attempts and key.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use partitura::testing::TestEnv;
use partitura::{Cx, Never, Retry, TaskContext, TaskError, Transient, join_all, millis, seconds};
use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Doc {
    shelf: String,
    number: u32,
    /// The behaviour: "good", "bad", "busy once", "panics", "hangs".
    kind: String,
}

#[derive(Debug, PartialEq, Serialize, Deserialize, thiserror::Error)]
enum IndexError {
    #[error("it cannot be read")]
    Bad,
    #[error("the index is busy")]
    Busy,
}

impl Transient for IndexError {
    fn is_transient(&self) -> bool {
        matches!(self, Self::Busy)
    }
}

#[partitura::service]
trait Index {
    #[batch(max = 4, within_ms = 20)]
    #[task(retry = Retry::fixed(seconds(1)).max_attempts(4))]
    async fn index(&self, docs: Vec<Doc>) -> Vec<Result<u32, IndexError>>;
    #[batch(max = 100, within_ms = 20, per = "docs.shelf")]
    async fn sort(&self, docs: Vec<Doc>) -> Vec<u32>;
    #[batch(max = 4, within_ms = 20)]
    #[task(retry = Retry::none())]
    async fn lose(&self, docs: Vec<Doc>) -> Vec<u32>;
}

/// The calls that came together, with the idempotency key and the attempt of each.
type Together = Vec<(Doc, String, u32)>;

#[derive(Debug, Clone, Default)]
struct Librarian(Arc<Mutex<Vec<Together>>>);

impl Librarian {
    fn batches(&self) -> MutexGuard<'_, Vec<Together>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, docs: &[Doc]) {
        let tasks = TaskContext::batch();
        assert_eq!(tasks.len(), docs.len());
        assert!(TaskContext::current().is_none(), "a batch is no single task");
        let each = docs.iter().zip(&tasks).map(|(doc, task)| (doc.clone(), task.idempotency_key(), task.attempt()));
        self.batches().push(each.collect());
    }

    fn sizes(&self) -> Vec<usize> {
        self.batches().iter().map(Vec::len).collect()
    }
}

impl Index for Librarian {
    async fn index(&self, docs: Vec<Doc>) -> Vec<Result<u32, IndexError>> {
        self.note(&docs);
        let tasks = TaskContext::batch();
        if docs.iter().any(|doc| doc.kind == "panics") {
            // Without the noise of the hook.
            std::panic::resume_unwind(Box::new("on purpose"));
        }
        if docs.iter().any(|doc| doc.kind == "hangs") {
            std::future::pending::<()>().await;
        }
        let mut results = Vec::new();
        for (doc, task) in docs.iter().zip(tasks) {
            let before: Option<u32> = task.last_heartbeat().expect("a number");
            task.heartbeat(&doc.number).expect("a number");
            results.push(match doc.kind.as_str() {
                "bad" => Err(IndexError::Bad),
                "busy once" if task.attempt() == 1 => Err(IndexError::Busy),
                "busy once" => Ok(before.expect("its own heartbeat") * 100),
                _ => Ok(doc.number * 10),
            });
        }
        results
    }

    async fn sort(&self, docs: Vec<Doc>) -> Vec<u32> {
        self.note(&docs);
        docs.iter().map(|doc| doc.number).collect()
    }

    async fn lose(&self, docs: Vec<Doc>) -> Vec<u32> {
        docs.iter().skip(1).map(|doc| doc.number).collect()
    }
}

/// Calls a method for each document at once, and says how each call ended.
#[derive(Debug, Default)]
struct Library;

#[partitura::workflow]
impl Library {
    #[run]
    async fn run(cx: Cx<Self>, (method, docs): (String, Vec<Doc>)) -> Result<Vec<String>, TaskError<Never>> {
        let index = cx.service::<IndexStub>();
        let docs = docs.into_iter();
        Ok(match method.as_str() {
            "index" => {
                let timeout = |doc: &Doc| if doc.number == 1 { seconds(5) } else { seconds(60) };
                let calls = docs.map(|doc| {
                    let limit = timeout(&doc);
                    index.index(doc).timeout(limit)
                });
                join_all(calls.collect::<Vec<_>>()).await.iter().map(|ended| format!("{ended:?}")).collect()
            }
            "sort" => {
                let calls = docs.map(|doc| index.sort(doc)).collect::<Vec<_>>();
                join_all(calls).await.iter().map(|ended| format!("{ended:?}")).collect()
            }
            _ => {
                let calls = docs.map(|doc| index.lose(doc)).collect::<Vec<_>>();
                join_all(calls).await.iter().map(|ended| format!("{ended:?}")).collect()
            }
        })
    }
}

async fn library(method: &str, docs: &[(&str, &str)]) -> (Vec<String>, Librarian) {
    let librarian = Librarian::default();
    let env = TestEnv::new().service(IndexService(librarian.clone())).workflow::<Library>();
    let doc = |(number, (shelf, kind)): (u32, &(&str, &str))| Doc {
        shelf: (*shelf).to_owned(),
        number,
        kind: (*kind).to_owned(),
    };
    let docs: Vec<Doc> = (1..).zip(docs).map(doc).collect();
    let ended = env.start::<Library>("l", (method.to_owned(), docs)).await.result().await.expect("a result");
    (ended, librarian)
}

#[tokio::test]
async fn calls_are_gathered_by_number_and_age_and_each_gets_its_own_result() {
    let kinds = ["good", "bad", "good", "busy once", "good", "good"];
    let (ended, librarian) = library("index", &kinds.map(|kind| ("a", kind))).await;
    let bad = "Err(Failed(Bad))";
    assert_eq!(ended, ["Ok(10)", bad, "Ok(30)", "Ok(400)", "Ok(50)", "Ok(60)"]);
    assert_eq!(librarian.sizes(), [4, 2, 1]);
    let batches = librarian.batches();
    let [(doc, key, attempt)] = &batches[2][..] else { panic!("{batches:?}") };
    assert_eq!((doc.number, *attempt), (4, 2), "only that one came again");
    let first: BTreeSet<&String> = batches[..2].iter().flatten().map(|(_, key, _)| key).collect();
    assert_eq!(first.len(), 6, "a key for each");
    assert!(first.contains(key), "the same in each attempt");
}

#[tokio::test]
async fn calls_with_other_keys_are_not_gathered() {
    let docs = [("a", ""), ("b", ""), ("a", ""), ("b", ""), ("b", "")];
    let (ended, librarian) = library("sort", &docs).await;
    assert_eq!(ended, ["Ok(1)", "Ok(2)", "Ok(3)", "Ok(4)", "Ok(5)"]);
    let mut sizes = librarian.sizes();
    sizes.sort_unstable();
    assert_eq!(sizes, [2, 3]);
    for batch in &*librarian.batches() {
        assert!(batch.iter().all(|(doc, ..)| doc.shelf == batch[0].0.shelf), "{batch:?}");
    }
}

#[tokio::test]
async fn a_call_that_brings_its_batch_down_is_alone_in_the_end() {
    let (ended, librarian) = library("index", &["good", "panics", "good", "good"].map(|kind| ("a", kind))).await;
    assert_eq!(ended, ["Ok(10)", "Err(Panicked(\"on purpose\"))", "Ok(30)", "Ok(40)"]);
    let sizes = librarian.sizes();
    assert_eq!(sizes[..3], [4, 2, 2], "{sizes:?}");
    assert!(sizes[3..].iter().all(|size| *size == 1), "{sizes:?}");
}

#[tokio::test]
async fn a_result_for_not_each_call_is_an_error_for_all_that_says_so() {
    let (ended, _) = library("lose", &[("a", ""), ("a", ""), ("a", "")]).await;
    let said = "Err(Panicked(\"Index.lose took a batch of 3 and returned 2 results: it returns one for each, in the same \
                order\"))";
    assert_eq!(ended, [said; 3]);
}

#[tokio::test]
async fn each_call_of_a_batch_that_hangs_has_its_own_time_out() {
    let began = tokio::time::Instant::now();
    let (ended, librarian) = library("index", &[("a", "hangs"), ("a", "good")]).await;
    // The one with the shorter time-out has all of its attempts; the other one's next attempt is without it.
    assert_eq!(ended, ["Err(TimedOut)", "Ok(20)"]);
    assert_eq!(librarian.sizes(), [2, 1, 1, 1, 1]);
    assert!(began.elapsed() < seconds(60) + seconds(2) + millis(100), "{:?}", began.elapsed());
}
