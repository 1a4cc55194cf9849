//! Calls that come together in batches, a few at a time.

use partitura::{Cx, join_all};

use super::entry::{Entry, entry};
use super::expected::{Expected, Outcome};
use super::performing::{Piece, piece};
use super::upset::Upset;
use crate::random::Random;
use crate::service::{Call, PlayerStub};

pub(super) const WORKFLOWS: &[Entry] = &[entry::<Chorus>()];

/// Calls of a method that takes many at once, all of them awaited.
#[derive(Debug, Default)]
struct Chorus;

#[partitura::workflow]
impl Chorus {
    #[run]
    async fn run(cx: Cx<Self>, calls: Vec<Call>) -> Result<Vec<Result<String, Upset>>, Upset> {
        let player = cx.service::<PlayerStub>();
        let sung = join_all(calls.into_iter().map(|call| player.join_in(call))).await;
        Ok(sung.into_iter().map(|answer| answer.map_err(Upset::from)).collect())
    }
}

pub(super) fn chorus(random: &mut Random, id: String, begin: u64) -> Piece {
    // A panic would be one of all that are together.
    let calm = |call: Call| Call { panics: false, ..call };
    let calls: Vec<Call> = Call::draw_some(random, 9).into_iter().map(calm).collect();
    let input = calls.clone();
    piece::<Chorus>(id, begin, input, Vec::new(), move |_| {
        let called = calls.iter().map(|call| format!("join_in({})", call.name)).collect();
        Expected::new(Outcome::ok(&calls.iter().map(Call::answer).collect::<Vec<_>>()), called)
    })
}
