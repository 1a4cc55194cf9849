//! Tests of workflows: the real engine in the test's own process, in virtual time.
//!
//! A workflow that sleeps for a month is tested in a millisecond: time stands still while anything runs, and moves on
//! to the next timer when nothing does.
//!
//! ```
//! use partitura::testing::TestEnv;
//! use partitura::{Cancelled, Cx, days};
//!
//! #[derive(Default)]
//! struct Trial;
//!
//! #[partitura::workflow]
//! impl Trial {
//!     #[run]
//!     async fn run(cx: Cx<Self>, customer: String) -> Result<String, Cancelled> {
//!         cx.sleep(days(30)).await?;
//!         Ok(format!("the trial of {customer} is over"))
//!     }
//! }
//!
//! # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
//! // In a `#[tokio::test]`:
//! let env = TestEnv::new().workflow::<Trial>();
//! let trial = env.start::<Trial>("t-1", "Ada".to_owned()).await;
//! assert_eq!(trial.result().await.unwrap(), "the trial of Ada is over");
//! # });
//! ```

mod attempts;
mod handle;
mod replay;
mod standing;
pub mod store;
mod turns;
mod watch;

use std::convert::Infallible;
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};
use std::time::Duration;

use partitura_broker::{Clock, SystemClock, Timestamp};
use partitura_embedded::{Embedded, Options};
use partitura_engine::{Partitura, ReplayValues, RunningWorker, Worker};
use partitura_workflow::__private::{BoxFuture, FutureExt};
use partitura_workflow::{Service, Workflow};
use tokio::sync::OnceCell;
use tokio::time::Instant;

use self::attempts::{Attempts, Counted};
pub use self::handle::{TestClient, TestHandle};
pub use self::replay::{replay, replay_all};
use self::standing::{Kind, Registered};
use self::turns::{Restless, Turns};
use self::watch::Watch;

/// After how many failures of a task whose retries have no end a test fails, unless it sets another number.
const ATTEMPTS: u32 = 100;

/// How long in real time a test waits for a workflow that goes on and on, unless it sets another time.
const GIVE_UP_AFTER: Duration = Duration::from_secs(30);

type Register = Box<dyn FnOnce(Worker) -> Worker + Send>;

/// An engine of its own on a broker in memory, for one test.
///
/// A test never hangs for what cannot come. Where a workflow will not end ([`TestHandle::result`] says when), the test
/// fails with the reason, and with what to write:
///
/// ```should_panic
/// # use partitura::testing::TestEnv;
/// # use partitura::{Cancelled, Cx};
/// #[derive(Default)]
/// struct Packing { packed: bool }
///
/// #[partitura::workflow]
/// impl Packing {
///     #[run]
///     async fn run(cx: Cx<Self>) -> Result<(), Cancelled> {
///         cx.until(|packing: &Packing| packing.packed).await
///     }
///
///     #[signal]
///     fn packed(&mut self) { self.packed = true }
/// }
///
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// let env = TestEnv::new().workflow::<Packing>();
/// let packing = env.start::<Packing>("p-1", ()).await;
/// // Nobody sends `PackingSignal::packed()`: "workflow Packing/p-1 will not end: …".
/// packing.result().await.unwrap();
/// # });
/// ```
pub struct TestEnv {
    setup: Mutex<Option<Setup>>,
    attempts: Arc<Attempts>,
    give_up_after: Duration,
    clock: Arc<VirtualClock>,
    running: OnceCell<Running>,
}

/// The registrations before the engine starts.
struct Setup {
    register: Register,
    registered: Registered,
}

struct Running {
    client: Arc<TestClient>,
    watch: Arc<Watch>,
    /// Runs until it is dropped.
    _worker: RunningWorker,
}

impl TestEnv {
    /// Stops the clock of the runtime that it is called in: that of a plain `#[tokio::test]`.
    ///
    /// # Panics
    /// Outside of a current-thread tokio runtime, or where the clock was stopped already (`start_paused = true`).
    #[expect(clippy::new_without_default, reason = "it changes the runtime that it is called in")]
    pub fn new() -> Self {
        tokio::time::pause();
        let clock = Arc::new(VirtualClock { start: Instant::now(), origin: SystemClock.now() });
        let setup = Setup { register: Box::new(|worker| worker), registered: Registered::default() };
        let attempts = Arc::new(Attempts::new(ATTEMPTS));
        let (setup, running) = (Mutex::new(Some(setup)), OnceCell::new());
        Self { setup, attempts, give_up_after: GIVE_UP_AFTER, clock, running }
    }

    /// How much real time a test gives to a workflow that goes on and on, or to others that do while it waits, before
    /// the test fails: a loop that asks once a minute, of a fake that never says yes, has no end. Counts only once a
    /// day of virtual time has passed, or if an instance takes more than 10 turns in a second from then on. 30 s unless
    /// set.
    #[must_use]
    pub fn give_up_after(mut self, real_time: Duration) -> Self {
        self.give_up_after = real_time;
        self
    }

    fn register(
        mut self,
        add: impl FnOnce(Worker) -> Worker + Send + 'static,
        note: impl FnOnce(&mut Registered),
    ) -> Self {
        let setup = self.setup.get_mut().unwrap_or_else(PoisonError::into_inner);
        if let Some(Setup { register, mut registered }) = setup.take() {
            note(&mut registered);
            *setup = Some(Setup { register: Box::new(move |worker| add(register(worker))), registered });
        }
        self
    }

    /// Runs this service: the real one, or a fake that implements the same trait.
    #[must_use]
    pub fn service(self, service: impl Service) -> Self {
        let (name, attempts) = (service.name(), self.attempts.clone());
        self.register(
            move |worker| worker.service(Counted { service, attempts }),
            |registered| {
                registered.services.insert(name);
            },
        )
    }

    /// Runs this workflow.
    #[must_use]
    pub fn workflow<W: Workflow>(self) -> Self {
        self.register(
            |worker| worker.workflow::<W>(),
            |registered| {
                registered.workflows.insert(W::NAME, Kind::for_workflow::<W>());
            },
        )
    }

    /// Runs [schedules](partitura_engine::Client::schedule). Register the workflows that they start, too.
    #[must_use]
    pub fn schedules(self) -> Self {
        self.workflow::<partitura_engine::ScheduleWorkflow>()
    }

    /// How often a task may fail whose retries have no end, before the test fails: they take no time here. 100 unless
    /// set.
    #[must_use]
    pub fn attempts(self, most: u32) -> Self {
        self.attempts.limit(most);
        self
    }

    /// Starts an instance.
    ///
    /// # Panics
    /// When it cannot be started, or its workflow is not registered; the message says why, and what to write.
    ///
    /// # Cancel safety
    /// Dropped, it may or may not have started; starting again is harmless.
    pub async fn start<W: Workflow>(&self, id: &str, input: W::Input) -> TestHandle<W> {
        let handle = self.running().await.client.workflow::<W>(id);
        match handle.start(input).await {
            Ok(_) => handle,
            Err(error) => panic!("workflow {}/{id} was not started: {error}", W::NAME),
        }
    }

    /// The client, for everything else.
    ///
    /// # Panics
    /// When the engine cannot be started; the message says why.
    ///
    /// # Cancel safety
    /// Safe.
    pub async fn client(&self) -> TestClient {
        TestClient::clone(&self.running().await.client)
    }

    /// Lets time pass. Timers that fall due meanwhile fire in their order, and their work is finished when this
    /// returns.
    ///
    /// # Panics
    /// When a task fails whose retries have no end, more often than [`attempts`](Self::attempts) allows; when an
    /// instance takes turn after turn, so that no time passes, for [so long](Self::give_up_after).
    ///
    /// # Cancel safety
    /// Dropped, some of the time has passed.
    pub async fn advance(&self, duration: Duration) {
        let mut repeated = self.attempts.subscribe();
        let Running { client, watch, .. } = self.running().await;
        tokio::select! {
            biased;
            () = tokio::time::sleep(duration) => {}
            reason = watch.stands_still(client, &mut repeated) => panic!("{reason}"),
        }
    }

    /// The time that workflows see.
    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    async fn running(&self) -> &Running {
        self.running.get_or_init(|| self.run()).await
    }

    async fn run(&self) -> Running {
        let options = Options::default().clock(self.clock.clone());
        let setup = self.setup.lock().unwrap_or_else(PoisonError::into_inner).take();
        let started = async {
            let broker = Arc::new(Embedded::memory(options)?);
            // In one process no reply is lost, so nobody has to ask again.
            let (turns, watched) = (Turns::default(), Arc::<OnceLock<Weak<TestClient>>>::default());
            let partitura = Partitura::on(broker)
                .clock(self.clock.clone())
                .ask_again(Duration::MAX)
                .replay_values(ReplayValues::Stop)
                .hopeless(unless_hopeless(watched.clone()))
                .await?;
            let (mut worker, mut registered) = (partitura.worker().layer(turns.clone()), Registered::default());
            if let Some(setup) = setup {
                (worker, registered) = ((setup.register)(worker), setup.registered);
            }
            let watch = Arc::new(Watch {
                registered,
                attempts: self.attempts.clone(),
                clock: self.clock.clone(),
                restless: Restless::new(turns, self.give_up_after),
                give_up_after: self.give_up_after,
            });
            let client = Arc::new(TestClient::new(partitura.client(), watch.clone()));
            let _ = watched.set(Arc::downgrade(&client));
            Ok::<_, partitura_broker::Error>(Running { client, watch, _worker: worker.start().await? })
        };
        match started.await {
            Ok(running) => running,
            Err(error) => panic!("the engine was not started: {error}"),
        }
    }
}

impl std::fmt::Debug for TestEnv {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TestEnv").field("now", &self.now()).finish_non_exhaustive()
    }
}

/// The end of a test that awaits the answer to an update which will not come.
fn unless_hopeless(
    client: Arc<OnceLock<Weak<TestClient>>>,
) -> impl Fn(&str, &str) -> BoxFuture<'static, Infallible> + Send + Sync {
    move |workflow, id| {
        let (client, instance) = (client.get().and_then(Weak::upgrade), (workflow.to_owned(), id.to_owned()));
        let waits = async move {
            match client {
                Some(client) => panic!("{}", client.hopeless((&instance.0, &instance.1)).await),
                None => std::future::pending().await,
            }
        };
        waits.boxed()
    }
}

/// Follows tokio's clock.
#[derive(Debug)]
struct VirtualClock {
    start: Instant,
    origin: Timestamp,
}

impl Clock for VirtualClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_millis(self.origin.as_millis() + u64::try_from(self.start.elapsed().as_millis()).unwrap_or(0))
    }

    fn now_rounded_up(&self) -> Timestamp {
        self.origin + self.start.elapsed()
    }
}
