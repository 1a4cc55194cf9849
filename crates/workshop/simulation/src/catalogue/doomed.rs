//! A turn that ends its process, each time, until somebody mends that and resumes the instance.

use std::cell::RefCell;
use std::pin::pin;

use futures::FutureExt;
use futures::future::poll_fn;
use partitura::{Cx, Layer, Next, TurnCall, TurnResult};

use super::entry::{Entry, entry};
use super::performing::{Piece, piece};
use super::solos::expected_in_sequence;
use super::upset::Upset;
use crate::process::Process;
use crate::random::Random;
use crate::service::{Call, PlayerStub};

pub(super) const WORKFLOWS: &[Entry] = &[entry::<Doomed>()];

thread_local! {
    /// The process that takes the current turn. A world has a thread of its own.
    static PROCESS: RefCell<Option<Process>> = const { RefCell::new(None) };
}

/// Tells the code of workflows in which process it runs.
pub(crate) struct InProcess(pub(crate) Process);

impl Layer for InProcess {
    async fn turn(&self, _turn: &TurnCall<'_>, next: Next<'_, TurnResult>) -> TurnResult {
        let mut next = pin!(next);
        poll_fn(|context| {
            PROCESS.set(Some(self.0.clone()));
            let polled = next.poll_unpin(context);
            PROCESS.set(None);
            polled
        })
        .await
    }
}

/// Tasks, until one fails. The turn with the result of the first one ends its process.
#[derive(Debug, Default)]
struct Doomed;

#[partitura::workflow]
impl Doomed {
    #[run]
    async fn run(cx: Cx<Self>, calls: Vec<Call>) -> Result<Vec<String>, Upset> {
        let player = cx.service::<PlayerStub>();
        let mut played = Vec::new();
        for call in calls {
            let answer = player.play(call).await;
            if played.is_empty() {
                PROCESS.with_borrow(|process| process.iter().for_each(Process::ends_by_its_turn));
            }
            played.push(answer?);
        }
        Ok(played)
    }
}

pub(super) fn doomed(random: &mut Random, id: String, begin: u64) -> Piece {
    let calls = Call::draw_some(random, 3);
    let input = calls.clone();
    piece::<Doomed>(id, begin, input, Vec::new(), move |_| expected_in_sequence(&calls))
}
