//! The messages that turns decided to send, until the broker has confirmed them.
//!
//! A row is written together with its turn, published at once, and removed soon after the confirm. It belongs to the
//! partition whose input led to the turn. Only the owner of that partition sends it: the owner that wrote it, or the
//! next one when it takes the partition over. After that rows are read only of an instance whose input comes again: a
//! write of the earlier owner may have been under way then.
//!
//! Messages that the broker does not take at once wait in a queue of their instance, which a task of its own works off
//! in order. Turns go on meanwhile, and their messages join the queue, so that a destination that is away holds up
//! nothing else.
//!
//! A message that the broker refuses for good is set aside in a row of its own, and its instance is told, which stops
//! it with the reason. Resuming the instance sends the message again.

mod queue;
mod removal;
mod row;
mod under_way;
mod unsent;

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use partitura_broker::{
    Entry, Error, ErrorKind, Expect, Message, Partition, Producer, Put, Result, ScanRange, TopicName,
};
use tokio::sync::Notify;

use self::removal::Removals;
use self::row::{Aside, Kept, OUTBOX, Origin, PAGE, REFUSED, damaged, decode, encode, outbox_key, without_turn};
pub(crate) use self::under_way::UnderWay;
use self::unsent::{Unsent, resent};
pub(crate) use self::unsent::{is_refusal, may_have_come_before};
use crate::storage::store::Store;
use crate::wire;
use crate::wire::names::InstanceKey;
use crate::wire::namespace::Namespace;

/// The outbox of one workflow in one process. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Outbox(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    workflow: Arc<str>,
    commands: TopicName,
    namespace: Namespace,
    store: Arc<dyn Store>,
    producer: Box<dyn Producer>,
    removals: Removals,
    state: Mutex<State>,
    /// Something that was under way has ended.
    ended: Notify,
}

#[derive(Debug, Default)]
struct State {
    /// How often each partition has gone elsewhere. The messages that wait for it are the next owner's then.
    terms: BTreeMap<Partition, u64>,
    /// How many commits and messages of each partition are under way, by term.
    under_way: BTreeMap<(Partition, u64), usize>,
    /// The keys of rows that were not confirmed at the first attempt, in order.
    queues: HashMap<Sender, VecDeque<Bytes>>,
    /// Instances with rows of which the store has not said whether it wrote them.
    doubts: HashSet<Sender>,
}

impl State {
    fn term(&self, partition: Partition) -> u64 {
        self.terms.get(&partition).copied().unwrap_or_default()
    }
}

/// The instance whose turns wrote a row: its partition and its id.
type Sender = (Partition, String);

/// A row, as it was written.
#[derive(Debug)]
pub(crate) struct Row {
    sender: Sender,
    /// As the store has it.
    key: Bytes,
    value: Bytes,
}

impl Outbox {
    pub(crate) fn new(
        workflow: &str,
        commands: TopicName,
        namespace: Namespace,
        store: Arc<dyn Store>,
        producer: Box<dyn Producer>,
    ) -> Self {
        let (workflow, removals, state) = (workflow.into(), Removals::new(store.clone()), Mutex::default());
        let ended = Notify::new();
        Self(Arc::new(Inner { workflow, commands, namespace, store, producer, removals, state, ended }))
    }

    pub(crate) fn store(&self) -> &dyn Store {
        &*self.0.store
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The row that keeps the messages of a turn of a run, to be written with the turn's own row of the history, if it
    /// has one, whose key this is. `None`: there are no messages.
    pub(crate) fn row(
        &self,
        partition: Partition,
        run_prefix: &Bytes,
        history: Option<&Bytes>,
        messages: &[Message],
    ) -> Option<(Row, Put)> {
        let first = messages.first()?;
        let turn = history.cloned().unwrap_or_else(|| without_turn(run_prefix, first));
        let key = outbox_key(&self.0.workflow, partition, &turn);
        let row =
            Row { sender: self.sender(partition, &key), key: self.0.namespace.key(&key), value: encode(messages) };
        let (key, value) = (row.key.clone(), Some(row.value.clone()));
        Some((row, Put { space: OUTBOX, key, expect: Expect::Any, value }))
    }

    fn sender(&self, partition: Partition, key: &Bytes) -> Sender {
        let id = Origin::parse(&self.0.workflow, key).map(|origin| origin.id.to_owned());
        (partition, id.unwrap_or_default())
    }

    /// Publishes the messages of a turn, whose row was written, and has the row removed. A message that the broker does
    /// not take now is sent later. All that is done for as long as the partition is ours; its next owner reads the row
    /// otherwise.
    pub(crate) async fn send(&self, row: Row, messages: Vec<Message>, under_way: &UnderWay) {
        if self.state().term(row.sender.0) != under_way.term() || self.joins_queue(&row) {
            return;
        }
        let results = self.0.producer.publish(messages).await;
        if results.iter().all(Result::is_ok) {
            return self.0.removals.remove(row.key, None).await;
        }
        let messages = match decode(&row.key, &row.value) {
            Ok(messages) => messages,
            Err(error) => return tracing::error!(%error, "the messages of a turn are left to the next owner"),
        };
        self.send_later(row.sender, under_way.term(), row.key, Unsent::new(messages, results));
    }

    /// Sends what earlier owners of a partition decided to send and may not have sent. The receivers ignore what they
    /// had already.
    ///
    /// # Errors
    /// Those of the store.
    pub(crate) async fn recover(&self, partition: Partition) -> Result<()> {
        // Rows that this process sends or has confirmed itself, in an earlier term, are not sent again.
        let term = self.state().term(partition);
        self.earlier_terms_ended(partition, term).await;
        self.0.removals.flush().await;
        let prefix = outbox_key(&self.0.workflow, partition, &Bytes::new());
        let mut range = self.0.namespace.range(ScanRange::prefix(OUTBOX, prefix));
        let mut found = 0;
        loop {
            let page = self.0.store.scan(range.clone(), PAGE).await?;
            let Some(last) = page.last() else { break };
            range = range.after(&last.key);
            found += page.len();
            let full = page.len() == PAGE;
            self.send_page(partition, term, page).await;
            if !full {
                break;
            }
        }
        if found > 0 {
            let workflow = &*self.0.workflow;
            tracing::info!(workflow, %partition, found, "sent what an earlier owner had decided to send");
        }
        Ok(())
    }

    /// Sends the rows of an instance that are stored and wait in no queue: those that an earlier owner has written
    /// since the partition was taken over, its write being under way then, and those of which the store did not say
    /// that it wrote them. To be called when input comes again that the instance may have had, or after such a doubt.
    ///
    /// # Errors
    /// Those of the store.
    pub(crate) async fn recover_late(&self, partition: Partition, id: &str, term: u64) -> Result<()> {
        self.0.removals.flush().await;
        let prefix = [&outbox_key(&self.0.workflow, partition, &Bytes::new())[..], id.as_bytes(), b"\0"].concat();
        let range = self.0.namespace.range(ScanRange::prefix(OUTBOX, prefix));
        let mut late = self.0.store.scan(range, PAGE).await?;
        let waiting = self.state().queues.get(&(partition, id.to_owned())).cloned().unwrap_or_default();
        late.retain(|row| !waiting.contains(&row.key));
        if !late.is_empty() {
            let workflow = &*self.0.workflow;
            tracing::info!(workflow, id, turns = late.len(), "sent what was written and not known to be");
            self.send_page(partition, term, late).await;
        }
        Ok(())
    }

    /// Publishes rows of earlier owners together; each has a result of its own.
    async fn send_page(&self, partition: Partition, term: u64, page: Vec<Entry>) {
        let (mut rows, mut messages) = (Vec::with_capacity(page.len()), Vec::new());
        for Entry { key, value, .. } in page {
            match decode(&key, &value) {
                Ok(kept) => {
                    rows.push((key, kept.len()));
                    messages.extend(kept.into_iter().map(resent));
                }
                Err(error) => tracing::error!(%error, "a row of the outbox is left as it is; the others are sent"),
            }
        }
        let mut results = self.0.producer.publish(messages.clone()).await.into_iter();
        let mut messages = messages.into_iter();
        for (key, count) in rows {
            let own = messages.by_ref().take(count).collect();
            let unsent = Unsent::new(own, results.by_ref().take(count).collect());
            if unsent.is_empty() {
                self.sent_again(key).await;
            } else {
                let sender = self.sender(partition, &self.0.namespace.strip(key.clone()));
                self.send_later(sender, term, key, unsent);
            }
        }
    }

    /// Has a row removed all of which was sent after it had to wait, or after its owner was lost. Messages of it that
    /// were set aside go with it: the owner may have been lost before it told the instance, and they have arrived now.
    async fn sent_again(&self, key: Bytes) {
        let aside = self.aside_of(&key);
        self.0.removals.remove(key, aside).await;
    }

    /// The key under which is kept what the broker refuses of a row. `None`: the row has the key of no turn.
    fn aside_of(&self, key: &Bytes) -> Option<Bytes> {
        let stripped = self.0.namespace.strip(key.clone());
        let origin = Origin::parse(&self.0.workflow, &stripped)?;
        Some(self.0.namespace.key(&origin.aside(&self.0.workflow)))
    }

    /// The partition goes elsewhere: its next owner reads the rows.
    pub(crate) fn released(&self, partition: Partition) {
        let mut state = self.state();
        *state.terms.entry(partition).or_default() += 1;
        state.queues.retain(|(of, _), _| *of != partition);
        state.doubts.retain(|(of, _)| *of != partition);
    }

    /// Waits until every confirmed row is removed.
    pub(crate) async fn flush(&self) {
        self.0.removals.flush().await;
    }

    /// Notes that the store has not said whether it wrote a row. One note for each instance, however often it happens.
    pub(crate) fn doubt(&self, row: Row, under_way: &UnderWay) {
        let mut state = self.state();
        if state.term(row.sender.0) == under_way.term() {
            state.doubts.insert(row.sender);
        }
    }

    pub(crate) fn is_in_doubt(&self, partition: Partition, id: &str) -> bool {
        let state = self.state();
        !state.doubts.is_empty() && state.doubts.contains(&(partition, id.to_owned()))
    }

    /// A turn of the instance was committed that has seen all rows of before: what is not written by then never will
    /// be.
    pub(crate) fn is_certain(&self, partition: Partition, id: &str) {
        let mut state = self.state();
        if !state.doubts.is_empty() {
            state.doubts.remove(&(partition, id.to_owned()));
        }
    }

    /// Sends what was set aside of an instance and is `wanted` still. A message that the broker takes is not set aside
    /// any more. The first problem with the rest, if there is any.
    ///
    /// # Errors
    /// Those of the store; [`Corrupt`](ErrorKind::Corrupt).
    pub(crate) async fn send_set_aside(
        &self,
        key: &InstanceKey,
        wanted: impl Fn(&Message) -> bool,
    ) -> Result<Option<Error>> {
        let prefix = [self.0.workflow.as_bytes(), b"\0", key.id.as_bytes(), b"\0"].concat();
        let range = self.0.namespace.range(ScanRange::prefix(REFUSED, prefix));
        let mut problem = None;
        // More than a page waits for the next time.
        for Entry { key, value, .. } in self.0.store.scan(range, PAGE).await? {
            let Aside { reason, messages } = wire::decode(&value).map_err(|error| damaged(&key, &error.to_string()))?;
            let all = messages.len();
            let mut messages = messages.into_iter().map(|kept| kept.message(&key)).collect::<Result<Vec<_>>>()?;
            messages.retain(&wanted);
            let mut results = match messages.is_empty() {
                true => Vec::new(),
                false => self.0.producer.publish(messages.clone()).await,
            }
            .into_iter();
            let mut left = Vec::new();
            for message in &messages {
                if let Err(error) = results.next().map_or_else(lost_result, |result| result.map(drop)) {
                    left.push(Kept::from_message(message));
                    problem.get_or_insert(error);
                }
            }
            if left.len() < all {
                let value = (!left.is_empty()).then(|| wire::encode(&Aside { reason, messages: left }));
                let put = Put { space: REFUSED, key, expect: Expect::Any, value };
                self.0.store.write(vec![vec![put]]).await.pop().unwrap_or_else(lost_result)?;
            }
        }
        Ok(problem)
    }
}

/// Publishes messages that nobody keeps.
///
/// # Errors
/// The first of their errors.
pub(crate) async fn publish(producer: &dyn Producer, messages: Vec<Message>) -> Result<()> {
    if messages.is_empty() {
        return Ok(());
    }
    producer.publish(messages).await.into_iter().find_map(Result::err).map_or(Ok(()), Err)
}

pub(crate) fn lost_result() -> Result<()> {
    Err(Error::new(ErrorKind::OutcomeUnknown, "commit", "the store gave no result"))
}

#[cfg(test)]
mod tests;
