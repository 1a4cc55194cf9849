//! Workflows that do several things at once.

use partitura::{Cx, TaskError, Workflow, join_all, millis, minutes, select};

use super::entry::{Entry, entry};
use super::expected::{Expected, Outcome, REASON};
use super::performing::{Act, Piece, piece};
use super::solos::{Sequence, in_sequence};
use super::upset::Upset;
use super::waiting::{Counted, CountedSignal};
use crate::random::Random;
use crate::service::{Call, PlayerStub};

pub(super) const WORKFLOWS: &[Entry] = &[
    entry::<Together>(),
    entry::<Race>(),
    entry::<Family>().starts(&[Sequence::NAME]),
    entry::<Duet>().starts(&[Counted::NAME]),
    entry::<Late>(),
    entry::<Herald>().starts(&[Sequence::NAME]),
];

/// Tasks at once, all of them awaited.
#[derive(Debug, Default)]
struct Together;

#[partitura::workflow]
impl Together {
    #[run]
    async fn run(cx: Cx<Self>, calls: Vec<Call>) -> Result<Vec<Result<String, Upset>>, Upset> {
        let player = cx.service::<PlayerStub>();
        let played = join_all(calls.into_iter().map(|call| player.play(call))).await;
        Ok(played.into_iter().map(|answer| answer.map_err(Upset::from)).collect())
    }
}

pub(super) fn together(random: &mut Random, id: String, begin: u64) -> Piece {
    together_of(Call::draw_some(random, 9), id, begin)
}

/// One of the tasks ends its process.
pub(super) fn fatal_together(random: &mut Random, id: String, begin: u64) -> Piece {
    together_of(Call::draw_with_killer(random, 8), id, begin)
}

fn together_of(calls: Vec<Call>, id: String, begin: u64) -> Piece {
    let input = calls.clone();
    piece::<Together>(id, begin, input, Vec::new(), move |_| {
        Expected::new(
            Outcome::ok(&calls.iter().map(Call::answer).collect::<Vec<_>>()),
            calls.iter().map(Call::played).collect(),
        )
    })
}

/// A task and a timer, of which one is far slower.
#[derive(Debug, Default)]
struct Race;

#[partitura::workflow]
impl Race {
    #[run]
    async fn run(cx: Cx<Self>, call: Option<Call>) -> Result<String, Upset> {
        let player = cx.service::<PlayerStub>();
        match call {
            Some(call) => select! {
                played = player.play(call) => Ok(played?),
                _ = cx.sleep(minutes(90)) => Ok("timer".to_owned()),
            },
            None => select! {
                _ = player.hold("race".to_owned()) => Ok("task".to_owned()),
                _ = cx.sleep(millis(700)) => Ok("timer".to_owned()),
            },
        }
    }
}

pub(super) fn race(random: &mut Random, id: String, begin: u64) -> Piece {
    let call = random.coin().then(|| Call::draw(random, 0));
    let input = call.clone();
    piece::<Race>(id, begin, input, Vec::new(), move |_| match &call {
        Some(call) => {
            let outcome = call.answer().map_or_else(|upset| Outcome::err(&upset), |played| Outcome::ok(&played));
            Expected::new(outcome, vec![call.played()])
        }
        None => Expected::new(Outcome::ok(&"timer"), vec!["hold(race)".to_owned()]),
    })
}

/// Children at once, of which some fail.
#[derive(Debug, Default)]
struct Family;

#[partitura::workflow]
impl Family {
    #[run]
    async fn run(cx: Cx<Self>, children: Vec<Vec<Call>>) -> Result<Vec<Result<usize, String>>, Upset> {
        let child = |(number, calls)| cx.child::<Sequence>(format!("{}-{number}", cx.id())).run(calls);
        let done = join_all(children.into_iter().enumerate().map(child)).await;
        Ok(done.into_iter().map(|played| played.map(|p| p.len()).map_err(|error| error.to_string())).collect())
    }
}

pub(super) fn family(random: &mut Random, id: String, begin: u64) -> Piece {
    let children: Vec<Vec<Call>> = (0..random.between(1, 3)).map(|_| Call::draw_some(random, 2)).collect();
    let input = children.clone();
    piece::<Family>(id, begin, input, Vec::new(), move |_| {
        let child = |calls: &Vec<Call>| in_sequence(calls).0.map(|p| p.len()).map_err(|upset| upset.to_string());
        Expected::new(Outcome::ok(&children.iter().map(child).collect::<Vec<_>>()), Vec::new())
    })
}

/// Makes calls, and signals each to a child: signals from one workflow to another.
#[derive(Debug, Default)]
struct Duet;

#[partitura::workflow]
impl Duet {
    #[run]
    async fn run(cx: Cx<Self>, calls: Vec<Call>) -> Result<u64, Upset> {
        let player = cx.service::<PlayerStub>();
        let id = format!("{}-second", cx.id());
        let second = cx.child::<Counted>(&id).start(calls.len() as u64);
        for (number, call) in (1..).zip(calls) {
            let _ = player.play(call).await;
            cx.signal(&id, CountedSignal::add(number))?;
        }
        second.await.map_err(|error| Upset::Other(error.to_string()))
    }
}

pub(super) fn duet(random: &mut Random, id: String, begin: u64) -> Piece {
    let calls = Call::draw_some(random, 4);
    let input = calls.clone();
    piece::<Duet>(id, begin, input, Vec::new(), move |_| {
        Expected::new(Outcome::ok(&(1..=calls.len() as u64).sum::<u64>()), calls.iter().map(Call::played).collect())
    })
}

/// Gives up on a task that takes too long.
#[derive(Debug, Default)]
struct Late;

#[partitura::workflow]
impl Late {
    #[run]
    async fn run(cx: Cx<Self>, limit: u64) -> Result<bool, Upset> {
        let held = cx.service::<PlayerStub>().hold("late".to_owned()).overall_timeout(millis(limit)).await;
        Ok(matches!(held, Err(TaskError::TimedOut)))
    }
}

pub(super) fn late(random: &mut Random, id: String, begin: u64) -> Piece {
    let limit = random.pick(&[1, 300, 4_000]);
    piece::<Late>(id, begin, limit, Vec::new(), |_| Expected::new(Outcome::ok(&true), vec!["hold(late)".to_owned()]))
}

/// Starts children and lets them go; then, perhaps, waits for ever.
#[derive(Debug, Default)]
struct Herald;

#[partitura::workflow]
impl Herald {
    #[run]
    async fn run(cx: Cx<Self>, (children, waits): (Vec<Vec<Call>>, bool)) -> Result<usize, Upset> {
        let count = children.len();
        for (number, calls) in children.into_iter().enumerate() {
            cx.child::<Sequence>(format!("{}-{number}", cx.id())).detach(calls)?;
        }
        if waits {
            cx.channel::<()>("never").recv().await.map_err(|_| Upset::Cancelled)?;
        }
        Ok(count)
    }
}

/// Neither its end nor its cancellation reaches the children.
pub(super) fn herald(random: &mut Random, id: String, begin: u64) -> Piece {
    let children: Vec<Vec<Call>> = (0..random.between(1, 3)).map(|_| Call::draw_some(random, 2)).collect();
    let waits = random.coin();
    let acts = if waits { vec![Act::Cancel(random.pick(&[0, 10, 400, 3_000]))] } else { Vec::new() };
    let input = (children.clone(), waits);
    let name = id.clone();
    piece::<Herald>(id, begin, input, acts, move |_| {
        let outcome = if waits { Outcome::Cancelled(REASON.to_owned()) } else { Outcome::ok(&children.len()) };
        let expected = Expected::new(outcome, Vec::new());
        children.iter().enumerate().fold(expected, |expected, (number, calls)| {
            let outcome = in_sequence(calls).0.map_or_else(|upset| Outcome::err(&upset), |played| Outcome::ok(&played));
            expected.and::<Sequence>(format!("{name}-{number}"), outcome)
        })
    })
}
