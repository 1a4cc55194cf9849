//! The program: a workflow and a service, and a handful of instances whose outcomes and effects are known.

use std::sync::Arc;

use partitura::{Cancelled, Cx, Retry, TaskContext, TaskError, join_all, millis, minutes};
use serde::{Deserialize, Serialize};

use crate::diary::Ledger;
use crate::fuse::Fuse;

/// An instance, how it ends, and what is in the ledger then, in any order.
#[derive(Debug)]
pub(crate) struct Number {
    pub(crate) id: &'static str,
    pub(crate) form: Form,
    pub(crate) outcome: &'static str,
    pub(crate) notes: &'static [&'static str],
    /// How many instances of its own it starts.
    pub(crate) children: usize,
}

/// Everything that workflows are made of.
pub(crate) const PROGRAM: &[Number] = &[
    Number::new("sequence", Form::Sequence, "ok: a1 a2", &["a1", "a2"]),
    Number::new("fan-out", Form::FanOut, "ok: b1 b2 b3", &["b1", "b2", "b3"]),
    Number::new("timer", Form::Timer, "ok: c1 c2", &["c1", "c2"]),
    Number::new("signal", Form::Signal, "ok: d-now", &["d-now"]),
    Number { children: 2, ..Number::new("family", Form::Family, "ok: e1, and then: a string broke", &["e1", "e2"]) },
    Number::new("saga", Form::Saga, "failed: a string broke", &["f1", "f2", "undo f2", "undo f1"]),
    Number::new("step", Form::Step, "ok: the same twice", &["g1", "g2"]),
    Number::new("retry", Form::Retry, "ok: in tune", &["in tune"]),
    Number::new("cancel", Form::Cancel, "cancelled", &["h1"]),
];

impl Number {
    const fn new(id: &'static str, form: Form, outcome: &'static str, notes: &'static [&'static str]) -> Self {
        Self { id, form, outcome, notes, children: 0 }
    }
}

/// The behaviour of an instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Form {
    Sequence,
    FanOut,
    Timer,
    Signal,
    Family,
    Child { fails: bool },
    Saga,
    Step,
    Retry,
    Cancel,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub(crate) enum Fault {
    #[error("a string broke")]
    BrokenString,
    #[error("out of tune")]
    OutOfTune,
    #[error("{0}")]
    Other(String),
    #[error(transparent)]
    Cancelled(#[from] Cancelled),
}

impl Fault {
    fn passes(&self) -> bool {
        *self == Self::OutOfTune
    }
}

impl From<TaskError<Self>> for Fault {
    fn from(error: TaskError<Self>) -> Self {
        match error {
            TaskError::Failed(fault) => fault,
            other => Self::Other(other.to_string()),
        }
    }
}

#[partitura::service]
pub(crate) trait Band {
    /// Enters a note. The text behind a `#` is not known beforehand.
    async fn play(&self, note: String) -> Result<String, Fault>;
    /// Fails for good.
    async fn solo(&self) -> Result<String, Fault>;
    /// Fails the first time. Its time-out leaves a timer behind.
    #[task(retry = Retry::fixed(millis(1)).max_attempts(3), retry_if = Fault::passes, overall_timeout = minutes(10))]
    async fn tune(&self) -> Result<String, Fault>;
}

#[derive(Debug, Clone)]
pub(crate) struct Players {
    pub(crate) ledger: Arc<Ledger>,
    pub(crate) fuse: Fuse,
}

impl Players {
    fn enter(&self, note: &str) -> String {
        self.fuse.before("enter in the ledger");
        let entered = self.ledger.once(note);
        self.fuse.after("enter in the ledger");
        entered
    }
}

impl Band for Players {
    async fn play(&self, note: String) -> Result<String, Fault> {
        Ok(self.enter(&note))
    }

    async fn solo(&self) -> Result<String, Fault> {
        Err(Fault::BrokenString)
    }

    async fn tune(&self) -> Result<String, Fault> {
        match TaskContext::current().map(|task| task.attempt()) {
            Some(1) => Err(Fault::OutOfTune),
            _ => Ok(self.enter("in tune")),
        }
    }
}

#[derive(Debug, Default)]
pub(crate) struct Piece {
    cue: Option<String>,
}

#[partitura::workflow]
impl Piece {
    #[run]
    async fn run(cx: Cx<Self>, form: Form) -> Result<String, Fault> {
        let band = cx.service::<BandStub>();
        match form {
            Form::Sequence => Ok(band.play("a1".into()).await? + " " + &band.play("a2".into()).await?),
            Form::FanOut => {
                let notes = ["b1", "b2", "b3"].map(|note| band.play(note.into()));
                let played = join_all(notes).await.into_iter().collect::<Result<Vec<_>, _>>()?;
                Ok(played.join(" "))
            }
            Form::Timer => {
                let first = band.play("c1".into()).await?;
                cx.sleep(millis(2)).await?;
                Ok(first + " " + &band.play("c2".into()).await?)
            }
            Form::Signal => {
                cx.until(|piece: &Self| piece.cue.is_some()).await?;
                let cue = cx.state(|piece| piece.cue.clone()).unwrap_or_default();
                Ok(band.play(format!("d-{cue}")).await?)
            }
            Form::Family => {
                let fine = cx.child::<Self>("fine").run(Form::Child { fails: false }).await;
                let failed = cx.child::<Self>("failed").run(Form::Child { fails: true }).await;
                match (fine, failed) {
                    (Ok(fine), Err(failed)) => Ok(format!("{fine}, and then: {failed}")),
                    other => Err(Fault::Other(format!("{other:?}"))),
                }
            }
            Form::Child { fails: false } => Ok(band.play("e1".into()).await?),
            Form::Child { fails: true } => {
                band.play("e2".into()).await?;
                Ok(band.solo().await?)
            }
            Form::Saga => {
                let mut saga = cx.saga();
                for note in ["f1", "f2"] {
                    band.play(note.into()).await?;
                    saga.on_failure(band.play(format!("undo {note}")));
                }
                Ok(band.solo().await?)
            }
            Form::Step => {
                // The value differs from process to process; the recorded one does not.
                let process = cx.step("look", async { Ok::<_, Fault>(std::process::id()) }).await;
                let process = process.map_err(|error| Fault::Other(error.to_string()))?;
                let first = band.play(format!("g1#{process}")).await?;
                let second = band.play(format!("g2#{process}")).await?;
                let same = first.split_once('#').map(|(_, number)| number) == second.split_once('#').map(|(_, n)| n);
                Ok(if same { "the same twice" } else { "two different ones" }.into())
            }
            Form::Retry => Ok(band.tune().await?),
            Form::Cancel => {
                let mut saga = cx.saga();
                saga.on_failure(band.play("h1".into()));
                cx.sleep(minutes(10)).await?;
                Ok("it was not cancelled".into())
            }
        }
    }

    /// The word to begin.
    #[signal]
    fn cue(&mut self, word: String) {
        self.cue = Some(word);
    }
}
