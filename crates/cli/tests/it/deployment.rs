//! Workflows to operate on.

use partitura::{Cancelled, Cx, Partitura, RunningWorker, TaskError};
use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub(crate) enum Oops {
    #[error("no: {0}")]
    No(String),
    #[error(transparent)]
    Task(#[from] TaskError<partitura::Never>),
    #[error(transparent)]
    Cancelled(#[from] Cancelled),
}

/// Waits until it is told to go.
#[derive(Default)]
pub(crate) struct Hold {
    go: bool,
    text: String,
}

#[partitura::workflow]
impl Hold {
    #[run]
    async fn run(cx: Cx<Self>, text: String) -> Result<String, Oops> {
        assert!(text != "broken", "there is no room");
        cx.until(|hold: &Self| hold.go).await?;
        Ok(text)
    }

    #[signal]
    fn go(&mut self, text: String) {
        self.go = true;
        self.text = text;
    }

    /// Replaces the text, and gives the one before.
    #[update]
    fn rename(&mut self, text: String) -> Result<String, Oops> {
        match &*text {
            "" => Err(Oops::No("a text is not empty".to_owned())),
            _ => Ok(std::mem::replace(&mut self.text, text)),
        }
    }

    #[query]
    fn text(&self) -> String {
        self.text.clone()
    }
}

/// Runs two children.
#[derive(Default)]
pub(crate) struct Pair;

#[partitura::workflow]
impl Pair {
    #[run]
    async fn run(cx: Cx<Self>, text: String) -> Result<(), Oops> {
        let child = |number| cx.child::<Hold>(format!("{}-{number}", cx.id())).run(text.clone());
        let (one, two) = partitura::join!(child(1), child(2));
        one.and(two).map(drop).map_err(|error| Oops::No(error.to_string()))
    }
}

pub(crate) async fn open(url: &str) -> (Partitura, RunningWorker) {
    let partitura = partitura::connect(url).await.expect("a broker");
    let worker = partitura.worker().build_id("b-7").workflow::<Hold>().workflow::<Pair>().schedules();
    let worker = worker.start().await.expect("a worker");
    (partitura, worker)
}

/// Runs the command on a connection: its exit code, and what it printed.
pub(crate) async fn run(partitura: &Partitura, line: &str) -> (u8, String) {
    let words = std::iter::once("partitura").chain(line.split(' ').filter(|word| !word.is_empty()));
    let mut printed = Vec::new();
    let code = partitura_cli::run_on(partitura, words.map(Into::into), &mut printed).await;
    (code, String::from_utf8(printed).expect("text"))
}

/// As [`run`], of what must succeed.
pub(crate) async fn done(partitura: &Partitura, line: &str) -> String {
    let (code, printed) = run(partitura, line).await;
    assert_eq!(code, 0, "{line}: {printed}");
    printed
}
