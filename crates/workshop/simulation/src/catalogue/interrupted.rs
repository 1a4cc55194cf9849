//! Workflows that are interrupted, and their compensations.

use partitura::history::{Event, EventKind};
use partitura::{Cx, Workflow};

use super::entry::{Entry, entry};
use super::expected::{Expected, Outcome, REASON, call};
use super::performing::{Act, Piece, piece};
use super::solos::firsts;
use super::upset::Upset;
use crate::random::Random;
use crate::service::{Call, PlayerStub};

pub(super) const WORKFLOWS: &[Entry] = &[entry::<Journey>(), entry::<Cascade>().starts(&[Journey::NAME])];

/// Tasks that are undone, newest first, if one of them fails; then, perhaps, waiting for ever.
#[derive(Debug, Default)]
pub(super) struct Journey;

#[partitura::workflow]
impl Journey {
    #[run]
    async fn run(cx: Cx<Self>, (calls, waits): (Vec<Call>, bool)) -> Result<usize, Upset> {
        let player = cx.service::<PlayerStub>();
        let mut saga = cx.saga();
        let count = calls.len();
        for call in calls {
            let name = call.name.clone();
            player.play(call).await?;
            saga.on_failure(player.undo(name));
        }
        if waits {
            cx.channel::<()>("never").recv().await.map_err(|_| Upset::Cancelled)?;
        }
        Ok(count)
    }
}

/// The calls of a journey that made `played` calls, of which `done` succeeded.
fn there_and_back(calls: &[Call], tried: usize, done: usize) -> Vec<String> {
    let undone = calls[..done].iter().rev().map(|call| format!("undo({})", call.name));
    calls[..tried].iter().map(Call::played).chain(undone).collect()
}

pub(super) fn saga(random: &mut Random, id: String, begin: u64) -> Piece {
    let calls = Call::draw_some(random, 5);
    let input = (calls.clone(), false);
    piece::<Journey>(id, begin, input, Vec::new(), move |_| {
        match calls.iter().enumerate().find_map(|(at, call)| Some((at, call.answer().err()?))) {
            None => {
                let played = there_and_back(&calls, calls.len(), 0);
                Expected::new(Outcome::ok(&calls.len()), played)
            }
            Some((at, upset)) => Expected::new(Outcome::err(&upset), there_and_back(&calls, at + 1, at)),
        }
    })
}

/// A journey that is cancelled at a random moment.
pub(super) fn cancelled(random: &mut Random, id: String, begin: u64) -> Piece {
    let mut calls = Call::draw_some(random, 4);
    // Only the cancellation may end it.
    calls.iter_mut().for_each(|call| (call.fails, call.refused) = (call.fails % 3, false));
    let input = (calls.clone(), true);
    let acts = vec![Act::Cancel(random.pick(&[0, 10, 400, 3_000]))];
    piece::<Journey>(id, begin, input, acts, move |history| {
        let cancelled = |event: &Event| matches!(event.kind, EventKind::CancelRequested { .. });
        let before = &history[..history.iter().position(cancelled).unwrap_or(history.len())];
        let done = firsts(before).filter(|event| matches!(event.kind, EventKind::TaskCompleted { .. })).count();
        let stopped =
            |event: &Event| matches!(event.kind, EventKind::WorkflowStopped { .. } | EventKind::WorkflowPaused { .. });
        // A journey that goes on is told of the cancellation after its first steps.
        let looked_at = if before.iter().any(stopped) { history } else { before };
        let played = |event: &&Event| call(&event.kind).is_some_and(|call| call.starts_with("play"));
        let tried = looked_at.iter().filter(played).count();
        let calls = there_and_back(&calls, tried.min(calls.len()), done.min(calls.len()));
        Expected::new(Outcome::Cancelled(REASON.to_owned()), calls)
    })
}

/// A journey that is ended from outside: nothing is undone.
pub(super) fn terminated(random: &mut Random, id: String, begin: u64) -> Piece {
    let mut calls = Call::draw_some(random, 4);
    calls.iter_mut().for_each(|call| (call.fails, call.refused) = (call.fails % 3, false));
    let input = (calls.clone(), true);
    let acts = vec![Act::Terminate(random.pick(&[0, 10, 400, 3_000]))];
    piece::<Journey>(id, begin, input, acts, move |history| {
        let tried = history.iter().filter(|event| matches!(event.kind, EventKind::TaskScheduled { .. })).count();
        let calls = there_and_back(&calls, tried.min(calls.len()), 0);
        Expected::new(Outcome::Other(REASON.to_owned()), calls)
    })
}

/// Waits for a child that waits for ever.
#[derive(Debug, Default)]
struct Cascade;

#[partitura::workflow]
impl Cascade {
    #[run]
    async fn run(cx: Cx<Self>, calls: Vec<Call>) -> Result<usize, Upset> {
        let child = cx.child::<Journey>(format!("{}-child", cx.id())).run((calls, true));
        child.await.map_err(|_| Upset::Cancelled)
    }
}

pub(super) fn cascade(random: &mut Random, id: String, begin: u64) -> Piece {
    let mut calls = Call::draw_some(random, 2);
    calls.iter_mut().for_each(|call| (call.fails, call.refused) = (0, false));
    let acts = vec![Act::Cancel(random.pick(&[0, 10, 400, 3_000]))];
    piece::<Cascade>(id, begin, calls, acts, |_| Expected::new(Outcome::Cancelled(REASON.to_owned()), Vec::new()))
}
