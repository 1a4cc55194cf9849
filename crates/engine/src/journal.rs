//! Persist, then publish, then settle: in one transaction where the broker can, else in steps that a crash between any
//! two of them leaves repairable.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use partitura_broker::{
    Broker, Clock, Entry, Error, ErrorKind, Expect, Message, Producer, ProducerOptions, Put, Result, ScanRange, Space,
    Timestamp, TopicName, Unit, Version,
};
use serde::{Deserialize, Serialize};

use crate::history::HISTORY;
use crate::namespace::Namespace;
use crate::store::{BrokerStore, Store};
use crate::wire;

/// Messages that a turn decided to send, until they are confirmed.
const OUTBOX: Space = "outbox";

/// How many outbox rows are read at a time.
const PAGE: usize = 500;

/// What is left to do for the input after a commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Settlement {
    /// Nothing: it was settled in the same transaction.
    Done,
    /// It is to be settled now.
    Due,
}

/// Commits turns.
#[derive(Debug, Clone)]
pub(crate) struct Journal {
    mode: Arc<Mode>,
    namespace: Namespace,
}

#[derive(Debug)]
enum Mode {
    /// The broker settles, publishes and writes state in one transaction.
    Atomic { broker: Arc<dyn Broker>, store: BrokerStore },
    /// The state and the outbox are one write to the store; then the outbox is published; then the input is settled.
    Outbox {
        broker: Arc<dyn Broker>,
        store: Arc<dyn Store>,
        producer: Box<dyn Producer>,
        clock: Arc<dyn Clock>,
        /// Rows of the outbox that were sent and are still there.
        sent: Mutex<Vec<Bytes>>,
    },
    /// Without state: what is decided is published, then the input is settled.
    Publish { producer: Box<dyn Producer> },
}

impl Journal {
    /// For workflows: uses `store` where one is given, else the broker's own transactions.
    pub(crate) async fn of_workflows(
        broker: &Arc<dyn Broker>,
        store: Option<Arc<dyn Store>>,
        clock: Arc<dyn Clock>,
        namespace: Namespace,
    ) -> Result<Self> {
        let mode = match store {
            None => Mode::Atomic { broker: broker.clone(), store: BrokerStore::new(broker.clone())? },
            Some(store) => {
                let producer = broker.producer(ProducerOptions::default()).await?;
                Mode::Outbox { broker: broker.clone(), store, producer, clock, sent: Mutex::default() }
            }
        };
        Ok(Self { mode: Arc::new(mode), namespace })
    }

    /// For services, which keep no state.
    pub(crate) async fn of_services(broker: &Arc<dyn Broker>) -> Result<Self> {
        let mode = match BrokerStore::new(broker.clone()) {
            Ok(store) => Mode::Atomic { broker: broker.clone(), store },
            Err(_) => Mode::Publish { producer: broker.producer(ProducerOptions::default()).await? },
        };
        Ok(Self { mode: Arc::new(mode), namespace: Namespace::default() })
    }

    /// Whether there may be something to [`recover`](Self::recover).
    pub(crate) fn has_outbox(&self) -> bool {
        matches!(&*self.mode, Mode::Outbox { .. })
    }

    fn store(&self) -> Result<&dyn Store> {
        match &*self.mode {
            Mode::Atomic { store, .. } => Ok(store),
            Mode::Outbox { store, .. } => Ok(&**store),
            Mode::Publish { .. } => Err(Error::new(ErrorKind::Unsupported, "load", "services keep no state")),
        }
    }

    /// Makes one turn durable and sends what it decided to send.
    ///
    /// `Conflict`: nothing happened, another owner was faster. `Fenced`: nothing happened, the input is another's now.
    /// Any other error: load the instance again; [`recover`](Self::recover) sends what was decided and not sent.
    pub(crate) async fn commit(&self, mut unit: Unit) -> Result<Settlement> {
        unit.put.iter_mut().for_each(|put| put.key = self.namespace.key(&put.key));
        match &*self.mode {
            Mode::Atomic { broker, .. } => {
                let Some(transactions) = broker.transactions() else {
                    return Err(Error::new(ErrorKind::Unsupported, "commit", "the broker has no transactions"));
                };
                let mut results = transactions.commit(vec![unit]).await;
                debug_assert_eq!(results.len(), 1, "one result per unit");
                results.pop().unwrap_or_else(lost_result).map(|()| Settlement::Done)
            }
            Mode::Outbox { broker, store, producer, clock, sent } => {
                let Unit { publish, mut put, .. } = unit;
                // What the broker will never take must not become history.
                publish.iter().try_for_each(|message| broker.capabilities().check(message, clock.now()))?;
                // Beside the turn's own row, so that loading the run finds it.
                let row = put.iter().rfind(|put| put.space == HISTORY);
                let outbox = row.filter(|_| !publish.is_empty()).map(|row| row.key.clone());
                if let Some(key) = &outbox {
                    let value = Some(encode_outbox(&publish));
                    put.push(Put { space: OUTBOX, key: key.clone(), expect: Expect::Any, value });
                }
                if !put.is_empty() {
                    let removals = std::mem::take(&mut *sent.lock().unwrap_or_else(PoisonError::into_inner));
                    let mut results = store.write(vec![put, removals.into_iter().map(removal).collect()]).await;
                    results.truncate(1);
                    results.pop().unwrap_or_else(lost_result)?;
                }
                send(&**producer, publish).await?;
                if let Some(key) = outbox {
                    sent.lock().unwrap_or_else(PoisonError::into_inner).push(key);
                }
                Ok(Settlement::Due)
            }
            Mode::Publish { producer } => {
                debug_assert!(unit.put.is_empty(), "services keep no state");
                send(&**producer, unit.publish).await.map(|()| Settlement::Due)
            }
        }
    }

    /// Sends what earlier turns decided to send and may not have sent: those whose history keys begin with `prefix`,
    /// or, with an empty prefix, all. The receivers ignore what they had already.
    pub(crate) async fn recover(&self, prefix: Bytes) -> Result<usize> {
        let Mode::Outbox { store, producer, sent, .. } = &*self.mode else { return Ok(0) };
        let mut range = self.namespace.range(ScanRange::prefix(OUTBOX, prefix));
        let mut recovered = 0;
        loop {
            let page = store.scan(range.clone(), PAGE).await?;
            let Some(last) = page.last() else { return Ok(recovered) };
            range = range.after(&last.key);
            let full = page.len() == PAGE;
            let (mut unsent, mut removals) = (Vec::new(), Vec::with_capacity(page.len()));
            for Entry { key, value, .. } in page {
                // Confirmed by this process, and only still there because nothing was written since.
                let is_sent = sent.lock().unwrap_or_else(PoisonError::into_inner).contains(&key);
                if !is_sent {
                    unsent.extend(decode_outbox(&key, &value)?);
                    recovered += 1;
                }
                removals.push(removal(key));
            }
            send(&**producer, unsent).await?;
            store.write(vec![removals]).await.pop().unwrap_or_else(lost_result)?;
            if !full {
                return Ok(recovered);
            }
        }
    }

    pub(crate) async fn get(&self, space: Space, key: Bytes) -> Result<Option<(Version, Bytes)>> {
        self.store()?.get(space, self.namespace.key(&key)).await
    }

    pub(crate) async fn scan(&self, range: ScanRange, limit: usize) -> Result<Vec<Entry>> {
        let mut entries = self.store()?.scan(self.namespace.range(range), limit).await?;
        for entry in &mut entries {
            entry.key = self.namespace.strip(std::mem::take(&mut entry.key));
        }
        Ok(entries)
    }
}

/// Whether the broker will never take what a commit sends, however often it is tried.
pub(crate) fn is_unsendable(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::PayloadTooLarge | ErrorKind::InvalidArgument)
}

async fn send(producer: &dyn Producer, messages: Vec<Message>) -> Result<()> {
    if messages.is_empty() {
        return Ok(());
    }
    producer.publish(messages).await.into_iter().find_map(Result::err).map_or(Ok(()), Err)
}

fn removal(key: Bytes) -> Put {
    Put { space: OUTBOX, key, expect: Expect::Any, value: None }
}

fn lost_result() -> Result<()> {
    Err(Error::new(ErrorKind::OutcomeUnknown, "commit", "the store gave no result"))
}

/// A message as the outbox keeps it. The engine's payloads are JSON, its keys and headers are text.
#[derive(Serialize, Deserialize)]
struct Kept {
    topic: String,
    id: String,
    key: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    headers: Vec<(String, String)>,
    payload: String,
    not_before: Option<u64>,
}

fn encode_outbox(messages: &[Message]) -> Bytes {
    let text = |bytes: &Bytes| String::from_utf8_lossy(bytes).into_owned();
    let kept: Vec<_> = messages
        .iter()
        .map(|message| Kept {
            topic: message.topic.as_str().to_owned(),
            id: message.id.as_str().to_owned(),
            key: message.key.as_ref().map(text),
            headers: message.headers.iter().map(|(name, value)| (name.to_owned(), text(value))).collect(),
            payload: text(&message.payload),
            not_before: message.not_before.map(Timestamp::as_millis),
        })
        .collect();
    wire::encode(&kept)
}

fn decode_outbox(key: &Bytes, value: &Bytes) -> Result<Vec<Message>> {
    let damaged = |problem: String| {
        let key = String::from_utf8_lossy(key).replace('\0', "/");
        Error::new(ErrorKind::Corrupt, "recover", problem).of(format!("outbox row {key}"))
    };
    let kept: Vec<Kept> = wire::decode(value).map_err(|error| damaged(error.to_string()))?;
    kept.into_iter()
        .map(|kept| {
            let topic = TopicName::new(&kept.topic).map_err(|error| damaged(error.to_string()))?;
            let mut message = Message::new(topic, kept.id, kept.payload);
            message.key = kept.key.map(Bytes::from);
            kept.headers.into_iter().for_each(|(name, value)| message.headers.append(&name, value));
            message.not_before = kept.not_before.map(Timestamp::from_millis);
            Ok(message)
        })
        .collect()
}
