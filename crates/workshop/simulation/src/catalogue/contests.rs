//! Several clients that start the same id at once, each in its way.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use partitura::history::{Event, EventKind};
use partitura::{Client, ClientError, StartPolicy, Workflow};

use super::changed::{Fixed, Score, in_one_tune};
use super::expected::{Expected, Outcome};
use super::operating::operated;
use super::performing::{Answered, Part, Performance, Piece, Verdict, outcome, pause};
use super::solos::{Sequence, in_sequence};
use crate::random::Random;
use crate::service::Call;
use crate::world::World;

/// A workflow that ends soon.
pub(super) fn sequences(random: &mut Random, id: String, _: u64) -> Piece {
    let calls = Call::draw_some(random, 3);
    let input = move |by: &str| calls.iter().map(|call| marked(call, by)).collect();
    contest::<Sequence>(random, id, input, |history| {
        let (answers, calls) = in_sequence(&input_of::<Vec<Call>>(history));
        let outcome = answers.map_or_else(|upset| Outcome::err(&upset), |played| Outcome::ok(&played));
        Expected::new(outcome, calls)
    })
}

/// A workflow that may be stopped.
pub(super) fn changes(random: &mut Random, id: String, _: u64) -> Piece {
    let score = Score::draw(random);
    let input = move |by: &str| score.map(|call| marked(call, by));
    contest::<Fixed>(random, id, input, |history| {
        let (played, calls) = in_one_tune(&input_of::<Score>(history), history);
        Expected::new(Outcome::ok(&played), calls)
    })
}

/// A call that names its owner.
fn marked(call: &Call, by: &str) -> Call {
    Call { name: format!("{}-{by}", call.name), ..call.clone() }
}

fn input_of<T: serde::de::DeserializeOwned + Default>(history: &[Event]) -> T {
    let Some(EventKind::WorkflowStarted(started)) = history.first().map(|event| &event.kind) else {
        return T::default();
    };
    started.input.decode().unwrap_or_default()
}

/// Each client starts until it has an answer, with another input and tag each time. Then it may wait for the result.
fn contest<W: Workflow>(
    random: &mut Random,
    id: String,
    input: impl Fn(&str) -> W::Input + Send + Sync + 'static,
    model: impl Fn(&[Event]) -> Expected + Send + Sync + 'static,
) -> Piece {
    let policies: &[StartPolicy] = match random.below(4) {
        0 => &[StartPolicy::UseExisting],
        1 => &[StartPolicy::Reject],
        2 => &[StartPolicy::Replace],
        _ => &[StartPolicy::UseExisting, StartPolicy::Reject, StartPolicy::Replace],
    };
    let input = Arc::new(input);
    let parts = (0..random.between(2, 3)).map(|number| {
        let (policy, begin) = (random.pick(policies), random.pick(&[0, 0, 0, 5, 300, 2_000, 9_000]));
        let (id, input, tries) = (id.clone(), input.clone(), Arc::new(AtomicU64::new(0)));
        let perform = move |client: Client, world: World| -> Performance {
            let (id, input, tries) = (id.clone(), input.clone(), tries.clone());
            Box::pin(async move {
                pause(begin).await;
                let handle = client.workflow::<W>(id.clone());
                let verdict = loop {
                    let by = format!("{number}.{}", tries.fetch_add(1, Ordering::Relaxed));
                    match handle.start(input(&by)).policy(policy).tag(by).await {
                        Ok(()) => break Verdict::Accepted,
                        Err(ClientError::AlreadyExists { run, .. }) => break Verdict::Exists(run),
                        Err(error) => world.lock().note("client", format_args!("starts {id} again: {error}")),
                    }
                    pause(100).await;
                };
                Ok(Answered { verdict, outcome: outcome(&handle, &world).await? })
            })
        };
        Part { perform: Box::new(perform), policy, may_crash: true }
    });
    let parts = parts.collect();
    let operate = operated::<W>(id.clone());
    Piece { id, workflow: W::NAME, model: Arc::new(model), operate, parts }
}
