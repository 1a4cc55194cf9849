//! A workflow whose messages are about as large as the broker takes, on a broker that takes little.

use std::sync::Arc;

use partitura::history::{Event, EventKind};
use partitura::{Client, ClientError, Cx, FailureKind, StartPolicy, UpdateError, Workflow, WorkflowHandle};
use serde::{Deserialize, Serialize};

use super::deleted::is_deleted;
use super::entry::{Entry, entry};
use super::expected::{Expected, Outcome};
use super::operating::operated;
use super::performing::{Answered, Part, Performance, Piece, Verdict, outcome, pause};
use super::solos::{firsts, looks};
use super::upset::Upset;
use crate::plan::LITTLE;
use crate::random::Random;
use crate::service::{Parcel, PlayerStub};
use crate::world::World;

pub(super) const WORKFLOWS: &[Entry] = &[entry::<Laden>().starts(&[Echo::NAME]), entry::<Echo>()];

/// The largest number of bytes around a value in any message.
const ROOM: usize = 2_000;

/// Something that a laden workflow does.
#[derive(Debug, Clone, Serialize, Deserialize)]
enum Errand {
    Haul {
        number: usize,
        load: usize,
        answer: usize,
        progress: usize,
        error: Option<usize>,
    },
    /// A step with a result of this size.
    Make(usize),
    /// A child with an input and a result of these sizes.
    Send(usize, usize),
    /// A signal of this size, to itself.
    Tell(usize),
}

impl Errand {
    fn draw(random: &mut Random, number: usize) -> Self {
        match random.below(5) {
            0 => Self::Make(size(random)),
            1 => Self::Send(size(random), size(random)),
            2 => Self::Tell(size(random)),
            _ => Self::Haul {
                number,
                load: size(random),
                answer: size(random),
                progress: random.pick(&[0, 500, LITTLE - 300, 3 * LITTLE]),
                error: random.coin().then(|| random.pick(&[0, 500, 2 * LITTLE])),
            },
        }
    }

    /// The larger of what it sends and what it gets back.
    fn largest(&self) -> usize {
        match self {
            Self::Haul { load, answer, .. } => *load.max(answer),
            Self::Make(size) | Self::Tell(size) => *size,
            Self::Send(input, result) => *input.max(result),
        }
    }

    fn result(&self) -> usize {
        match self {
            Self::Haul { answer, .. } => *answer,
            Self::Make(size) | Self::Send(_, size) | Self::Tell(size) => *size,
        }
    }
}

/// A size about which it is hard to say whether it fits, or any other.
fn size(random: &mut Random) -> usize {
    match random.below(3) {
        0 => random.below(LITTLE as u64 / 2) as usize,
        1 => LITTLE - ROOM + random.below(ROOM as u64 + 100) as usize,
        _ => random.pick(&[10, LITTLE - 1_000, LITTLE, 3 * LITTLE]),
    }
}

/// Whether a value of this size has to fit, or must not. `None`: either is right.
fn fits(size: usize) -> Option<bool> {
    match size {
        _ if size + ROOM <= LITTLE => Some(true),
        _ if size > LITTLE => Some(false),
        _ => None,
    }
}

/// Returns a text of a size.
#[derive(Debug, Default)]
struct Echo;

#[partitura::workflow]
impl Echo {
    #[run]
    async fn run(_cx: Cx<Self>, (_load, size): (String, usize)) -> Result<String, Upset> {
        Ok("r".repeat(size))
    }
}

/// Does its errands, tells how each went, and keeps what it is sent until that is enough.
#[derive(Debug, Default)]
struct Laden {
    texts: Vec<String>,
    is_enough: bool,
}

#[partitura::workflow]
impl Laden {
    #[run]
    async fn run(cx: Cx<Self>, (errands, _load): (Vec<Errand>, String)) -> Result<Vec<Option<usize>>, Upset> {
        let (mut went, mut steps) = (Vec::new(), 0);
        for (number, errand) in errands.into_iter().enumerate() {
            let result = match errand {
                Errand::Haul { number, load, answer, progress, error } => {
                    let (name, load) = (format!("c{number}"), "l".repeat(load));
                    let parcel = Parcel { name, load, answer, progress, error };
                    cx.service::<PlayerStub>().haul(parcel).await.ok()
                }
                Errand::Make(size) => {
                    let (run, step) = (cx.run_id().to_owned(), steps);
                    steps += 1;
                    let make = async move {
                        looks(&run, step);
                        Ok::<_, String>("m".repeat(size))
                    };
                    cx.step("make", make).await.ok()
                }
                Errand::Send(input, size) => {
                    let child = cx.child::<Echo>(format!("{}-{number}", cx.id()));
                    child.run(("i".repeat(input), size)).await.ok()
                }
                Errand::Tell(size) => {
                    let text = "t".repeat(size);
                    cx.signal(cx.id(), LadenSignal::keep(text.clone())).ok().map(|()| text)
                }
            };
            went.push(result.map(|text| text.len()));
        }
        cx.until(|laden: &Laden| laden.is_enough).await?;
        Ok(went)
    }

    #[signal]
    fn keep(&mut self, text: String) {
        self.texts.push(text);
    }

    #[signal]
    fn enough(&mut self) {
        self.is_enough = true;
    }

    #[update]
    fn weigh(&mut self, text: String) -> Result<usize, Upset> {
        Ok(text.len())
    }

    #[query]
    fn texts(&self) -> String {
        self.texts.concat()
    }
}

/// An errand succeeds if it fits, and fails with the reason if it does not. All else is as recorded.
fn expected((errands, faultless): (&[Errand], bool), history: &[Event]) -> Expected {
    let asked = history.iter().map(|event| &event.kind).filter(|kind| {
        matches!(
            kind,
            EventKind::TaskScheduled { .. }
                | EventKind::StepScheduled { .. }
                | EventKind::ChildStarted { .. }
                | EventKind::SignalSent { .. }
                | EventKind::SendRefused { .. }
        )
    });
    let mut went = Vec::new();
    for (errand, asked) in errands.iter().zip(asked) {
        if let Errand::Tell(size) = errand {
            let is_sent = matches!(asked, EventKind::SignalSent { .. });
            if fits(*size).is_some_and(|fits| fits != is_sent) {
                return Expected::new(Outcome::Other(format!("{errand:?} should not be {asked}")), Vec::new());
            }
            went.push(is_sent.then_some(*size));
            continue;
        }
        let seq = asked.seq();
        let result = firsts(history).find(|event| event.kind.is_input() && event.kind.seq() == seq);
        let failure = match result.map(|event| &event.kind) {
            // An operator has ended it before.
            None => break,
            Some(
                EventKind::TaskFailed { failure, .. }
                | EventKind::ChildFailed { failure, .. }
                | EventKind::StepFailed { failure, .. },
            ) => Some(failure),
            Some(_) => None,
        };
        if failure.is_some_and(|failure| failure.kind == FailureKind::WorkerLost && !faultless) {
            went.push(None);
            continue;
        }
        let has_reason = failure.is_none_or(|failure| failure.message.contains("allowed"));
        if !has_reason || fits(errand.largest()).is_some_and(|fits| fits != failure.is_none()) {
            let text = format!("{errand:?} should not have come to {failure:?}");
            return Expected::new(Outcome::Other(text), Vec::new());
        }
        went.push(failure.is_none().then(|| errand.result()));
    }
    let hauls = errands.iter().filter_map(|errand| match errand {
        Errand::Haul { number, .. } => Some(format!("haul(c{number})")),
        _ => None,
    });
    Expected::new(Outcome::ok(&went), hauls.collect())
}

/// The requests of its client.
#[derive(Debug, Clone)]
enum Sent {
    Signal(usize),
    Update(usize),
    Query,
    Describe,
}

/// One client that starts it, sends it much, and is told of all that is too much.
pub(crate) fn laden(random: &mut Random, id: String, faultless: bool) -> Piece {
    let errands: Vec<Errand> = (0..random.between(1, 4) as usize).map(|number| Errand::draw(random, number)).collect();
    let load = size(random);
    let requests: Vec<(u64, Sent)> = (0..random.between(1, 6))
        .map(|_| {
            let sent = match random.below(5) {
                0 => Sent::Query,
                1 => Sent::Describe,
                2 => Sent::Update(size(random)),
                _ => Sent::Signal(size(random)),
            };
            (random.pick(&[0, 5, 400, 3_000]), sent)
        })
        .collect();
    let (name, plan) = (id.clone(), Arc::new((errands.clone(), requests)));
    let perform = move |client: Client, world: World| -> Performance {
        let (name, plan) = (name.clone(), plan.clone());
        Box::pin(async move {
            let handle = client.workflow::<Laden>(name);
            start(&handle, (&plan.0, load)).await?;
            for (number, (rest, sent)) in plan.1.iter().enumerate() {
                pause(*rest).await;
                send(&handle, &world, (number, sent)).await?;
            }
            while handle.signal(LadenSignal::enough()).await.is_err() {
                pause(100).await;
            }
            Ok(Answered { verdict: Verdict::Accepted, outcome: outcome(&handle, &world).await? })
        })
    };
    let part = Part { perform: Box::new(perform), policy: StartPolicy::UseExisting, may_crash: true };
    let operate = operated::<Laden>(id.clone());
    let model = move |history: &[Event]| expected((&errands, faultless), history);
    Piece { id, workflow: Laden::NAME, model: Arc::new(model), operate, parts: vec![part] }
}

/// Starts it with a load; without, if that is too large.
async fn start(handle: &WorkflowHandle<Laden>, (errands, mut load): (&[Errand], usize)) -> Result<(), String> {
    loop {
        match handle.start((errands.to_vec(), "l".repeat(load))).await {
            Ok(()) => return Ok(()),
            Err(error @ ClientError::TooLarge { .. }) => {
                is_too_large(load, &error)?;
                load = 0;
            }
            Err(_) => pause(100).await,
        }
    }
}

/// Checks that a value was refused that may be refused, with numbers that say why.
fn is_too_large(size: usize, error: &ClientError) -> Result<(), String> {
    match error {
        ClientError::TooLarge { bytes, limit, taken, .. }
            if bytes > limit && *taken == LITTLE && fits(size) != Some(true) =>
        {
            Ok(())
        }
        _ => Err(format!("{size} bytes are refused: {error}")),
    }
}

/// Sends something until it is answered, and checks the answer.
async fn send(handle: &WorkflowHandle<Laden>, world: &World, (number, sent): (usize, &Sent)) -> Result<(), String> {
    loop {
        let in_chaos = world.lock().chaos;
        let (size, answer) = match sent {
            Sent::Signal(size) => {
                let signal = handle.signal(LadenSignal::keep("s".repeat(*size))).id(format!("s{number}"));
                (*size, signal.confirmed().await)
            }
            Sent::Update(size) => {
                match handle.update(LadenUpdate::weigh("u".repeat(*size))).id(format!("u{number}")).await {
                    Ok(weight) if weight == *size => (*size, Ok(())),
                    Err(UpdateError::Client(error)) => (*size, Err(error)),
                    Err(UpdateError::Stopped { .. }) => {
                        pause(100).await;
                        continue;
                    }
                    Err(UpdateError::Interrupted { .. }) => return Ok(()),
                    other => return Err(format!("{} weighs {other:?}", handle.id())),
                }
            }
            Sent::Query => (LITTLE, handle.query(LadenQuery::texts()).await.map(drop)),
            Sent::Describe => (0, handle.describe().await.map(drop)),
        };
        let is_question = matches!(sent, Sent::Query | Sent::Describe);
        return match answer {
            _ if is_deleted(world, handle) => Ok(()),
            Ok(()) if is_question => Ok(()),
            Ok(()) if fits(size) == Some(false) => Err(format!("{size} bytes are accepted")),
            Ok(()) => is_recorded(handle, world, (number, sent)),
            Err(ClientError::AnswerTooLarge { bytes, limit, .. }) if bytes > limit && limit == LITTLE => Ok(()),
            Err(error @ ClientError::TooLarge { .. }) => is_too_large(size, &error),
            // An operator has ended it, or its code cannot run.
            Err(ClientError::Ended { .. }) => Ok(()),
            Err(ClientError::Refused(_)) if is_question => Ok(()),
            Err(ClientError::NoAnswer { .. } | ClientError::Broker(_)) if is_question && in_chaos => Ok(()),
            Err(ClientError::NoAnswer { .. } | ClientError::Broker(_)) if !is_question => {
                pause(100).await;
                continue;
            }
            Err(error) => Err(format!("{sent:?} to {}: {error}", handle.id())),
        };
    }
}

/// Checks that what was confirmed is part of the history.
fn is_recorded(handle: &WorkflowHandle<Laden>, world: &World, (number, sent): (usize, &Sent)) -> Result<(), String> {
    let history = world.lock().history(Laden::NAME, handle.id());
    let is_there = history.iter().any(|event| match &event.kind {
        EventKind::SignalReceived { message_id, .. } => *message_id == format!("id:s{number}"),
        EventKind::UpdateReceived { id, .. } => *id == format!("u{number}"),
        _ => false,
    });
    if is_there { Ok(()) } else { Err(format!("{sent:?} to {} was confirmed and is not recorded", handle.id())) }
}
