//! A workflow that fails and is tried again.

use partitura::{Cx, Retry, Signal, millis};

use super::entry::{Entry, entry};
use super::expected::{Expected, Outcome};
use super::performing::{Act, Piece, piece};
use super::upset::Upset;
use crate::random::Random;
use crate::service::{Call, PlayerStub};

pub(super) const WORKFLOWS: &[Entry] = &[entry::<Encore>()];

/// Plays one call and takes one signal in each attempt. All but the last fail. Signals that come too early go along.
#[derive(Debug, Default)]
struct Encore;

#[partitura::workflow(
    retry = Retry::exponential().initial(millis(20)).max_interval(millis(3_000)).max_attempts(8),
    retry_if = |upset| *upset == Upset::Busy,
)]
impl Encore {
    #[run]
    async fn run(cx: Cx<Self>, (calls, is_refused): (Vec<Call>, bool)) -> Result<u64, Upset> {
        let attempt = cx.attempt() as usize;
        if let Some(call) = calls.get(attempt - 1) {
            let _ = cx.service::<PlayerStub>().play(call.clone()).await;
        }
        let note = cx.channel::<u64>("notes").recv().await.map_err(|error| Upset::Other(error.to_string()))?;
        match attempt == calls.len() {
            false => Err(Upset::Busy),
            true if is_refused => Err(Upset::Refused("the last one".to_owned())),
            true => Ok(note),
        }
    }
}

pub(super) fn encore(random: &mut Random, id: String, begin: u64) -> Piece {
    let (calls, is_refused) = (Call::draw_some(random, 5), random.chance(200));
    let notes: Vec<u64> = (0..calls.len() as u64).collect();
    let acts = notes.iter().copied().map(|note| {
        let after = random.pick(&[0, 0, 5, 400, 3_000]);
        Act::Signal(after, Box::new(move || Signal::to_channel("notes", &note)))
    });
    let acts = acts.collect();
    let played: Vec<String> = calls.iter().map(Call::played).collect();
    let last = notes.len() as u64 - 1;
    piece::<Encore>(id, begin, (calls, is_refused), acts, move |_| {
        let outcome = match is_refused {
            true => Outcome::err(&Upset::Refused("the last one".to_owned())),
            false => Outcome::ok(&last),
        };
        Expected::new(outcome, played.clone())
    })
}
