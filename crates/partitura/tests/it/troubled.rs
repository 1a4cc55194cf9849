//! A broker that can be away, cut off, or short of patience, for tests in virtual time.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use partitura::Partitura;
use partitura_broker::{AckToken, Broker, Clock, Delivery, Error, ErrorKind, Result, SystemClock, Timestamp};
use partitura_embedded::{Embedded, Options};
use partitura_engine::BrokerStore;
use tokio::time::Instant;

use crate::hooked::{Hooked, Hooks};

/// Follows the paused clock of the test's runtime.
#[derive(Debug)]
pub(crate) struct Virtual {
    start: Instant,
    origin: Timestamp,
}

impl Virtual {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self { start: Instant::now(), origin: SystemClock.now() })
    }
}

impl Clock for Virtual {
    fn now(&self) -> Timestamp {
        Timestamp::from_millis(self.origin.as_millis() + self.start.elapsed().as_millis() as u64)
    }

    fn now_rounded_up(&self) -> Timestamp {
        self.origin + self.start.elapsed()
    }
}

/// The faults of a broker.
#[derive(Debug, Default)]
pub(crate) struct Troubles {
    /// It refuses everything that is sent.
    away: AtomicBool,
    /// Nothing that is sent arrives, and nothing is answered.
    cut: AtomicBool,
    /// For how long it lets a delivery be held, where that has a limit.
    hold: OnceLock<Duration>,
    /// The held messages, and since when.
    held: Mutex<HashMap<AckToken, Instant>>,
    /// Deliveries that were held for longer than it allows.
    overheld: AtomicUsize,
}

impl Troubles {
    pub(crate) fn set_away(&self, away: bool) {
        self.away.store(away, Ordering::SeqCst);
    }

    pub(crate) fn cut_off(&self) {
        self.cut.store(true, Ordering::SeqCst);
    }

    pub(crate) fn overheld(&self) -> usize {
        self.overheld.load(Ordering::SeqCst)
    }
}

#[async_trait]
impl Hooks for Troubles {
    async fn before_sending(&self) -> Result<()> {
        if self.cut.load(Ordering::SeqCst) {
            std::future::pending::<()>().await;
        }
        if self.away.load(Ordering::SeqCst) {
            return Err(Error::new(ErrorKind::Disconnected, "publish", "the broker is away"));
        }
        Ok(())
    }

    fn delivered(&self, delivery: &Delivery) {
        self.held.lock().unwrap_or_else(PoisonError::into_inner).insert(delivery.token, Instant::now());
    }

    fn settled(&self, token: AckToken) {
        let since = self.held.lock().unwrap_or_else(PoisonError::into_inner).remove(&token);
        let held = since.map(|since| since.elapsed());
        if held.zip(self.hold.get()).is_some_and(|(held, hold)| held > *hold) {
            self.overheld.fetch_add(1, Ordering::SeqCst);
        }
    }
}

/// One process' view of an embedded broker in memory.
#[derive(Debug)]
pub(crate) struct Troubled {
    state: Arc<Embedded>,
    broker: Hooked,
    pub(crate) troubles: Arc<Troubles>,
}

/// An embedded broker in memory that follows the clock.
pub(crate) fn embedded(clock: &Arc<Virtual>) -> Arc<Embedded> {
    Arc::new(Embedded::memory(Options::default().clock(clock.clone())).expect("a broker in memory"))
}

impl Troubled {
    pub(crate) fn new(inner: &Arc<Embedded>) -> Self {
        let troubles = Arc::<Troubles>::default();
        Self { state: inner.clone(), broker: Hooked::new(inner.clone(), troubles.clone()), troubles }
    }

    /// As one of those brokers that have no transactions.
    pub(crate) fn without_transactions(mut self) -> Self {
        self.broker = self.broker.without_transactions();
        self
    }

    /// As one that takes a delivery away that is held for this long.
    pub(crate) fn hold(mut self, limit: Duration) -> Self {
        self.broker.capabilities.hold = Some(limit);
        self.troubles.hold.set(limit).expect("it has one limit");
        self
    }

    /// As one that delays for no longer than this.
    pub(crate) fn delay(mut self, limit: Duration) -> Self {
        self.broker.capabilities.delay.max = limit;
        self
    }

    pub(crate) fn broker(self) -> Arc<dyn Broker> {
        Arc::new(self.broker)
    }

    /// An engine on it; the state is kept by the embedded broker.
    pub(crate) async fn engine(self, clock: &Arc<Virtual>) -> Partitura {
        let store = self.broker.transactions().is_none().then(|| BrokerStore::new(self.state.clone()));
        let builder = Partitura::on(self.broker()).clock(clock.clone()).ask_again(Duration::MAX);
        let builder = match store {
            Some(store) => builder.store(Arc::new(store.expect("it keeps state"))),
            None => builder,
        };
        builder.await.expect("an engine")
    }
}
