//! Runs one case on one broker.

use std::any::Any;
use std::collections::HashMap;
use std::fmt;
use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock};
use std::time::{Duration, Instant};

use futures::FutureExt;
use partitura_broker::Capabilities;
use tokio::runtime::{Builder, Runtime};

use crate::case::Lack;
use crate::subject::Subject;
use crate::{Case, CaseResult, Entry, Env, Harness, History, Need, Recorder, Stop, check};

/// The time to wait with a mutant, where many events never come.
const MUTANT_TIME_LIMIT: Duration = Duration::from_secs(5);

/// A case holds it for reading while it runs. A case that must be alone holds it for writing.
static QUIET: RwLock<()> = RwLock::new(());
/// A case holds it while it uses the only address on which a proxy can listen.
static PROXY: Mutex<()> = Mutex::new(());

/// A way to run a broker, with its capabilities.
#[derive(Clone)]
pub(crate) struct Bench {
    pub(crate) harness: Arc<dyn Harness>,
    seed: u64,
    capabilities: Arc<OnceLock<Result<Capabilities, String>>>,
    /// The outcomes without a mutant, by case and subject: each of the case's mutants needs them.
    sound: Arc<Mutex<HashMap<(&'static str, &'static str), Once>>>,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Passed => f.write_str("passed"),
            Self::Failed(why) => write!(f, "failed: {why}"),
            Self::Unsupported(why) => write!(f, "unsupported: {why}"),
            Self::NotVerified(why) => write!(f, "not verified: {why}"),
            Self::NotApplicable(why) => write!(f, "not applicable: {why}"),
        }
    }
}

type Once = Arc<OnceLock<Outcome>>;

/// The outcome of a case.
#[derive(Debug, Clone)]
pub(crate) struct Outcome {
    pub(crate) verdict: Verdict,
    pub(crate) took: Duration,
    /// Of a failure.
    pub(crate) history: History,
    /// The entry of it that shows the failure, if there is one.
    pub(crate) at: Option<Entry>,
    pub(crate) lateness: Vec<u64>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Verdict {
    Passed,
    Failed(String),
    /// The broker declares that it lacks the capability.
    Unsupported(String),
    /// The harness lacks a hook. This is not passed.
    NotVerified(String),
    /// The subject of the case does not exist here.
    NotApplicable(String),
}

impl Bench {
    /// The seed decides the random choices of the cases.
    pub(crate) fn new(harness: Arc<dyn Harness>, seed: u64) -> Self {
        Self { harness, seed, capabilities: Arc::default(), sound: Arc::default() }
    }

    /// The same broker, for runs with other random choices.
    pub(crate) fn with_seed(&self, seed: u64) -> Self {
        Self { seed, sound: Arc::default(), ..self.clone() }
    }

    /// The seed of the random choices.
    pub(crate) fn seed(&self) -> u64 {
        self.seed
    }

    /// A bench of a broker that is not asked.
    #[cfg(test)]
    pub(crate) fn with_capabilities(harness: Arc<dyn Harness>, capabilities: Capabilities) -> Self {
        Self { capabilities: Arc::new(OnceLock::from(Ok(capabilities))), ..Self::new(harness, 0) }
    }

    /// The broker's capabilities.
    pub(crate) fn capabilities(&self) -> Result<Capabilities, String> {
        self.capabilities.get_or_init(|| self.ask(Subject::BROKER)).clone()
    }

    fn capabilities_of(&self, subject: Subject) -> Result<Capabilities, String> {
        if subject.broker.is_none() { self.capabilities() } else { self.ask(subject) }
    }

    fn ask(&self, subject: Subject) -> Result<Capabilities, String> {
        let runtime = runtime().map_err(|error| error.to_string())?;
        let connected = runtime.block_on(self.harness.connect(&namespace("capabilities")));
        let broker = connected.map_err(|error| format!("cannot connect: {error}"))?;
        let capabilities = subject.broker(broker.clone()).capabilities().clone();
        runtime.block_on(broker.close()).map_err(|error| format!("cannot close: {error}"))?;
        Ok(capabilities)
    }

    /// The reason why the case cannot be run here, if it cannot.
    pub(crate) fn lacking(&self, case: &Case, subject: Subject) -> Result<Option<Verdict>, String> {
        let capabilities = self.capabilities_of(subject)?;
        let lacking = case.needs.iter().filter_map(|need| need.lacking(&*self.harness, &capabilities));
        // A case that does not apply lacks nothing, and a capability that the broker lacks needs no hook.
        let gravest = lacking.max_by_key(|lack| match lack {
            Lack::NotApplicable(_) => 2,
            Lack::Unsupported(_) => 1,
            Lack::NotVerified(_) => 0,
        });
        Ok(gravest.map(|lack| match lack {
            Lack::Unsupported(why) => Verdict::Unsupported(why.into()),
            Lack::NotVerified(why) => Verdict::NotVerified(why.into()),
            Lack::NotApplicable(why) => Verdict::NotApplicable(why.into()),
        }))
    }

    /// Whether the mutants of this case are tried here. Those of cases that a broker in its client's process cannot run
    /// are tried on every other.
    pub(crate) fn can_try_mutants_of(&self, case: &Case) -> bool {
        let is_elsewhere = case.needs.iter().any(|need| need.is_of_a_server());
        if is_elsewhere { !self.harness.lives_in_its_client() } else { self.harness.tries_mutants() }
    }

    /// Whether the case cannot run beside all others.
    pub(crate) fn takes_turns(&self, case: &Case) -> bool {
        case.needs.contains(&Need::Quiet) || self.disturbs(case) || self.shares_a_port(case)
    }

    /// Whether the case kills or freezes a broker that others use.
    fn disturbs(&self, case: &Case) -> bool {
        case.needs.iter().any(|need| matches!(need, Need::Restart | Need::Freeze))
            && !self.harness.lives_in_its_client()
    }

    /// Whether the case needs the one port at which a proxy can listen: the broker tells clients its address.
    fn shares_a_port(&self, case: &Case) -> bool {
        case.needs.contains(&Need::Network)
            && self.harness.network().is_some_and(|network| network.listen().port() != 0)
    }

    /// Runs the case without a mutant, once.
    pub(crate) fn sound(&self, case: &'static Case, subject: Subject) -> Outcome {
        let mut sound = self.sound.lock().unwrap_or_else(PoisonError::into_inner);
        let outcome = sound.entry((case.id, subject.name)).or_default().clone();
        drop(sound);
        outcome.get_or_init(|| self.run(case, subject)).clone()
    }

    /// Runs the case, and then checks the history against the contract.
    pub(crate) fn run(&self, case: &'static Case, subject: Subject) -> Outcome {
        let began = Instant::now();
        let skipped = |verdict| Outcome {
            verdict,
            took: began.elapsed(),
            history: History::default(),
            at: None,
            lateness: vec![],
        };
        match self.lacking(case, subject) {
            Err(error) => return skipped(Verdict::Failed(error)),
            Ok(Some(verdict)) => return skipped(verdict),
            Ok(None) => {}
        }
        let (capabilities, runtime) = match (self.capabilities_of(subject), runtime()) {
            (Ok(capabilities), Ok(runtime)) => (capabilities, runtime),
            (Err(error), _) => return skipped(Verdict::Failed(error)),
            (_, Err(error)) => return skipped(Verdict::Failed(error.to_string())),
        };
        let is_mutant = subject.mutant.is_some();
        // A real broker needs its time with a mutant, too.
        let is_quick = is_mutant && self.harness.tries_mutants();
        let time_limit = if is_quick { MUTANT_TIME_LIMIT } else { self.harness.time_limit() };
        let env = Env {
            case: case.id,
            harness: self.harness.clone(),
            namespace: namespace(case.id),
            capabilities,
            recorder: Recorder::new(),
            time_limit,
            // A mutant differs from the broker in one thing only: its choices are the same in every run.
            seed: if subject.is_little { 7 } else { self.seed },
            subject,
            processes: AtomicU32::new(0),
            lateness: Default::default(),
        };
        // Disturbances do not let a mutant pass.
        let alone = self.disturbs(case) || (case.needs.contains(&Need::Quiet) && !is_mutant);
        let _others = (!alone).then(|| QUIET.read().unwrap_or_else(PoisonError::into_inner));
        let _nobody = alone.then(|| QUIET.write().unwrap_or_else(PoisonError::into_inner));
        // The time after which a case is stuck.
        let _turn = self.shares_a_port(case).then(|| PROXY.lock().unwrap_or_else(PoisonError::into_inner));
        let limit = self.harness.time_limit() * if case.tier == crate::Tier::Four { 60 } else { 6 };
        let result = runtime.block_on(play(case, &env, limit));
        let freezes = case.needs.contains(&Need::Freeze);
        let thawed = self.harness.freeze().filter(|_| freezes).map_or(Ok(()), |hook| runtime.block_on(hook.thaw()));
        let result = result.and_then(|()| Ok(thawed?));
        runtime.shutdown_background();
        let history = env.history();
        let result = result.and_then(|()| Ok(check::contract(&history)?));
        let at = result.as_ref().err().and_then(Stop::at).cloned();
        let verdict = match result {
            Ok(()) => Verdict::Passed,
            Err(stop) if is_mutant => Verdict::Failed(stop.to_string()),
            Err(stop) => Verdict::Failed(format!("{stop}\nwith PARTITURA_CONFORMANCE_SEED={}", env.seed)),
        };
        let lateness = env.lateness.into_inner().unwrap_or_else(PoisonError::into_inner);
        let history = if verdict == Verdict::Passed { History::default() } else { history };
        Outcome { verdict, took: began.elapsed(), history, at, lateness }
    }
}

async fn play(case: &Case, env: &Env, limit: Duration) -> CaseResult {
    let playing = AssertUnwindSafe((case.run)(env)).catch_unwind();
    match tokio::time::timeout(limit, playing).await {
        Ok(Ok(result)) => result,
        Ok(Err(panic)) => Err(Stop::new(format!("panicked: {}", text(&*panic)))),
        Err(_) => Err(Stop::new(format!("did not end within {limit:?}"))),
    }
}

fn runtime() -> std::io::Result<Runtime> {
    Builder::new_multi_thread().worker_threads(2).enable_all().build()
}

/// A new prefix for names: cases run side by side, and again on the same broker.
fn namespace(id: &str) -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let seconds = crate::client::now().as_millis() / 1_000;
    format!("{}-{seconds:x}-{}-{number}", id.replace(['.', '_'], "-"), std::process::id())
}

fn text(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("without a message")
}
