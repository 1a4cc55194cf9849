//! A workflow that answers queries while it runs.

use std::sync::Arc;

use partitura::history::{Event, EventKind};
use partitura::{Client, ClientError, Cx, StartPolicy, Workflow, WorkflowHandle};

use super::deleted::is_deleted;
use super::entry::{Entry, entry};
use super::expected::{Expected, Outcome};
use super::operating::operated;
use super::performing::{Answered, Part, Performance, Piece, Verdict, outcome, pause};
use super::upset::Upset;
use crate::random::Random;
use crate::service::{Call, PlayerStub};
use crate::world::World;

pub(super) const WORKFLOWS: &[Entry] = &[entry::<Ledger>()];

/// Records numbers, each once also if it comes again, until there are enough.
#[derive(Debug, Default)]
struct Ledger {
    entries: Vec<u64>,
}

#[partitura::workflow]
impl Ledger {
    #[run]
    async fn run(cx: Cx<Self>, (enough, call): (usize, Call)) -> Result<Vec<u64>, Upset> {
        cx.until(move |ledger: &Ledger| ledger.entries.len() >= enough).await?;
        let _ = cx.service::<PlayerStub>().play(call).await;
        Ok(cx.state(|ledger| ledger.entries.clone()))
    }

    #[signal]
    fn enter(&mut self, number: u64) {
        if !self.entries.contains(&number) {
            self.entries.push(number);
        }
    }

    #[query]
    fn entries(&self) -> Vec<u64> {
        self.entries.clone()
    }
}

/// The numbers that a history has recorded.
fn entered<'a>(history: impl IntoIterator<Item = &'a Event>) -> Vec<u64> {
    let mut ledger = Ledger::default();
    for event in history {
        if let EventKind::SignalReceived { name, payload, .. } = &event.kind {
            let _ = ledger.signal(name, payload);
        }
    }
    ledger.entries
}

/// One client that sends numbers, and queries now and then. It may crash. Then it sends all numbers again, from the
/// first one that was not confirmed.
pub(super) fn ledger(random: &mut Random, id: String, begin: u64) -> Piece {
    let (call, count) = (Call::draw(random, 0), random.between(1, 5));
    let pauses: Vec<u64> = (0..count).map(|_| random.pick(&[0, 0, 5, 400, 3_000])).collect();
    let looks: Vec<bool> = (0..count).map(|_| random.coin()).collect();
    let (name, input, plan) = (id.clone(), (count as usize, call.clone()), Arc::new((pauses, looks)));
    let perform = move |client: Client, world: World| -> Performance {
        let (name, input, plan) = (name.clone(), input.clone(), plan.clone());
        Box::pin(async move {
            pause(begin).await;
            let handle = client.workflow::<Ledger>(name);
            while handle.start(input.clone()).await.is_err() {
                pause(100).await;
            }
            for (number, (rest, looks)) in (1..).zip(plan.0.iter().zip(&plan.1)) {
                if *looks {
                    look(&handle, &world, number - 1).await?;
                }
                pause(*rest).await;
                let sent = handle.signal(LedgerSignal::enter(number)).await;
                sent.map_err(|error| format!("the client gave up on {}: {error}", handle.id()))?;
            }
            look(&handle, &world, count).await?;
            Ok(Answered { verdict: Verdict::Accepted, outcome: outcome(&handle, &world).await? })
        })
    };
    let part = Part { perform: Box::new(perform), policy: StartPolicy::UseExisting, may_crash: true };
    let model = move |history: &[Event]| {
        let asked = |event: &&Event| matches!(&event.kind, EventKind::SignalReceived { name, .. } if name != "enter");
        let outcome = match history.iter().find(asked) {
            Some(event) => Outcome::Other(format!("a question that is in its history: {event}")),
            None => Outcome::ok(&(1..=count).collect::<Vec<_>>()),
        };
        Expected::new(outcome, vec![call.played()])
    };
    let operate = operated::<Ledger>(id.clone());
    Piece { id, workflow: Ledger::NAME, model: Arc::new(model), operate, parts: vec![part] }
}

/// Queries the entries: all that were confirmed before must be there, and none that is not committed.
async fn look(handle: &WorkflowHandle<Ledger>, world: &World, confirmed: u64) -> Result<(), String> {
    let in_chaos = world.lock().chaos;
    let answer = match handle.query(LedgerQuery::entries()).await {
        Ok(answer) => answer,
        // It has ended.
        Err(ClientError::Refused(_)) => return Ok(()),
        _ if is_deleted(world, handle) => return Ok(()),
        // A query or its answer may be lost.
        Err(error @ (ClientError::NoAnswer { .. } | ClientError::Broker(_))) if in_chaos => {
            world.lock().note("client", format_args!("has no answer: {error}"));
            return Ok(());
        }
        Err(error) => return Err(format!("{} was asked: {error}", handle.id())),
    };
    if is_deleted(world, handle) {
        return Ok(());
    }
    let history = world.lock().history(Ledger::NAME, handle.id());
    let committed = entered(&history);
    // An instance that an operator has ended answers with its last state.
    let has_ended = history.last().is_some_and(|event| event.kind.is_end());
    if committed.starts_with(&answer) && (has_ended || answer.len() as u64 >= confirmed) {
        return Ok(());
    }
    Err(format!("{} answers {answer:?}; {confirmed} were confirmed, committed are {committed:?}", handle.id()))
}
