//! Several processes on a broker without transactions, which refuses what the test says.

use std::fmt;
use std::sync::atomic::{AtomicIsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use partitura::{Builder, Partitura};
use partitura_broker::{AckToken, Broker, Delivery, ErrorKind, Message, ScanRange};
use partitura_engine::BrokerStore;

use crate::hooked::{Hooked, Hooks};
use crate::troubled::{Virtual, embedded};

type Refuse = Box<dyn Fn(&Message) -> Option<ErrorKind> + Send>;

/// A broker in memory, and beside it the state in another, in the virtual time of a paused runtime. Several engines on
/// it are as many processes.
#[derive(Clone)]
pub(crate) struct Place {
    broker: Arc<dyn Broker>,
    store: Arc<dyn Broker>,
    clock: Arc<Virtual>,
    watch: Arc<Watch>,
}

impl Place {
    pub(crate) fn new() -> Self {
        let clock = Virtual::new();
        Self { broker: embedded(&clock), store: embedded(&clock), clock, watch: Arc::default() }
    }

    /// From now on, what this gives an error for is not published.
    pub(crate) fn refuse(&self, refuse: impl Fn(&Message) -> Option<ErrorKind> + Send + 'static) {
        self.watch.set(Some(Box::new(refuse)));
    }

    /// Everything is published again.
    pub(crate) fn accept(&self) {
        self.watch.set(None);
    }

    /// The settings of one more process.
    pub(crate) fn builder(&self) -> Builder {
        self.builder_with(self.watch.clone())
    }

    /// The same, with other hooks.
    pub(crate) fn builder_with(&self, hooks: Arc<dyn Hooks>) -> Builder {
        let broker = Hooked::new(self.broker.clone(), hooks).without_transactions();
        let store = BrokerStore::new(self.store.clone()).expect("the embedded broker keeps state");
        Partitura::on(Arc::new(broker)).store(Arc::new(store)).clock(self.clock.clone()).ask_again(Duration::MAX)
    }

    /// One more process.
    pub(crate) async fn process(&self) -> Partitura {
        self.builder().await.expect("an engine")
    }

    /// How many deliveries all processes held at a time that were not settled, at most. None may be lost meanwhile.
    pub(crate) fn most_held(&self) -> isize {
        self.watch.most_held.load(Ordering::SeqCst)
    }

    /// How many values a space of the store has.
    pub(crate) async fn stored(&self, space: &'static str) -> usize {
        let range = ScanRange::prefix(space, bytes::Bytes::new());
        let transactions = self.store.transactions().expect("transactions");
        transactions.scan(range, 10_000).await.expect("readable").len()
    }
}

/// Refuses messages, and counts what is held.
#[derive(Default)]
struct Watch {
    refuse: Mutex<Option<Refuse>>,
    held: AtomicIsize,
    most_held: AtomicIsize,
}

impl Watch {
    fn set(&self, refuse: Option<Refuse>) {
        *self.refuse.lock().unwrap_or_else(PoisonError::into_inner) = refuse;
    }
}

impl Hooks for Watch {
    fn refuses(&self, message: &Message) -> Option<ErrorKind> {
        let refuse = self.refuse.lock().unwrap_or_else(PoisonError::into_inner);
        refuse.as_ref().and_then(|refuse| refuse(message))
    }

    fn delivered(&self, _delivery: &Delivery) {
        let held = self.held.fetch_add(1, Ordering::SeqCst) + 1;
        self.most_held.fetch_max(held, Ordering::SeqCst);
    }

    fn settled(&self, _token: AckToken) {
        self.held.fetch_sub(1, Ordering::SeqCst);
    }
}

impl fmt::Debug for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Watch")
    }
}
