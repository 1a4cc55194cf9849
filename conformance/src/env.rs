//! The environment of a case.

use std::future::Future;
use std::io::ErrorKind;
use std::sync::atomic::AtomicU32;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use partitura_broker::{Broker, Capabilities, Ordering, Result};
use tokio::sync::watch;

use crate::client::{A_MOMENT, Client, Queue};
use crate::proxy::Proxy;
use crate::subject::Subject;
use crate::{Counts, Harness, History, Record, Recorder, Stop};

/// The environment of a case: a namespace of its own, connections that record, and processes to kill.
pub(crate) struct Env {
    /// The id of the case.
    pub(crate) case: &'static str,
    pub(crate) harness: Arc<dyn Harness>,
    pub(crate) namespace: String,
    pub(crate) capabilities: Capabilities,
    pub(crate) recorder: Recorder,
    /// The time to wait for an expected event: see [`Harness::time_limit`].
    pub(crate) time_limit: Duration,
    /// Decides the random choices of the case.
    pub(crate) seed: u64,
    /// The subject of the test: the broker, or the suite itself.
    pub(crate) subject: Subject,
    /// The number of processes that were started.
    pub(crate) processes: AtomicU32,
    pub(crate) lateness: Mutex<Vec<u64>>,
}

impl Env {
    /// The broker's capabilities.
    pub(crate) fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    /// Opens a connection to this case's namespace, which records all of its use.
    ///
    /// # Errors
    /// Those of the harness.
    pub(crate) async fn connect(&self) -> Result<Client> {
        Ok(Client::new(self.recorder.wrap(self.unrecorded().await?), self.time_limit))
    }

    /// Opens a connection for faults that others notice only after the time-outs of the broker or of a client: its time
    /// limits are longer.
    ///
    /// # Errors
    /// Those of the harness.
    pub(crate) async fn connect_for_slow_faults(&self) -> Result<Client> {
        self.connect_within(4 * self.time_limit).await
    }

    /// Opens a connection with a time limit of its own.
    ///
    /// # Errors
    /// Those of the harness.
    pub(crate) async fn connect_within(&self, time_limit: Duration) -> Result<Client> {
        Ok(Client::new(self.recorder.wrap(self.unrecorded().await?), time_limit))
    }

    /// Opens several connections, as several processes would; one for all where the broker lives in its client.
    pub(crate) async fn connections(&self, count: usize) -> Result<Vec<Client>> {
        let first = self.connect().await?;
        if self.harness.lives_in_its_client() {
            return Ok(vec![first; count]);
        }
        let mut all = vec![first];
        while all.len() < count {
            all.push(self.connect().await?);
        }
        Ok(all)
    }

    /// Opens one that is not recorded: for load.
    pub(crate) async fn unrecorded(&self) -> Result<Arc<dyn Broker>> {
        Ok(self.subject.broker(self.harness.connect(&self.namespace).await?))
    }

    /// Returns the size of a load: smaller if the suite tests itself.
    pub(crate) fn load(&self, full: usize, little: usize) -> usize {
        if self.subject.is_little { little } else { full }
    }

    /// A proxy before the broker.
    pub(crate) async fn proxy(&self) -> Result<Proxy, Stop> {
        let network = self.harness.network().ok_or("the case uses a proxy and does not say that it needs to")?;
        let starting = async {
            loop {
                match Proxy::start(network.listen(), network.upstream()).await {
                    // The proxy of the previous case ends with its runtime.
                    Err(error) if error.kind() == ErrorKind::AddrInUse => tokio::time::sleep(A_MOMENT).await,
                    result => return result,
                }
            }
        };
        Ok(self.within("the proxy's address to be free", starting).await??)
    }

    /// Opens a connection to this case's namespace through a proxy. Faults there are noticed only after the
    /// time-outs of the broker or the client, so the time limits are longer.
    ///
    /// # Errors
    /// Those of the harness.
    pub(crate) async fn connect_through(&self, proxy: &Proxy) -> Result<Client, Stop> {
        let network = self.harness.network().ok_or("the case uses a proxy and does not say that it needs to")?;
        let broker = self.subject.broker(network.connect(&self.namespace, proxy.address()).await?);
        Ok(Client::new(self.recorder.wrap(broker), 4 * self.time_limit))
    }

    /// The queue `name` with a subscription: ordered by key, or shared.
    pub(crate) fn queue(&self, name: &str, ordering: Ordering) -> Queue {
        Queue::new(&self.namespace, name, ordering)
    }

    /// An ordered queue in a few partitions, for most cases.
    pub(crate) fn orders(&self) -> Queue {
        self.queue("orders", Ordering::ByKey { partitions: 4 })
    }

    /// The history so far.
    pub(crate) fn history(&self) -> History {
        self.recorder.history()
    }

    /// Writes a note to the history: for the reader, and for [`until`](Self::until).
    pub(crate) fn note(&self, text: impl Into<String>) {
        self.recorder.note(Record::Note(text.into()));
    }

    /// Waits until the counts fulfil a condition, in all processes together.
    pub(crate) async fn until(&self, what: &str, reached: impl FnMut(&Counts) -> bool) -> Result<(), Stop> {
        let mut counts: watch::Receiver<Counts> = self.recorder.counts();
        self.within(what, counts.wait_for(reached)).await?.map_err(|_| Stop::new("the recorder is gone"))?;
        Ok(())
    }

    /// Waits until the history fulfils a condition. It is more expensive than [`until`](Self::until).
    pub(crate) async fn reaches(&self, what: &str, reached: impl Fn(&History) -> bool) -> Result<(), Stop> {
        let reaches = async {
            while !reached(&self.history()) {
                // It does not look after every single entry.
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        self.within(what, reaches).await
    }

    /// Waits for an expected event.
    pub(crate) async fn within<T>(&self, what: &str, future: impl Future<Output = T>) -> Result<T, Stop> {
        let answer = tokio::time::timeout(self.time_limit, future).await;
        answer.map_err(|_| Stop::new(format!("nothing came within {:?}: {what}", self.time_limit)))
    }

    /// For a part: does nothing until the process is killed.
    pub(crate) async fn hold(&self) -> Result<(), Stop> {
        std::future::pending().await
    }

    /// Keeps measured lateness, in milliseconds, for the report; only the last that is given.
    pub(crate) fn report_lateness(&self, values: &[u64]) {
        *self.lateness.lock().unwrap_or_else(PoisonError::into_inner) = values.to_vec();
    }

    /// A sequence of pseudo-random numbers, the same in each run of this case with the same seed.
    pub(crate) fn chance(&self) -> Chance {
        Chance(self.case.bytes().fold(self.seed, |seed: u64, byte| seed.wrapping_mul(31).wrapping_add(u64::from(byte))))
    }
}

impl std::fmt::Debug for Env {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Env").field("case", &self.case).field("namespace", &self.namespace).finish_non_exhaustive()
    }
}

/// Pseudo-random numbers: SplitMix64.
#[derive(Debug, Clone)]
pub(crate) struct Chance(u64);

impl Chance {
    /// Another sequence, for one of several.
    pub(crate) fn fork(mut self, number: usize) -> Self {
        Self(self.below(u64::MAX) ^ number as u64)
    }

    /// A number below `end`.
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % end.max(1)
    }
}
