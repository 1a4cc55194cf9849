//! Workflows that do one thing after another.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;

use partitura::history::{Event, EventKind};
use partitura::{Cx, millis};

use super::entry::{Entry, entry};
use super::expected::{Expected, Outcome};
use super::performing::{Piece, piece};
use super::upset::Upset;
use crate::random::Random;
use crate::service::{Call, PlayerStub};
use crate::world::World;

pub(super) const WORKFLOWS: &[Entry] = &[entry::<Sequence>(), entry::<Steps>(), entry::<Timers>()];

/// Tasks, until one fails.
#[derive(Debug, Default)]
pub(super) struct Sequence;

#[partitura::workflow]
impl Sequence {
    #[run]
    async fn run(cx: Cx<Self>, calls: Vec<Call>) -> Result<Vec<String>, Upset> {
        let player = cx.service::<PlayerStub>();
        let mut played = Vec::new();
        for call in calls {
            played.push(player.play(call).await?);
        }
        Ok(played)
    }
}

/// The model of [`Sequence`].
pub(super) fn in_sequence(calls: &[Call]) -> (Result<Vec<String>, Upset>, Vec<String>) {
    let answers: Result<Vec<_>, _> = calls.iter().map(Call::answer).collect();
    let tried = calls.iter().position(|call| call.answer().is_err()).map_or(calls.len(), |failed| failed + 1);
    (answers, calls[..tried].iter().map(Call::played).collect())
}

pub(super) fn sequence(random: &mut Random, id: String, begin: u64) -> Piece {
    sequence_of(Call::draw_some(random, 5), id, begin)
}

/// One of the tasks ends its process.
pub(super) fn fatal_sequence(random: &mut Random, id: String, begin: u64) -> Piece {
    sequence_of(Call::draw_with_killer(random, 4), id, begin)
}

fn sequence_of(calls: Vec<Call>, id: String, begin: u64) -> Piece {
    let input = calls.clone();
    piece::<Sequence>(id, begin, input, Vec::new(), move |_| expected_in_sequence(&calls))
}

pub(super) fn expected_in_sequence(calls: &[Call]) -> Expected {
    let (answers, calls) = in_sequence(calls);
    let outcome = match answers {
        Ok(played) => Outcome::ok(&played),
        Err(upset) => Outcome::err(&upset),
    };
    Expected::new(outcome, calls)
}

thread_local! {
    /// The value that steps read: it changes with every read. A world has a thread of its own.
    static GAUGE: Cell<u64> = const { Cell::new(0) };
    /// The world that notes the calls of steps.
    static WORLD: RefCell<Option<World>> = const { RefCell::new(None) };
}

/// Resets it, so that every world begins with the same value.
pub(crate) fn set_gauge(world: Option<World>) {
    GAUGE.set(0);
    WORLD.set(world);
}

/// Notes the run of a step.
pub(super) fn looks(run: &str, number: usize) {
    WORLD.with_borrow(|world| {
        if let Some(world) = world {
            world.lock().step_was_run(run, number);
        }
    });
}

/// Reads the outside value, and acts by the first one that it read.
#[derive(Debug, Default)]
pub(super) struct Steps;

#[partitura::workflow]
impl Steps {
    #[run]
    async fn run(cx: Cx<Self>, steps: Vec<u64>) -> Result<Vec<u64>, Upset> {
        let player = cx.service::<PlayerStub>();
        let mut seen = Vec::new();
        for takes in steps {
            let (run, number) = (cx.run_id().to_owned(), seen.len());
            let look = async move {
                looks(&run, number);
                tokio::time::sleep(millis(takes)).await;
                GAUGE.set(GAUGE.get() + 1);
                Ok::<u64, String>(GAUGE.get())
            };
            let gauge = cx.step("look", look).await.map_err(|error| Upset::Other(error.to_string()))?;
            let call =
                Call { name: gauge.to_string(), fails: 0, panics: false, refused: false, millis: 0, kills: false };
            player.play(call).await?;
            seen.push(gauge);
        }
        Ok(seen)
    }
}

pub(super) fn steps(random: &mut Random, id: String, begin: u64) -> Piece {
    let steps: Vec<u64> = (0..random.between(1, 3)).map(|_| random.pick(&[0, 20, 1_500])).collect();
    piece::<Steps>(id, begin, steps, Vec::new(), |history| {
        let look = |event: &Event| match &event.kind {
            EventKind::StepCompleted { result, .. } => result.decode::<u64>().ok(),
            _ => None,
        };
        let seen: Vec<u64> = firsts(history).filter_map(look).collect();
        let calls = seen.iter().map(|gauge| format!("play({gauge})")).collect();
        Expected::new(Outcome::ok(&seen), calls)
    })
}

/// Removes copies of inputs: inputs that came while the code could not go on are kept as they came.
pub(super) fn firsts(history: &[Event]) -> impl Iterator<Item = &Event> {
    let mut seen = BTreeSet::new();
    history.iter().filter(move |event| match event.kind.seq().filter(|_| event.kind.is_input()) {
        Some(seq) => seen.insert(seq),
        None => true,
    })
}

/// Sleeps, and looks at the clock.
#[derive(Debug, Default)]
pub(super) struct Timers;

#[partitura::workflow]
impl Timers {
    #[run]
    async fn run(cx: Cx<Self>, naps: Vec<u64>) -> Result<Vec<bool>, Upset> {
        let mut long_enough = Vec::new();
        for nap in naps {
            let before = cx.now().as_millisecond();
            cx.sleep(millis(nap)).await?;
            long_enough.push(cx.now().as_millisecond() >= before + nap as i64);
        }
        Ok(long_enough)
    }
}

pub(super) fn timers(random: &mut Random, id: String, begin: u64) -> Piece {
    let naps: Vec<u64> = (0..random.between(1, 4)).map(|_| random.pick(&[0, 1, 40, 900, 6_000])).collect();
    let input = naps.clone();
    piece::<Timers>(id, begin, input, Vec::new(), move |history| {
        // This uses the clocks of the nodes, and each may jump. The audit checks that no timer is early by the broker's
        // clock.
        let started = |event: &Event| matches!(event.kind, EventKind::TimerStarted { .. }).then_some(event.at);
        let fired = |event: &Event| matches!(event.kind, EventKind::TimerFired { .. }).then_some(event.at);
        let times = history.iter().filter_map(started).zip(firsts(history).filter_map(fired));
        let long_enough: Vec<bool> = times.zip(&naps).map(|((from, to), nap)| to >= from + nap).collect();
        Expected::new(Outcome::ok(&long_enough), Vec::new())
    })
}
