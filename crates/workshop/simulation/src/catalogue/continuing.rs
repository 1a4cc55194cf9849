//! A workflow that goes on in one run after another.

use partitura::{Cx, Signal};

use super::entry::{Entry, entry};
use super::expected::{Expected, Outcome};
use super::performing::{Act, Piece, piece};
use super::upset::Upset;
use crate::random::Random;
use crate::service::{Call, PlayerStub};

pub(super) const WORKFLOWS: &[Entry] = &[entry::<Rounds>()];

/// Plays one call and takes one signal in each run. Signals that come too early go along.
#[derive(Debug, Default)]
struct Rounds;

#[partitura::workflow]
impl Rounds {
    #[run]
    async fn run(cx: Cx<Self>, (calls, heard): (Vec<Call>, Vec<u64>)) -> Result<Vec<u64>, Upset> {
        let mut heard = heard;
        if let Some(call) = calls.get(heard.len()) {
            let _ = cx.service::<PlayerStub>().play(call.clone()).await;
        }
        let note = cx.channel::<u64>("notes").recv().await.map_err(|error| Upset::Other(error.to_string()))?;
        heard.push(note);
        if heard.len() == calls.len() {
            return Ok(heard);
        }
        cx.continue_as_new((calls, heard)).await
    }
}

pub(super) fn rounds(random: &mut Random, id: String, begin: u64) -> Piece {
    let calls = Call::draw_some(random, 5);
    let notes: Vec<u64> = (0..calls.len() as u64).collect();
    let acts = notes.iter().copied().map(|note| {
        let after = random.pick(&[0, 0, 5, 400, 3_000]);
        Act::Signal(after, Box::new(move || Signal::to_channel("notes", &note)))
    });
    let acts = acts.collect();
    let played: Vec<String> = calls.iter().map(Call::played).collect();
    piece::<Rounds>(id, begin, (calls, Vec::new()), acts, move |_| Expected::new(Outcome::ok(&notes), played.clone()))
}
