use std::time::Duration;

use partitura::Client;
use tokio::runtime::Builder;
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::actors;
use crate::agenda::Deed;
use crate::catalogue::operating::{Operate, Order};
use crate::catalogue::{self, Piece, operating, pausing};
use crate::checks::{self, Ended, Told};
use crate::mutant::Mutant;
use crate::report::Report;
use crate::world::World;

/// The longest time from the last fault until a world comes to rest, in milliseconds.
const REST_WITHIN: u64 = 600_000;

/// The options for a world.
#[derive(Debug, Clone, Copy, Default)]
#[non_exhaustive]
pub struct Options {
    /// A bug to build in.
    pub mutant: Option<Mutant>,
    /// Keep the trace as text.
    pub trace: bool,
}

impl Options {
    /// Builds in a bug.
    #[must_use]
    pub fn mutant(mut self, mutant: Mutant) -> Self {
        self.mutant = Some(mutant);
        self
    }

    /// Keeps the trace as text.
    #[must_use]
    pub fn trace(mut self) -> Self {
        self.trace = true;
        self
    }
}

/// Runs the world of a seed from its beginning to its rest, or to the first violation.
pub fn simulate(seed: u64, options: Options) -> Report {
    let runtime = Builder::new_current_thread().enable_time().start_paused(true).build();
    let Ok(runtime) = runtime else { unreachable!("a runtime without I/O needs nothing of the system") };
    // The remains of dead processes are dropped with the runtime.
    runtime.block_on(async {
        let world = World::new(seed, options.mutant, options.trace);
        catalogue::solos::set_gauge(Some(world.clone()));
        run(&world).await;
        catalogue::solos::set_gauge(None);
        let mut state = world.lock();
        Report {
            seed,
            violation: state.violation.take(),
            hash: state.trace.hash(),
            happenings: state.trace.count(),
            lasted: state.now(),
            trace: state.trace.take_lines(),
        }
    })
}

async fn run(world: &World) {
    let (pieces, workers, limit) = {
        let mut state = world.lock();
        let chaos = state.plan.chaos;
        state.later(chaos, Deed::Calm);
        state.plan_mishap();
        let count = state.random.between(1, 5) as usize;
        let (of_parents, poison) = (state.plan.breaks_history(), state.plan.poison);
        let (is_little, faultless) = (state.plan.payload.is_some() && !of_parents, state.plan.faultless);
        let draw = |number| match number {
            0 if poison => catalogue::draw_fatal(&mut state.random, number),
            0 if is_little => catalogue::laden::laden(&mut state.random, "p0".to_owned(), faultless),
            _ => catalogue::draw(&mut state.random, number, of_parents && number == 0),
        };
        let pieces: Vec<Piece> = (0..count).map(draw).collect();
        for piece in &pieces {
            state.note("world", format_args!("{} is a {}", piece.id, piece.workflow));
            catalogue::include(&mut state.workflows, piece.workflow);
        }
        (pieces, state.plan.workers, chaos + REST_WITHIN)
    };
    let mut actors = JoinSet::new();
    let turns = world.clone();
    actors.spawn(async move { turns.turn().await });
    for number in 1..=workers {
        actors.spawn(actors::worker(world.clone(), number));
    }
    tokio::select! {
        biased;
        () = world.violated() => {}
        ended = perform(world, pieces) => checks::run(&mut world.lock(), &ended),
        () = world.until(limit) => {
            let mut state = world.lock();
            let message = state.undone().unwrap_or_else(|| "no message".to_owned());
            let open = checks::still_open(&state);
            let what = format!("no rest {REST_WITHIN} ms after the last fault; what waits: {message}\n{open}");
            state.violate("nothing is stuck", what);
        }
    }
}

/// Performs every piece, and waits until nothing is left to do.
async fn perform(world: &World, pieces: Vec<Piece>) -> Vec<Ended> {
    let client = actors::persistent(&world.process("client".to_owned(), false)).await;
    let mut performances = JoinSet::new();
    let mut ended = Vec::new();
    let mut instances = Vec::new();
    for Piece { id, workflow, model, operate, parts } in pieces {
        instances.push((id.clone(), operate));
        let piece = ended.len();
        for (number, part) in parts.into_iter().enumerate() {
            let (name, policy) = (format!("{id}/{number}"), part.policy);
            let (client, world) = (client.clone(), world.clone());
            performances.spawn(async move {
                let answered = actors::client(world.clone(), name.clone(), part, client).await;
                let mut state = world.lock();
                match &answered {
                    Ok(answered) => state.note(&name, format_args!("has {answered:?}")),
                    Err(problem) => state.violate("what a client asks for is done", problem.clone()),
                }
                (piece, answered.ok().map(|answered| Told { number, policy, answered }))
            });
        }
        ended.push(Ended { id, workflow, model, told: Vec::new() });
    }
    // An operator is dropped with this set.
    let mut operators = JoinSet::new();
    let is_poisoned = world.lock().plan.poison;
    if is_poisoned && let Some((_, operate)) = instances.first() {
        operators.spawn(mend(world.clone(), client.clone(), operate.clone()));
    }
    operators.spawn(operating::operator(world.clone(), client.clone(), instances));
    operators.spawn(operating::janitor(world.clone(), client.clone()));
    operators.spawn(pausing::pauser(world.clone(), client));
    while let Some(performed) = performances.join_next().await {
        match performed {
            Ok((piece, told)) => ended[piece].told.extend(told),
            Err(panic) => world.lock().violate("the client does not panic", panic.to_string()),
        }
    }
    while !is_at_rest(world) {
        sleep(Duration::from_millis(250)).await;
    }
    ended
}

/// Resumes an instance once the code is mended, until all instances have ended.
async fn mend(world: World, client: Client, operate: Operate) {
    loop {
        sleep(Duration::from_secs(1)).await;
        let (is_mended, is_done) = {
            let state = world.lock();
            (!state.chaos, checks::all_closed(&state))
        };
        if is_mended && is_done {
            return;
        }
        if is_mended {
            let done = operate(client.clone(), Order::Resume).await.map_err(|error| error.to_string());
            world.lock().note("operator", format_args!("resumes what was doomed: {done:?}"));
        }
    }
}

fn is_at_rest(world: &World) -> bool {
    let state = world.lock();
    !state.chaos
        && state.undone().is_none()
        && (state.keys.space("outbox").next().is_none() || state.is_mutant(Mutant::OutboxKept))
        && checks::all_closed(&state)
}
