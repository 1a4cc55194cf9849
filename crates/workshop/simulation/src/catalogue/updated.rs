//! A workflow that clients update, and that goes on in new runs meanwhile.

use std::sync::Arc;

use partitura::history::{Event, EventKind};
use partitura::{Client, ClientError, Cx, StartPolicy, Update, UpdateError, Workflow, WorkflowHandle};

use super::deleted::is_deleted;
use super::entry::{Entry, entry};
use super::expected::{Expected, Outcome};
use super::operating::operated;
use super::performing::{Answered, Part, Performance, Piece, Verdict, outcome, pause};
use super::upset::Upset;
use crate::random::Random;
use crate::service::{Call, PlayerStub, Refusal};
use crate::world::World;

pub(super) const WORKFLOWS: &[Entry] = &[entry::<Register>()];

/// A number that the validator refuses, and one that the handler refuses.
const INVALID: u64 = 0;
const TOO_LARGE: u64 = 100;

/// How many numbers make it end, how many each run takes, those of the runs before, and the call at its end.
type Pages = (usize, usize, Vec<u64>, Call);

/// Takes numbers as they come: one that is applied twice is there twice.
#[derive(Debug, Default)]
struct Register {
    entries: Vec<u64>,
}

#[partitura::workflow]
impl Register {
    #[run]
    async fn run(cx: Cx<Self>, (enough, page, entries, call): Pages) -> Result<Vec<u64>, Upset> {
        let full = enough.min(entries.len() + page);
        cx.state(|register| register.entries = entries);
        cx.until(move |register: &Register| register.entries.len() >= full).await?;
        let entries = cx.state(|register| register.entries.clone());
        if entries.len() < enough {
            return cx.continue_as_new((enough, page, entries, call)).await;
        }
        let _ = cx.service::<PlayerStub>().play(call).await;
        Ok(cx.state(|register| register.entries.clone()))
    }

    /// Says how many numbers there are then.
    #[update(validate = Self::is_valid)]
    fn enter(&mut self, number: u64) -> Result<usize, Refusal> {
        if number == TOO_LARGE {
            return Err(Refusal::Busy);
        }
        self.entries.push(number);
        Ok(self.entries.len())
    }

    /// The same, after a call.
    #[update]
    async fn enter_later(cx: Cx<Self>, number: u64, call: Call) -> Result<usize, Refusal> {
        let _ = cx.service::<PlayerStub>().play(call).await;
        Ok(cx.state(|register| {
            register.entries.push(number);
            register.entries.len()
        }))
    }

    fn is_valid(&self, number: &u64) -> Result<(), Refusal> {
        if *number == INVALID { Err(Refusal::No("invalid".to_owned())) } else { Ok(()) }
    }
}

/// A number to be entered after a rest, perhaps after a call.
#[derive(Debug, Clone)]
struct Entering {
    rest: u64,
    number: u64,
    call: Option<Call>,
}

impl Entering {
    fn draw(random: &mut Random, number: u64, is_odd: bool) -> Self {
        let call = (!is_odd && random.coin()).then(|| Call::draw(random, number as usize));
        Self { rest: random.pick(&[0, 0, 5, 400, 3_000]), number, call }
    }

    fn update(&self) -> Update<Register, usize, Refusal> {
        match &self.call {
            Some(call) => RegisterUpdate::enter_later(self.number, call.clone()),
            None => RegisterUpdate::enter(self.number),
        }
    }
}

/// One client that enters numbers, each under an id. It may crash. Then it sends all of them again, and gets the same
/// answers.
pub(super) fn register(random: &mut Random, id: String, begin: u64) -> Piece {
    let (call, count, page) = (Call::draw(random, 0), random.between(1, 5), random.between(1, 3) as usize);
    let mut numbers = Vec::new();
    for number in 1..=count {
        let odd = random.pick(&[None, None, Some(INVALID), Some(TOO_LARGE)]);
        numbers.extend(odd.map(|odd| Entering::draw(random, odd, true)));
        numbers.push(Entering::draw(random, number, false));
    }
    let calls = numbers.iter().filter_map(|entering| entering.call.as_ref()).chain([&call]);
    let played: Vec<String> = calls.map(Call::played).collect();
    let (numbers, with_start) = (Arc::new(numbers), random.coin());
    let (name, input) = (id.clone(), (count as usize, page, Vec::new(), call.clone()));
    let perform = move |client: Client, world: World| -> Performance {
        let (name, input, numbers) = (name.clone(), input.clone(), numbers.clone());
        Box::pin(async move {
            pause(begin).await;
            let handle = client.workflow::<Register>(name);
            while !with_start && handle.start(input.clone()).await.is_err() {
                pause(100).await;
            }
            for (index, entering) in numbers.iter().enumerate() {
                pause(entering.rest).await;
                let start = (with_start && index == 0).then(|| input.clone());
                if !enter(&handle, &world, start, (index, entering)).await? {
                    break;
                }
            }
            Ok(Answered { verdict: Verdict::Accepted, outcome: outcome(&handle, &world).await? })
        })
    };
    let part = Part { perform: Box::new(perform), policy: StartPolicy::UseExisting, may_crash: true };
    let model = move |history: &[Event]| {
        let invalid = RegisterUpdate::enter(INVALID).into_parts().map(|(_, args)| args).ok();
        let trace = |event: &&Event| matches!(&event.kind, EventKind::UpdateReceived { args, .. } if Some(args) == invalid.as_ref());
        let outcome = match history.iter().find(trace) {
            Some(event) => Outcome::Other(format!("an update that is invalid is in its history: {event}")),
            None => Outcome::ok(&(1..=count).collect::<Vec<_>>()),
        };
        Expected::new(outcome, played.clone())
    };
    let operate = operated::<Register>(id.clone());
    Piece { id, workflow: Register::NAME, model: Arc::new(model), operate, parts: vec![part] }
}

/// Enters a number until that is answered, and checks the answer. `false`: the instance has ended.
async fn enter(
    handle: &WorkflowHandle<Register>,
    world: &World,
    start: Option<Pages>,
    (index, entering): (usize, &Entering),
) -> Result<bool, String> {
    let (id, number) = (format!("u{index}"), entering.number);
    loop {
        let update = entering.update();
        let answer = match start.clone() {
            Some(input) => handle.start(input).with_update(update).id(id.clone()).await,
            None => handle.update(update).id(id.clone()).await,
        };
        if is_deleted(world, handle) {
            return Ok(!matches!(answer, Err(UpdateError::Client(ClientError::NotFound { .. }))));
        }
        let (ok, recorded) = match &answer {
            Ok(entries) => (*entries as u64 == number, true),
            Err(UpdateError::Rejected(Refusal::No(_))) => (number == INVALID, false),
            Err(UpdateError::Failed(Refusal::Busy)) => (number == TOO_LARGE, true),
            // An operator has ended it.
            Err(UpdateError::Interrupted { .. } | UpdateError::Client(ClientError::Ended { .. })) => return Ok(false),
            Err(UpdateError::Stopped { .. })
            | Err(UpdateError::Client(ClientError::NoAnswer { .. } | ClientError::Broker(_))) => {
                world.lock().note("client", format_args!("has no answer to {id} of {}: {answer:?}", handle.id()));
                pause(100).await;
                continue;
            }
            Err(_) => (false, false),
        };
        let history = world.lock().history(Register::NAME, handle.id());
        let is_recorded = history.iter().any(|event| match &event.kind {
            EventKind::UpdateCompleted { id: of, .. } | EventKind::UpdateFailed { id: of, .. } => *of == id,
            _ => false,
        });
        if ok && recorded == is_recorded {
            return Ok(true);
        }
        return Err(format!("{}: {number}, sent as {id}, got {answer:?}; recorded: {is_recorded}", handle.id()));
    }
}
