//! Persist, then publish, then settle: in one transaction where the broker can, else in steps that a crash between any
//! two of them leaves repairable.

use std::sync::Arc;

use bytes::Bytes;
use partitura_broker::{
    Broker, Clock, Entry, Error, ErrorKind, Partition, Producer, ProducerOptions, Put, Result, ScanRange, Space,
    TopicName, Unit, Version, telemetry,
};

use crate::storage::outbox::{Outbox, lost_result, publish};
use crate::storage::store::{BrokerStore, Store};
use crate::telemetry::metrics::{self, Stopwatch};
use crate::wire::Payloads;
use crate::wire::namespace::Namespace;

/// `workflow NUL id NUL run turn` → the turn's events.
pub(crate) const HISTORY: Space = "history";

/// The number of ranges that are read in one request.
const RANGES: usize = 1_000;

/// The work that is left for the input after a commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Settlement {
    /// Nothing: it was settled in the same transaction.
    Done,
    /// It is to be settled now.
    Due,
}

/// Commits turns.
#[derive(Debug, Clone)]
pub(crate) struct TurnStore {
    mode: Arc<Mode>,
    namespace: Namespace,
    payloads: Payloads,
}

#[derive(Debug)]
enum Mode {
    /// The broker settles, publishes and writes state in one transaction.
    Atomic { broker: Arc<dyn Broker>, store: BrokerStore },
    /// The state and the outbox are one write to the store; then the outbox is published; then the input is settled.
    Outbox { broker: Arc<dyn Broker>, outbox: Outbox, clock: Arc<dyn Clock> },
    /// For clients, which only read, if they have a store.
    Read { store: Option<Arc<dyn Store>> },
    /// Without state: what is decided is published, then the input is settled.
    Publish { producer: Box<dyn Producer> },
}

impl TurnStore {
    /// For a workflow: uses `store` where one is given, else the broker's own transactions.
    pub(crate) async fn of_workflow(
        broker: &Arc<dyn Broker>,
        store: Option<Arc<dyn Store>>,
        clock: Arc<dyn Clock>,
        namespace: Namespace,
        (workflow, commands): (&str, TopicName),
    ) -> Result<Self> {
        let mode = match store {
            None => Mode::Atomic { broker: broker.clone(), store: BrokerStore::new(broker.clone())? },
            Some(store) => {
                let producer = broker.producer(ProducerOptions::default()).await?;
                let outbox = Outbox::new(workflow, commands, namespace.clone(), store, producer);
                Mode::Outbox { broker: broker.clone(), outbox, clock }
            }
        };
        Ok(Self { mode: Arc::new(mode), namespace, payloads: Payloads::default() })
    }

    /// For clients: uses `store` where one is given, else the broker's own transactions.
    pub(crate) fn of_client(broker: &Arc<dyn Broker>, store: Option<Arc<dyn Store>>, namespace: Namespace) -> Self {
        let of_broker = || BrokerStore::new(broker.clone()).ok().map(|store| Arc::new(store) as Arc<dyn Store>);
        let mode = Arc::new(Mode::Read { store: store.or_else(of_broker) });
        Self { mode, namespace, payloads: Payloads::default() }
    }

    /// For services, which keep no state.
    pub(crate) async fn of_services(broker: &Arc<dyn Broker>) -> Result<Self> {
        let mode = match BrokerStore::new(broker.clone()) {
            Ok(store) => Mode::Atomic { broker: broker.clone(), store },
            Err(_) => Mode::Publish { producer: broker.producer(ProducerOptions::default()).await? },
        };
        Ok(Self { mode: Arc::new(mode), namespace: Namespace::default(), payloads: Payloads::default() })
    }

    /// Has payloads written like this.
    pub(crate) fn payloads_by(self, payloads: &Payloads) -> Self {
        Self { payloads: payloads.clone(), ..self }
    }

    /// How payloads are written and read.
    pub(crate) fn payloads(&self) -> &Payloads {
        &self.payloads
    }

    /// Where messages wait to be confirmed, if the broker cannot send them with the commit.
    pub(crate) fn outbox(&self) -> Option<&Outbox> {
        match &*self.mode {
            Mode::Outbox { outbox, .. } => Some(outbox),
            Mode::Atomic { .. } | Mode::Read { .. } | Mode::Publish { .. } => None,
        }
    }

    /// Whether values can be read and written.
    pub(crate) fn has_store(&self) -> bool {
        self.store().is_ok()
    }

    fn store(&self) -> Result<&dyn Store> {
        match &*self.mode {
            Mode::Atomic { store, .. } => Ok(store),
            Mode::Outbox { outbox, .. } => Ok(outbox.store()),
            Mode::Read { store: Some(store) } => Ok(&**store),
            Mode::Read { store: None } => {
                let message = "this connection has no store; give it the one of the workers: connect(…).store(…)";
                Err(Error::new(ErrorKind::Unsupported, "load", message))
            }
            Mode::Publish { .. } => Err(Error::new(ErrorKind::Unsupported, "load", "services keep no state")),
        }
    }

    /// Reports on a task: publishes, and settles where the broker can do both at once.
    ///
    /// # Errors
    /// `Fenced`: the task is another's now. Those of the broker.
    pub(crate) async fn report(&self, unit: Unit) -> Result<Settlement> {
        match &*self.mode {
            Mode::Publish { producer } => {
                debug_assert!(unit.put.is_empty(), "services keep no state");
                publish(&**producer, unit.publish).await.map(|()| Settlement::Due)
            }
            _ => self.commit(unit, (Partition::default(), 0), &Bytes::new()).await,
        }
    }

    /// Makes one turn durable and sends what it decided to send. `owned` is the partition of its input, and how often
    /// that had gone elsewhere when the turn began; `run` is what the keys of its run's history begin with. A message
    /// that the broker does not take now is kept in the outbox, and sent later.
    ///
    /// # Errors
    /// `Conflict`: nothing happened, another owner was faster. `Fenced`: nothing happened, the input is another's now.
    /// Any other error: load the instance again.
    pub(crate) async fn commit(&self, mut unit: Unit, owned: (Partition, u64), run: &Bytes) -> Result<Settlement> {
        match &*self.mode {
            Mode::Atomic { broker, .. } => {
                let Some(transactions) = broker.transactions() else {
                    return Err(Error::new(ErrorKind::Unsupported, "commit", "the broker has no transactions"));
                };
                unit.put.iter_mut().for_each(|put| put.key = self.namespace.key(&put.key));
                let (system, watch) = (&broker.capabilities().broker, Stopwatch::start());
                telemetry::sent(system.split(' ').next().unwrap_or(system), unit.publish.len());
                let mut results = transactions.commit(vec![unit]).await;
                metrics::committed(results.first().is_some_and(Result::is_ok), watch);
                debug_assert_eq!(results.len(), 1, "one result per unit");
                results.pop().unwrap_or_else(lost_result).map(|()| Settlement::Done)
            }
            Mode::Outbox { broker, outbox, clock } => {
                // A message that the broker will never take must not become history.
                unit.publish.iter().try_for_each(|message| broker.capabilities().check(message, clock.now()))?;
                self.commit_with_outbox(outbox, unit, owned, run).await.map(|()| Settlement::Due)
            }
            Mode::Read { .. } | Mode::Publish { .. } => {
                Err(Error::new(ErrorKind::Unsupported, "commit", "only workers of a workflow keep state"))
            }
        }
    }

    async fn commit_with_outbox(
        &self,
        outbox: &Outbox,
        unit: Unit,
        (partition, term): (Partition, u64),
        run: &Bytes,
    ) -> Result<()> {
        let under_way = outbox.begin(partition, term)?;
        let Unit { publish, mut put, .. } = unit;
        let history = put.iter().rfind(|put| put.space == HISTORY).map(|put| &put.key);
        let row = outbox.row(partition, run, history, &publish);
        put.iter_mut().for_each(|put| put.key = self.namespace.key(&put.key));
        let row = row.map(|(row, kept)| {
            put.push(kept);
            row
        });
        if !put.is_empty()
            && let Err(error) = written(outbox, put).await
        {
            if let Some(row) = row.filter(|_| error.kind() != ErrorKind::Conflict) {
                outbox.doubt(row, &under_way);
            }
            return Err(error);
        }
        if let Some(row) = row {
            outbox.send(row, publish, &under_way).await;
        }
        Ok(())
    }

    /// Writes groups of values, none of which is part of a turn.
    pub(crate) async fn write(&self, mut groups: Vec<Vec<Put>>) -> Result<Vec<Result<()>>> {
        groups.iter_mut().flatten().for_each(|put| put.key = self.namespace.key(&put.key));
        Ok(self.store()?.write(groups).await)
    }

    pub(crate) async fn get(&self, space: Space, key: Bytes) -> Result<Option<(Version, Bytes)>> {
        self.store()?.get(space, self.namespace.key(&key)).await
    }

    pub(crate) async fn scan(&self, range: ScanRange, limit: usize) -> Result<Vec<Entry>> {
        let mut entries = self.store()?.scan(self.namespace.range(range), limit).await?;
        self.strip(&mut entries);
        Ok(entries)
    }

    /// Reads several ranges in one request, as long as they are no more than [`RANGES`].
    pub(crate) async fn scan_each(&self, ranges: Vec<ScanRange>, limit: usize) -> Result<Vec<Vec<Entry>>> {
        let mut found = Vec::with_capacity(ranges.len());
        for ranges in self.in_namespace(ranges) {
            found.extend(self.store()?.scan_each(ranges, limit).await?);
        }
        found.iter_mut().for_each(|entries| self.strip(entries));
        Ok(found)
    }

    /// Counts several ranges in one request, as long as they are no more than [`RANGES`].
    pub(crate) async fn count_each(&self, ranges: Vec<ScanRange>, limit: usize) -> Result<Vec<usize>> {
        let mut counted = Vec::with_capacity(ranges.len());
        for ranges in self.in_namespace(ranges) {
            counted.extend(self.store()?.count_each(ranges, limit).await?);
        }
        Ok(counted)
    }

    /// Ranges as the store has them, in parts of what one request takes.
    fn in_namespace(&self, ranges: Vec<ScanRange>) -> Vec<Vec<ScanRange>> {
        let ranges: Vec<ScanRange> = ranges.into_iter().map(|range| self.namespace.range(range)).collect();
        ranges.chunks(RANGES).map(<[_]>::to_vec).collect()
    }

    fn strip(&self, entries: &mut [Entry]) {
        for entry in entries {
            entry.key = self.namespace.strip(std::mem::take(&mut entry.key));
        }
    }
}

/// Writes what belongs together to the store beside the broker.
async fn written(outbox: &Outbox, put: Vec<Put>) -> Result<()> {
    let watch = Stopwatch::start();
    let result = outbox.store().write(vec![put]).await.pop().unwrap_or_else(lost_result);
    metrics::committed(result.is_ok(), watch);
    result
}

/// Whether the broker will never take what a commit sends, however often it is tried.
pub(crate) fn is_unsendable(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::PayloadTooLarge | ErrorKind::InvalidArgument)
}
