//! The messages that turns decided to send, until the broker has confirmed them.
//!
//! A row is written together with its turn, published at once, and removed soon after the confirm. It belongs to the
//! partition whose input led to the turn. Only the owner of that partition sends it: the turn itself, or the next owner
//! when it takes the partition over. Nobody reads rows at any other time.
//!
//! A message that the broker refuses for good is set aside in a row of its own, and its instance is told, which stops it
//! with the reason. Resuming the instance sends the message again.

mod removal;
mod row;
mod unsent;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use futures::stream;
use partitura_broker::{
    Entry, Error, ErrorKind, Expect, Message, Partition, Producer, Put, Result, ScanRange, Space, TopicName,
};
use tokio::time::sleep;

use self::removal::Removals;
use self::row::{Aside, Kept, Origin, damaged, decode, encode, outbox_key};
use self::unsent::Unsent;
pub(crate) use self::unsent::is_refusal;
use crate::names::InstanceKey;
use crate::namespace::Namespace;
use crate::store::Store;
use crate::wire::{self, Command};

/// `workflow NUL partition id NUL run NUL turn` → the messages of the turn.
const OUTBOX: Space = "outbox";
/// `workflow NUL id NUL run NUL turn` → the messages of the turn that the broker refuses, and why.
const REFUSED: Space = "refused";

/// How many rows are read, or removed, at a time.
const PAGE: usize = 500;
/// How many rows are sent again at the same time.
const AT_ONCE: usize = 64;
/// The pause after a failure: the first, and the longest.
const PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// Whether a partition is still ours.
pub(crate) type IsOurs<'a> = &'a (dyn Fn() -> bool + Send + Sync);

/// The outbox of one workflow in one process.
#[derive(Debug)]
pub(crate) struct Outbox {
    workflow: Arc<str>,
    commands: TopicName,
    namespace: Namespace,
    store: Arc<dyn Store>,
    producer: Box<dyn Producer>,
    removals: Removals,
    /// How many rows of each instance are left of earlier owners. What the instance sends now must not overtake them.
    left: Mutex<HashMap<(Partition, String), usize>>,
    /// Rows of our own of which the store has not said whether it wrote them.
    doubts: Mutex<HashMap<(Partition, String), Vec<Row>>>,
}

/// A row, as it was written.
#[derive(Debug, Clone)]
pub(crate) struct Row {
    /// As the store has it.
    key: Bytes,
    value: Bytes,
}

/// A row of an earlier owner that was not sent at the first attempt.
#[derive(Debug)]
pub(crate) struct Leftover {
    row: Row,
    unsent: Unsent,
    instance: (Partition, String),
}

impl Outbox {
    pub(crate) fn new(
        workflow: &str,
        commands: TopicName,
        namespace: Namespace,
        store: Arc<dyn Store>,
        producer: Box<dyn Producer>,
    ) -> Self {
        let removals = Removals::new(store.clone());
        let (left, doubts) = Default::default();
        Self { workflow: workflow.into(), commands, namespace, store, producer, removals, left, doubts }
    }

    pub(crate) fn store(&self) -> &dyn Store {
        &*self.store
    }

    fn left(&self) -> MutexGuard<'_, HashMap<(Partition, String), usize>> {
        self.left.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn doubts(&self) -> MutexGuard<'_, HashMap<(Partition, String), Vec<Row>>> {
        self.doubts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Forgets what was known of a partition that goes elsewhere: its next owner reads the rows.
    pub(crate) fn released(&self, partition: Partition) {
        self.left().retain(|(of, _), _| *of != partition);
        self.doubts().retain(|(of, _), _| *of != partition);
    }

    /// Notes that it is not known whether a row was written.
    pub(crate) fn doubt(&self, partition: Partition, row: Row) {
        let key = self.namespace.strip(row.key.clone());
        if let Some(origin) = Origin::of(&self.workflow, &key) {
            self.doubts().entry((partition, origin.id.to_owned())).or_default().push(row);
        }
    }

    /// Sends what an earlier turn of an instance has written after all.
    ///
    /// # Errors
    /// Those of the store, and of [`send`](Self::send); the doubt remains.
    pub(crate) async fn resolve_doubts(&self, partition: Partition, id: &str, is_ours: IsOurs<'_>) -> Result<()> {
        if self.doubts().is_empty() {
            return Ok(());
        }
        let instance = (partition, id.to_owned());
        let rows = self.doubts().get(&instance).cloned().unwrap_or_default();
        for row in rows {
            let is_written =
                self.store.get(OUTBOX, row.key.clone()).await?.is_some_and(|(_, value)| value == row.value);
            if is_written {
                self.send(Some(row.clone()), decode(&row.key, &row.value)?, is_ours).await?;
            }
        }
        self.doubts().remove(&instance);
        Ok(())
    }

    /// The row that keeps the messages of a turn, to be written with the turn's own row of the history, whose key this
    /// is.
    pub(crate) fn row(&self, partition: Partition, history: &Bytes, messages: &[Message]) -> (Row, Put) {
        let key = self.namespace.key(&outbox_key(&self.workflow, partition, history));
        let row = Row { key: key.clone(), value: encode(messages) };
        let put = Put { space: OUTBOX, key, expect: Expect::Any, value: Some(row.value.clone()) };
        (row, put)
    }

    /// Publishes the messages of a turn, and has its row removed. Tries without end what may succeed later, for as long
    /// as the partition is ours. Without a row, nothing is tried again: the messages are decided anew with the input.
    ///
    /// # Errors
    /// [`Fenced`](ErrorKind::Fenced): the partition went elsewhere, and its next owner sends what is left; so it does after
    /// [`Closed`](ErrorKind::Closed). Without a row, those of the broker.
    pub(crate) async fn send(&self, row: Option<Row>, messages: Vec<Message>, is_ours: IsOurs<'_>) -> Result<()> {
        if messages.is_empty() {
            return Ok(());
        }
        let Some(row) = row else { return publish(&*self.producer, messages).await };
        let results = self.producer.publish(messages).await;
        if results.iter().all(Result::is_ok) {
            self.removals.remove(row.key).await;
            return Ok(());
        }
        let unsent = Unsent::of(decode(&row.key, &row.value)?, results);
        self.insist(row, unsent, is_ours).await
    }

    /// Publishes until nothing is left that may succeed, sets the rest aside, and has the row removed.
    async fn insist(&self, row: Row, mut unsent: Unsent, is_ours: IsOurs<'_>) -> Result<()> {
        let mut pause = PAUSE;
        while !unsent.again.is_empty() {
            if let Some(error) = unsent.problem.take() {
                if error.kind() == ErrorKind::Closed {
                    return Err(error);
                }
                tracing::warn!(workflow = &*self.workflow, %error, ?pause, "sending the messages of a turn again");
            }
            sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
            self.check(is_ours)?;
            let again = std::mem::take(&mut unsent.again);
            let results = self.producer.publish(again.clone()).await;
            unsent.absorb(Unsent::of(again, results));
        }
        if let Some(refusal) = unsent.refusal {
            self.set_aside(&row, &unsent.refused, &refusal, is_ours).await?;
        }
        self.removals.remove(row.key).await;
        Ok(())
    }

    fn check(&self, is_ours: IsOurs<'_>) -> Result<()> {
        if is_ours() {
            return Ok(());
        }
        let message = "the partition went elsewhere; its next owner sends what the turn decided to send";
        Err(Error::new(ErrorKind::Fenced, "publish", message).of(&self.workflow))
    }

    /// Keeps what the broker refuses for good, and tells the instance.
    async fn set_aside(&self, row: &Row, refused: &[Message], refusal: &Error, is_ours: IsOurs<'_>) -> Result<()> {
        let key = self.namespace.strip(row.key.clone());
        let origin = Origin::of(&self.workflow, &key).ok_or_else(|| damaged(&row.key, "its key names no turn"))?;
        let topic = refused.first().map(|message| message.topic.as_str()).unwrap_or_default();
        let reason = format!(
            "the broker refuses {} of its messages, the first to {topic}: {refusal}\n  they are kept; once the cause is \
             mended, the instance sends them again by itself, or at once when it is resumed",
            refused.len()
        );
        tracing::error!(workflow = &*self.workflow, id = origin.id, "{reason}");
        let undelivered = Command::Undelivered { run: origin.run.to_owned(), reason: reason.clone() };
        let id = format!("{}.{}.u", origin.run, origin.turn);
        let undelivered = wire::command(&self.commands, origin.id, id, &undelivered);
        let value = wire::encode(&Aside { reason, messages: refused.iter().map(Kept::of).collect() });
        let key = self.namespace.key(&origin.history(&self.workflow));
        let put = Put { space: REFUSED, key, expect: Expect::Any, value: Some(value) };
        let mut pause = PAUSE;
        loop {
            // The outbox row goes last: after a crash before that, everything is tried and refused once more.
            let kept = self.store.write(vec![vec![put.clone()]]).await.pop().unwrap_or_else(lost_result);
            let told = match kept {
                Ok(()) => publish(&*self.producer, vec![undelivered.clone()]).await,
                Err(error) => Err(error),
            };
            match told {
                Err(error) if error.is_retryable() => {
                    tracing::warn!(%error, ?pause, "setting a refused message aside again");
                    sleep(pause).await;
                    pause = (pause * 2).min(LONGEST_PAUSE);
                    self.check(is_ours)?;
                }
                told => return told,
            }
        }
    }

    /// Sends once what earlier owners of a partition decided to send and may not have sent, and gives what is left of it
    /// for [`finish`](Self::finish). The receivers ignore what they had already.
    ///
    /// # Errors
    /// Those of the store.
    pub(crate) async fn recover(&self, partition: Partition, is_ours: IsOurs<'_>) -> Result<Vec<Leftover>> {
        // What this process has confirmed itself, in an earlier term, is not to be sent again.
        self.removals.flush().await;
        self.released(partition);
        let prefix = outbox_key(&self.workflow, partition, &Bytes::new());
        let mut range = self.namespace.range(ScanRange::prefix(OUTBOX, prefix));
        let (mut found, mut left) = (0, Vec::new());
        loop {
            let page = self.store.scan(range.clone(), PAGE).await?;
            self.check(is_ours)?;
            let Some(last) = page.last() else { break };
            range = range.after(&last.key);
            found += page.len();
            let full = page.len() == PAGE;
            left.extend(self.send_page(partition, page).await);
            if !full {
                break;
            }
        }
        if found > 0 {
            tracing::info!(workflow = &*self.workflow, %partition, found, "sending what an earlier owner had decided to send");
        }
        let mut behind = self.left();
        left.iter().for_each(|Leftover { instance, .. }| *behind.entry(instance.clone()).or_default() += 1);
        drop(behind);
        Ok(left)
    }

    /// Publishes rows of earlier owners together; each has a result of its own.
    async fn send_page(&self, partition: Partition, page: Vec<Entry>) -> Vec<Leftover> {
        let (mut rows, mut messages) = (Vec::with_capacity(page.len()), Vec::new());
        for Entry { key, value, .. } in page {
            match decode(&key, &value) {
                Ok(kept) => {
                    rows.push((Row { key, value }, kept.len()));
                    messages.extend(kept);
                }
                Err(error) => tracing::error!(%error, "a row of the outbox is left as it is; the others are sent"),
            }
        }
        let mut results = self.producer.publish(messages.clone()).await.into_iter();
        let (mut messages, mut left) = (messages.into_iter(), Vec::new());
        for (row, count) in rows {
            let own = messages.by_ref().take(count).collect();
            let unsent = Unsent::of(own, results.by_ref().take(count).collect());
            if unsent.is_empty() {
                self.removals.remove(row.key).await;
                continue;
            }
            let key = self.namespace.strip(row.key.clone());
            let id = Origin::of(&self.workflow, &key).map(|origin| origin.id.to_owned()).unwrap_or_default();
            left.push(Leftover { row, unsent, instance: (partition, id) });
        }
        left
    }

    /// Sends what is left of earlier owners, for as long as the partition is ours.
    pub(crate) async fn finish(&self, left: Vec<Leftover>, is_ours: IsOurs<'_>) {
        let each = stream::iter(left).for_each_concurrent(AT_ONCE, |Leftover { row, unsent, instance }| async move {
            if let Err(error) = self.insist(row, unsent, is_ours).await {
                tracing::warn!(%error, "the messages of an earlier owner are left to the next");
                return;
            }
            let mut left = self.left();
            if let Some(rows) = left.get_mut(&instance) {
                *rows -= 1;
                if *rows == 0 {
                    left.remove(&instance);
                }
            }
        });
        each.await;
    }

    /// Whether an instance has to wait until messages of its earlier turns are sent.
    pub(crate) fn is_behind(&self, partition: Partition, id: &str) -> bool {
        let left = self.left();
        !left.is_empty() && left.contains_key(&(partition, id.to_owned()))
    }

    /// Publishes messages that were set aside.
    ///
    /// # Errors
    /// The first of their errors.
    pub(crate) async fn publish(&self, messages: Vec<Message>) -> Result<()> {
        publish(&*self.producer, messages).await
    }

    /// Waits until every confirmed row is removed.
    pub(crate) async fn flush(&self) {
        self.removals.flush().await;
    }

    /// What was set aside of an instance: the messages, and what to write with the turn that sends them again.
    ///
    /// # Errors
    /// Those of the store; [`Corrupt`](ErrorKind::Corrupt).
    pub(crate) async fn set_aside_of(&self, key: &InstanceKey) -> Result<(Vec<Message>, Vec<Put>)> {
        let prefix = [self.workflow.as_bytes(), b"\0", key.id.as_bytes(), b"\0"].concat();
        let range = self.namespace.range(ScanRange::prefix(REFUSED, prefix));
        let (mut messages, mut puts) = (Vec::new(), Vec::new());
        // More than a page waits for the next time.
        for Entry { key, value, .. } in self.store.scan(range, PAGE).await? {
            let aside: Aside = wire::decode(&value).map_err(|error| damaged(&key, &error.to_string()))?;
            for kept in aside.messages {
                messages.push(kept.message(&key)?);
            }
            let key = self.namespace.strip(key);
            puts.push(Put { space: REFUSED, key, expect: Expect::Any, value: None });
        }
        Ok((messages, puts))
    }
}

/// Publishes messages that nobody keeps.
///
/// # Errors
/// The first of their errors.
pub(crate) async fn publish(producer: &dyn Producer, messages: Vec<Message>) -> Result<()> {
    producer.publish(messages).await.into_iter().find_map(Result::err).map_or(Ok(()), Err)
}

pub(crate) fn lost_result() -> Result<()> {
    Err(Error::new(ErrorKind::OutcomeUnknown, "commit", "the store gave no result"))
}
