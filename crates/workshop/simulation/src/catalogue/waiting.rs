//! Workflows that wait for signals.

use partitura::{Cx, Signal};

use super::entry::{Entry, entry};
use super::expected::{Expected, Outcome};
use super::performing::{Act, Piece, piece};
use super::upset::Upset;
use crate::random::Random;
use crate::service::{Call, PlayerStub};

pub(super) const WORKFLOWS: &[Entry] = &[entry::<Collected>(), entry::<Counted>(), entry::<Served>()];

/// Takes signals from a channel; some of them come before it waits.
#[derive(Debug, Default)]
struct Collected;

#[partitura::workflow]
impl Collected {
    #[run]
    async fn run(cx: Cx<Self>, (call, count): (Call, usize)) -> Result<Vec<u64>, Upset> {
        let _ = cx.service::<PlayerStub>().play(call).await;
        let notes = cx.channel::<u64>("notes");
        let mut heard = Vec::new();
        while heard.len() < count {
            heard.push(notes.recv().await.map_err(|error| Upset::Other(error.to_string()))?);
        }
        Ok(heard)
    }
}

pub(super) fn collected(random: &mut Random, id: String, begin: u64) -> Piece {
    let (call, count) = (Call::draw(random, 0), random.between(1, 5));
    let acts = (0..count)
        .map(|note| {
            let after = random.pick(&[0, 0, 5, 400, 3_000]);
            Act::Signal(after, Box::new(move || Signal::to_channel("notes", &note)))
        })
        .collect();
    let input = (call.clone(), count as usize);
    piece::<Collected>(id, begin, input, acts, move |_| {
        Expected::new(Outcome::ok(&(0..count).collect::<Vec<_>>()), vec![call.played()])
    })
}

/// Waits for its state to be changed by signals.
#[derive(Debug, Default)]
pub(super) struct Counted {
    total: u64,
    signals: u64,
}

#[partitura::workflow]
impl Counted {
    #[run]
    async fn run(cx: Cx<Self>, enough: u64) -> Result<u64, Upset> {
        cx.until(move |counted: &Counted| counted.signals >= enough).await?;
        Ok(cx.state(|counted| counted.total))
    }

    #[signal]
    fn add(&mut self, number: u64) {
        self.total += number;
        self.signals += 1;
    }
}

/// Its signals play a call each before they count.
#[derive(Debug, Default)]
struct Served {
    played: Vec<u64>,
}

#[partitura::workflow]
impl Served {
    #[run]
    async fn run(cx: Cx<Self>, enough: usize) -> Result<Vec<u64>, Upset> {
        cx.until(move |served: &Served| served.played.len() >= enough).await?;
        cx.handlers_ended().await?;
        let mut played = cx.state(|served| served.played.clone());
        played.sort_unstable();
        Ok(played)
    }

    #[signal]
    async fn play(cx: Cx<Self>, number: u64, call: Call) {
        let _ = cx.service::<PlayerStub>().play(call).await;
        cx.state(|served| served.played.push(number));
    }
}

/// Handlers of signals that wait for calls, several at once.
fn served(random: &mut Random, id: String, begin: u64) -> Piece {
    let calls = Call::draw_some(random, 4);
    let (enough, played) = (calls.len(), calls.iter().map(Call::played).collect::<Vec<_>>());
    let numbers: Vec<u64> = (0..enough as u64).collect();
    let acts = calls
        .into_iter()
        .zip(numbers.clone())
        .map(|(call, number)| {
            let after = random.pick(&[0, 0, 5, 400, 3_000]);
            Act::Signal(after, Box::new(move || ServedSignal::play(number, call.clone())))
        })
        .collect();
    piece::<Served>(id, begin, enough, acts, move |_| Expected::new(Outcome::ok(&numbers), played.clone()))
}

pub(super) fn counted(random: &mut Random, id: String, begin: u64) -> Piece {
    if random.coin() {
        return served(random, id, begin);
    }
    let numbers: Vec<u64> = (0..random.between(1, 5)).map(|_| random.between(1, 99)).collect();
    let total: u64 = numbers.iter().sum();
    let enough = numbers.len() as u64;
    let acts = numbers
        .into_iter()
        .map(|number| {
            let after = random.pick(&[0, 0, 5, 400, 3_000]);
            Act::Signal(after, Box::new(move || CountedSignal::add(number)))
        })
        .collect();
    piece::<Counted>(id, begin, enough, acts, move |_| Expected::new(Outcome::ok(&total), Vec::new()))
}
