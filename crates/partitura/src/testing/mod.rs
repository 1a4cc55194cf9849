//! Tests of workflows: the real engine in the test's own process, in virtual time.
//!
//! A workflow that sleeps for a month is tested in a millisecond: time stands still while anything runs, and moves on to
//! the next timer when nothing does.
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

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use partitura_broker::{Clock, SystemClock, Timestamp};
use partitura_embedded::{Embedded, Options};
use partitura_engine::{Client, Partitura, RunningWorker, Worker, WorkflowHandle};
use partitura_workflow::{Service, Workflow};
use tokio::sync::OnceCell;
use tokio::time::Instant;

type Register = Box<dyn FnOnce(Worker) -> Worker + Send>;

/// An engine of its own on a broker in memory, for one test.
pub struct TestEnv {
    register: Mutex<Option<Register>>,
    clock: Arc<VirtualClock>,
    running: OnceCell<(Partitura, RunningWorker)>,
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
        Self { register: Mutex::new(Some(Box::new(|worker| worker))), clock, running: OnceCell::new() }
    }

    fn register(self, add: impl FnOnce(Worker) -> Worker + Send + 'static) -> Self {
        let mut register = self.register.lock().unwrap_or_else(PoisonError::into_inner);
        let earlier = register.take();
        *register = Some(Box::new(move |worker| add(earlier.into_iter().fold(worker, |worker, add| add(worker)))));
        drop(register);
        self
    }

    /// Runs this service: the real one, or a fake that implements the same trait.
    #[must_use]
    pub fn service(self, service: impl Service) -> Self {
        self.register(|worker| worker.service(service))
    }

    /// Runs this workflow.
    #[must_use]
    pub fn workflow<W: Workflow>(self) -> Self {
        self.register(|worker| worker.workflow::<W>())
    }

    /// Starts an instance.
    ///
    /// # Panics
    /// When it cannot be started; the message says why.
    ///
    /// # Cancel safety
    /// Dropped, it may or may not have started; starting again is harmless.
    pub async fn start<W: Workflow>(&self, id: &str, input: W::Input) -> WorkflowHandle<W> {
        let handle = self.client().await.workflow::<W>(id);
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
    pub async fn client(&self) -> Client {
        self.running.get_or_init(|| self.run()).await.0.client()
    }

    /// Lets time pass. What falls due meanwhile happens in its order, and is finished when this returns.
    ///
    /// # Cancel safety
    /// Dropped, some of the time has passed.
    pub async fn advance(&self, duration: Duration) {
        tokio::time::sleep(duration).await;
    }

    /// The time that workflows see.
    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    async fn run(&self) -> (Partitura, RunningWorker) {
        let options = Options::default().clock(self.clock.clone());
        let register = self.register.lock().unwrap_or_else(PoisonError::into_inner).take();
        let started = async {
            let broker = Arc::new(Embedded::memory(options)?);
            // In one process no reply is lost, so nobody has to ask again.
            let partitura = Partitura::on(broker).clock(self.clock.clone()).ask_again(Duration::MAX).await?;
            let worker = register.into_iter().fold(partitura.worker(), |worker, register| register(worker));
            let running = worker.start().await?;
            Ok::<_, partitura_broker::Error>((partitura, running))
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
}
