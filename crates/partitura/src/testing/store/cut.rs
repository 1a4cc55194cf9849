//! Writes whose connection is cut: their answers are true, or say that the outcome is unknown.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use partitura_broker::{ErrorKind, Expect, Put};
use partitura_engine::Store;
use tokio::task::JoinSet;

use super::case::Verdict;
use super::ground::{Ground, SPACE};

/// How many write at once.
const WRITERS: usize = 16;
/// How often the connections are cut.
const CUTS: usize = 10;
/// The number of writes that are written between two cuts, so that some of them are under way at any time.
const BETWEEN: usize = 40;
/// The longest time for a store to write again.
const LIMIT: Duration = Duration::from_secs(120);
/// The wait after a write that failed.
const PAUSE: Duration = Duration::from_millis(20);
/// The time in which a write that was answered as failed must not appear.
const LATER: Duration = Duration::from_millis(300);

/// The state that the writers share.
struct Stage {
    ground: Ground,
    written: AtomicUsize,
    over: AtomicBool,
}

/// The answers to the writes of one writer, in their order.
type Answers = Vec<Result<(), ErrorKind>>;

pub(super) async fn check(store: Arc<dyn Store>, cut: impl AsyncFn()) -> Verdict {
    let stage = Arc::new(Stage { ground: Ground::new(store), written: AtomicUsize::new(0), over: false.into() });
    let mut writers = JoinSet::new();
    for writer in 0..WRITERS {
        let stage = stage.clone();
        writers.spawn(async move { (writer, stage.answers(writer).await) });
    }
    for _ in 0..CUTS {
        stage.progress().await?;
        cut().await;
    }
    stage.progress().await?;
    stage.over.store(true, Ordering::SeqCst);
    let mut answers = BTreeMap::new();
    while let Some(ended) = writers.join_next().await {
        let (writer, of) = ended.map_err(|panic| panic.to_string())?;
        answers.insert(writer, of);
    }
    tokio::time::sleep(LATER).await;
    for (writer, answers) in answers {
        stage.compare(writer, &answers).await?;
    }
    Ok(())
}

impl Stage {
    /// Writes until it is over. Each group has two keys that nobody else writes, and a third one whose version counts.
    async fn answers(&self, writer: usize) -> Answers {
        let mut answers = Answers::new();
        while !self.over.load(Ordering::SeqCst) {
            let key = |half: u8| key(writer, answers.len(), half);
            let mut group: Vec<Put> =
                (0..2).map(|half| self.ground.put(key(half), Expect::Absent, Some(b"x"))).collect();
            group.push(self.ground.put(count(writer), Expect::Any, Some(b"x")));
            let answer = self.ground.write(group).await;
            answers.push(answer);
            match answer {
                Ok(()) => drop(self.written.fetch_add(1, Ordering::SeqCst)),
                Err(_) => tokio::time::sleep(PAUSE).await,
            }
        }
        answers
    }

    /// Waits until more is written.
    async fn progress(&self) -> Verdict {
        let enough = self.written.load(Ordering::SeqCst) + BETWEEN;
        let more = async {
            while self.written.load(Ordering::SeqCst) < enough {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        let late = |_| format!("nothing is written {LIMIT:?} after its connections were cut");
        tokio::time::timeout(LIMIT, more).await.map_err(late)
    }

    /// Compares the answers with what there is.
    async fn compare(&self, writer: usize, answers: &Answers) -> Verdict {
        let mut present = 0;
        for (turn, answer) in answers.iter().enumerate() {
            let halves = [self.read(key(writer, turn, 0)).await?, self.read(key(writer, turn, 1)).await?];
            let is_written = match halves {
                [Some(_), Some(_)] => true,
                [None, None] => false,
                _ => return Err("one of two values of a group was written".to_owned()),
            };
            match answer {
                Ok(()) if !is_written => return Err("a write was answered as written, and is not there".to_owned()),
                Err(kind) if is_written && *kind != ErrorKind::OutcomeUnknown => {
                    return Err(format!("a write was answered as {kind:?}, and is there"));
                }
                Err(ErrorKind::Conflict) => {
                    return Err("a write conflicts though nobody else writes its keys".to_owned());
                }
                _ => present += u64::from(is_written),
            }
        }
        match self.read(count(writer)).await?.unwrap_or_default() {
            version if version == present => Ok(()),
            version => Err(format!("{present} groups are there, and {version} were written")),
        }
    }

    /// The version of a key. A connection that was cut may fail a first read.
    async fn read(&self, key: Vec<u8>) -> Result<Option<u64>, String> {
        let until = tokio::time::Instant::now() + LIMIT;
        loop {
            match self.ground.store.get(SPACE, self.ground.key(&key)).await {
                Ok(found) => return Ok(found.map(|(version, _)| version)),
                Err(error) if error.is_retryable() && tokio::time::Instant::now() < until => {
                    tokio::time::sleep(PAUSE).await;
                }
                Err(error) => return Err(format!("get: {error}")),
            }
        }
    }
}

fn key(writer: usize, turn: usize, half: u8) -> Vec<u8> {
    format!("{writer}/{turn}/{half}").into_bytes()
}

fn count(writer: usize) -> Vec<u8> {
    format!("{writer}/count").into_bytes()
}
