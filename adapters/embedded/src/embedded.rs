use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use partitura_broker::{
    Broker, Capabilities, Consumer, ConsumerOptions, CorrectedClock, Delay, Durability, Error, ErrorKind, Inbox,
    Limits, Producer, ProducerOptions, Result, Supports, Timestamp, TopicKind, TopicName, Topology, Transactions,
};
use tokio::time::Instant;

use crate::client::{Client, answered};
use crate::consumer::EmbeddedConsumer;
use crate::core::Core;
use crate::delay::MAX_DELAY;
use crate::error;
use crate::file::Directory;
use crate::inbox::EmbeddedInbox;
use crate::options::Options;
use crate::producer::EmbeddedProducer;
use crate::request::{Request, Work};
use crate::state::State;
use crate::storage::{self, Storage};
use crate::topics::Catalog;
use crate::writer::Writer;

/// A durable broker in this process.
///
/// Cloning gives another handle to the same broker. When the last handle, producer and consumer is dropped,
/// accepted messages are still written, in the background; [`close`](Broker::close) waits for it.
///
/// # Durability
/// With a file, a [`Receipt`](partitura_broker::Receipt) and the result of a commit mean that the data were synced to
/// stable storage. Settlements are written within a few milliseconds: messages that were settled just before a crash
/// may be delivered again after it. In memory, nothing survives the process.
///
/// # One process at a time
/// owns a file. Others may read it with any SQLite tool while it is in use.
#[derive(Debug, Clone)]
pub struct Embedded {
    client: Arc<Client>,
}

impl Embedded {
    /// Opens the broker whose data are in `directory`, in the file `partitura.db`. Both are created if missing.
    ///
    /// Blocks while the file is checked and the places of its messages are read: about half a second for a million. Do
    /// not use it with tokio's paused clock, which does not know that a thread is writing and lets confirms time out;
    /// see [`memory`](Self::memory).
    ///
    /// # Errors
    /// [`Busy`](ErrorKind::Busy): another process, or this one, has it open; the message says which.
    /// [`Incompatible`](ErrorKind::Incompatible): the file is not one of ours, or was written by a newer version.
    /// [`Corrupt`](ErrorKind::Corrupt): the file is damaged. [`Storage`](ErrorKind::Storage): it cannot be read or
    /// written. In all cases the data are left as they were.
    pub fn open(directory: impl AsRef<Path>, options: Options) -> Result<Self> {
        let now = options.clock.now();
        let directory = Directory::open(directory.as_ref(), now, options.check_up_to)?;
        let storage = Storage::open(directory.file())?;
        let (writer, state) = restore(storage, &options, now)?;
        let core =
            Core::new(capabilities(Durability::Synced, options.limits), CorrectedClock::over(options.clock), state);
        Ok(Self { client: Arc::new(Client::open(core, writer, directory)?) })
    }

    /// Makes a broker that keeps everything in memory, and does all work in the calling task: no thread, no file.
    ///
    /// # Errors
    /// [`Storage`](ErrorKind::Storage), when there is no memory for it.
    pub fn memory(options: Options) -> Result<Self> {
        let (writer, state) = restore(Storage::memory()?, &options, options.clock.now())?;
        let core =
            Core::new(capabilities(Durability::Memory, options.limits), CorrectedClock::over(options.clock), state);
        Ok(Self { client: Arc::new(Client::memory(core, writer)) })
    }

    pub(crate) fn client(&self) -> &Arc<Client> {
        &self.client
    }

    fn core(&self) -> &Core {
        self.client.core()
    }

    fn check_open(&self, operation: &'static str) -> Result<()> {
        if self.core().state().is_closed() { Err(error::closed(operation)) } else { Ok(()) }
    }
}

/// Reads the stored state.
fn restore(storage: Storage, options: &Options, now: Timestamp) -> Result<(Writer, State)> {
    let mut state = State::new(options.resident_bytes);
    let mut rows = Vec::new();
    let catalog = storage.read(|connection| {
        storage::messages(connection, |row| rows.push(row))?;
        Catalog::load(connection)
    })?;
    let next = rows.last().map_or(1, |row| row.seq + 1);
    let latest = rows.iter().filter(|row| !row.delayed).map(|row| row.ready_at).max().unwrap_or_default();
    state.set_catalog(Arc::new(catalog));
    state.restore(rows, now)?;
    Ok((Writer::new(storage, next, Timestamp::from_millis(latest)), state))
}

fn capabilities(durability: Durability, limits: Limits) -> Capabilities {
    Capabilities {
        broker: concat!("embedded ", env!("CARGO_PKG_VERSION")).into(),
        durability,
        delay: Delay { native: true, max: MAX_DELAY, lateness: Duration::from_millis(20) },
        hold: None,
        limits,
        supports: Supports { transactions: true, deduplication: None, cancellation: true },
    }
}

/// Numbers are unique in the process, so that a token of a closed broker is void for one that was opened later.
fn consumer_number() -> u32 {
    static NEXT: AtomicU32 = AtomicU32::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

#[async_trait]
impl Broker for Embedded {
    fn capabilities(&self) -> &Capabilities {
        &self.core().capabilities
    }

    fn clock(&self) -> CorrectedClock {
        self.core().clock.clone()
    }

    async fn declare(&self, topology: &Topology) -> Result<()> {
        topology.validate()?;
        let (request, answer) = Request::one(Work::Declare(topology.clone()), Vec::new());
        self.client.submit(request)?;
        answered("declare", answer).await?
    }

    async fn producer(&self, options: ProducerOptions) -> Result<Box<dyn Producer>> {
        self.check_open("open a producer")?;
        Ok(Box::new(EmbeddedProducer::new(self.client.clone(), &options)))
    }

    async fn consumer(&self, options: ConsumerOptions) -> Result<Box<dyn Consumer>> {
        options.validate()?;
        self.check_open("consume")?;
        let id = consumer_number();
        let mut state = self.core().state();
        let (notify, competing) = match &options.subscription {
            Some(name) => {
                let group = state.catalog().group(name, &options.topics)?;
                state.join(id, group, options.credit, options.revoke_within, Instant::now())
            }
            None => {
                let topic = &options.topics[0];
                let found = state.catalog().topic("consume", topic)?.topic.clone();
                if found.kind != TopicKind::Stream {
                    let message = "a queue cannot be broadcast: each of its messages is for one consumer only";
                    return Err(Error::new(ErrorKind::InvalidArgument, "consume", message).of(topic));
                }
                (state.listen(id, topic.clone(), found.ordering, options.credit), Arc::default())
            }
        };
        drop(state);
        Ok(Box::new(EmbeddedConsumer::new(self.client.clone(), id, notify, competing)))
    }

    async fn inbox(&self) -> Result<Box<dyn Inbox>> {
        self.check_open("open an inbox")?;
        Ok(Box::new(EmbeddedInbox::new(self.client.clone())))
    }

    fn has_subscribers(&self, topic: &TopicName) -> bool {
        self.core().state().has_subscribers(topic)
    }

    fn transactions(&self) -> Option<&dyn Transactions> {
        Some(self)
    }

    async fn close(&self) -> Result<()> {
        self.client.close().await
    }
}
