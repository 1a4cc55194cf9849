//! Code that changes under running instances, with workers of all its generations alive at once.

use partitura::history::{Definition, Event, EventKind};
use partitura::{Cx, Worker, Workflow};
use serde::{Deserialize, Serialize};

use super::entry::{Entry, entry};
use super::expected::{Expected, Outcome, REASON};
use super::interrupted::Journey;
use super::performing::{Act, Piece, piece};
use super::upset::Upset;
use crate::plan::Generation;
use crate::random::Random;
use crate::service::{Call, PlayerStub};

pub(super) const WORKFLOWS: &[Entry] = &[
    Entry {
        name: Fixed::NAME,
        definition: Definition::for_workflow::<Fixed>,
        register: conduct,
        children: &[Journey::NAME],
    },
    entry::<Patron>().starts(&[Fixed::NAME]),
];

fn conduct(worker: Worker, generation: Generation) -> Worker {
    match generation {
        Generation::Old => worker.workflow::<Old>(),
        Generation::Hasty => worker.workflow::<Hasty>(),
        Generation::Fixed => worker.workflow::<Fixed>(),
    }
}

/// The input of a [`Fixed`], or an earlier generation of it.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct Score {
    calls: Vec<Call>,
    /// The old code panics after this call.
    flaw: Option<usize>,
    /// Begins with a child that waits for ever.
    child: bool,
    /// Waits for ever at the end.
    waits: bool,
}

impl Score {
    pub(super) fn draw(random: &mut Random) -> Self {
        let mut calls = Call::draw_some(random, 4);
        calls.iter_mut().for_each(|call| (call.fails, call.refused) = (call.fails % 3, false));
        let flaw = random.coin().then(|| random.below(calls.len() as u64) as usize);
        Self { calls, flaw, child: false, waits: false }
    }

    /// The same, each call changed.
    pub(super) fn map(&self, change: impl Fn(&Call) -> Call) -> Self {
        Self { calls: self.calls.iter().map(change).collect(), ..self.clone() }
    }
}

/// The message of the old code's panic.
const FLAW: &str = "the score has a flaw";

/// Returns a call in the form of this version of the change.
fn tuned(call: &Call, version: u32) -> Call {
    let name = format!("{}{}", call.name, if version == 1 { "" } else { "#" });
    Call { name, ..call.clone() }
}

/// The code of all generations. Each call passes by the change.
async fn play<W: Send + 'static>(cx: Cx<W>, score: Score, generation: Generation) -> Result<Vec<String>, Upset> {
    let player = cx.service::<PlayerStub>();
    let _child = score.child.then(|| cx.child::<Journey>(format!("{}-child", cx.id())).start((Vec::new(), true)));
    let mut played = Vec::new();
    for (number, call) in score.calls.iter().enumerate() {
        player.play(call.clone()).await?;
        let version = match generation {
            Generation::Old => 1,
            Generation::Hasty => cx.version("tuning", 2..=2),
            Generation::Fixed => cx.version("tuning", 1..=2),
        };
        if generation == Generation::Old && score.flaw == Some(number) {
            // Panics without calling the panic hook.
            std::panic::resume_unwind(Box::new(FLAW));
        }
        played.push(player.play(tuned(call, version)).await?);
    }
    if score.waits {
        cx.channel::<()>("never").recv().await.map_err(|_| Upset::Cancelled)?;
    }
    Ok(played)
}

#[derive(Debug, Default)]
struct Old;

#[partitura::workflow(name = "Changed")]
impl Old {
    #[run]
    async fn run(cx: Cx<Self>, score: Score) -> Result<Vec<String>, Upset> {
        play(cx, score, Generation::Old).await
    }
}

#[derive(Debug, Default)]
struct Hasty;

#[partitura::workflow(name = "Changed")]
impl Hasty {
    #[run]
    async fn run(cx: Cx<Self>, score: Score) -> Result<Vec<String>, Upset> {
        play(cx, score, Generation::Hasty).await
    }
}

#[derive(Debug, Default)]
pub(super) struct Fixed;

#[partitura::workflow(name = "Changed")]
impl Fixed {
    #[run]
    async fn run(cx: Cx<Self>, score: Score) -> Result<Vec<String>, Upset> {
        play(cx, score, Generation::Fixed).await
    }
}

/// The model: one branch from the first call to the last, chosen by the marker. Without a marker it is the branch of
/// the old code.
pub(super) fn in_one_tune(score: &Score, history: &[Event]) -> (Vec<String>, Vec<String>) {
    let marked = |event: &Event| match &event.kind {
        EventKind::VersionMarked { version, .. } => Some(*version),
        _ => None,
    };
    let version = history.iter().find_map(marked).unwrap_or(1);
    let tuned = score.calls.iter().map(|call| (call.played(), tuned(call, version)));
    let calls = tuned.flat_map(|(first, second)| [first, second.played()]).collect();
    let played = score.calls.iter().map(|call| format!("{}.", self::tuned(call, version).name)).collect();
    (played, calls)
}

/// An instance that stops if its worker's code does not fit, and goes on with code that does.
pub(super) fn change(random: &mut Random, id: String, begin: u64) -> Piece {
    let score = Score::draw(random);
    let input = score.clone();
    piece::<Fixed>(id, begin, input, Vec::new(), move |history| {
        let (played, calls) = in_one_tune(&score, history);
        Expected::new(Outcome::ok(&played), calls)
    })
}

/// An instance that is ended from outside, stopped or not; its child is told.
pub(super) fn abandoned(random: &mut Random, id: String, begin: u64) -> Piece {
    let score = Score { child: true, waits: true, ..Score::draw(random) };
    let acts = vec![Act::Terminate(random.pick(&[0, 400, 3_000, 12_000]))];
    let (input, name) = (score.clone(), id.clone());
    piece::<Fixed>(id, begin, input, acts, move |history| {
        let tried = history.iter().filter(|event| matches!(event.kind, EventKind::TaskScheduled { .. })).count();
        let mut calls = in_one_tune(&score, history).1;
        calls.truncate(tried);
        let expected = Expected::new(Outcome::Other(REASON.to_owned()), calls);
        let has_child = history.iter().any(|event| matches!(event.kind, EventKind::ChildStarted { .. }));
        if !has_child {
            return expected;
        }
        let reason = "its parent was cancelled or has ended".to_owned();
        expected.and::<Journey>(format!("{name}-child"), Outcome::Cancelled(reason))
    })
}

/// Waits for a child whose code changes.
#[derive(Debug, Default)]
struct Patron;

#[partitura::workflow]
impl Patron {
    #[run]
    async fn run(cx: Cx<Self>, score: Score) -> Result<usize, Upset> {
        let child = cx.child::<Fixed>(format!("{}-child", cx.id())).run(score);
        child.await.map(|played| played.len()).map_err(|error| Upset::Other(error.to_string()))
    }
}

pub(super) fn patron(random: &mut Random, id: String, begin: u64) -> Piece {
    let score = Score::draw(random);
    let input = score.clone();
    piece::<Patron>(id, begin, input, Vec::new(), move |_| Expected::new(Outcome::ok(&score.calls.len()), Vec::new()))
}
