//! A task that a client completes later, sometimes twice, and sometimes by the token of an attempt that was given up.

use partitura::{Cx, Retry, millis};

use super::completing::Decision;
use super::entry::{Entry, entry};
use super::expected::{Expected, Outcome};
use super::performing::{Act, Piece, piece};
use super::upset::Upset;
use crate::random::Random;
use crate::service::{PlayerStub, Refusal};

pub(super) const WORKFLOWS: &[Entry] = &[entry::<Commission>()];

/// The time-out of an attempt where one is to be given up, in milliseconds.
const TIMEOUT: u64 = 6_000;

/// Awaits one task that others complete.
#[derive(Debug, Default)]
struct Commission;

#[partitura::workflow]
impl Commission {
    #[run]
    async fn run(cx: Cx<Self>, (name, late): (String, bool)) -> Result<String, Upset> {
        let mut task = cx.service::<PlayerStub>().commission(name);
        if late {
            task = task.timeout(millis(TIMEOUT)).retry(Retry::fixed(millis(50)));
        }
        Ok(task.await?)
    }
}

pub(super) fn commission(random: &mut Random, id: String, begin: u64) -> Piece {
    let (name, late, twice) = ("piece".to_owned(), random.chance(400), random.coin());
    let result = if random.chance(300) { Err(Refusal::No(name.clone())) } else { Ok(format!("{name}.")) };
    let outcome = match &result {
        Ok(played) => Outcome::ok(played),
        Err(_) => Outcome::err(&Upset::Refused(name.clone())),
    };
    let acts = vec![Act::Complete(random.pick(&[0, 5, 400, 3_000]), Decision { result, late, twice })];
    let called = vec![format!("commission({name})")];
    piece::<Commission>(id, begin, (name, late), acts, move |_| Expected::new(outcome.clone(), called.clone()))
}
