//! The only writer: a batch of requests becomes one transaction, and then a change of the state.

use std::mem;
use std::sync::Arc;

use partitura_broker::{Error, MessageId, Result, Timestamp, TopicKind, Topology, telemetry};

use crate::core::Core;
use crate::delay::Cancellation;
use crate::error;
use crate::request::{Done, Prepared, PreparedUnit, Request, Work};
use crate::state::{Append, Broadcast, Changes, Withdrawn};
use crate::storage::{self, Batch, Row, Storage};
use crate::wire;

/// Owns the connection that writes. Runs on its own thread, or in memory, in the calling task.
#[derive(Debug)]
pub(crate) struct Writer {
    storage: Storage,
    /// The sequence of the next message.
    next: u64,
    /// The latest time at which a message joined its queue. These times never go back, even if the clock does, so that
    /// the order by time and sequence is the order of publishing.
    latest: Timestamp,
}

impl Writer {
    pub(crate) fn new(storage: Storage, next: u64, latest: Timestamp) -> Self {
        Self { storage, next, latest }
    }

    pub(crate) fn storage(&self) -> &Storage {
        &self.storage
    }

    /// Applies requests in order, commits, and answers. If storing fails, all are answered with the error and the
    /// state is unchanged.
    pub(crate) fn run(&mut self, mut requests: Vec<Request>, core: &Core) {
        let mut state = core.state();
        // Read under the lock: otherwise a message that falls due in between is delivered before the messages of this
        // batch, and comes again behind them.
        let now = core.now();
        self.latest = self.latest.max(now).max(state.fired());
        let mut changes = Changes { removed: state.begin_batch(now), ..Changes::default() };
        drop(state);
        let result = self.write(&mut requests, core, now, &mut changes);
        let after = core.now();
        let mut state = core.state();
        match &result {
            Ok(_) => state.apply(changes, now),
            Err(error) => {
                tracing::warn!(target: telemetry::TARGET, %error, "storing a batch failed");
                state.revert(changes);
            }
        }
        state.end_batch(after);
        drop(state);
        match result {
            Ok(done) => requests.into_iter().zip(done).for_each(|(request, done)| request.answer.give(done)),
            Err(error) => requests.into_iter().for_each(|request| request.answer.give(request.work.failed(&error))),
        }
    }

    fn write(
        &mut self,
        requests: &mut [Request],
        core: &Core,
        now: Timestamp,
        changes: &mut Changes,
    ) -> Result<Vec<Done>> {
        let Self { storage, next, latest } = self;
        let batch = if !changes.removed.is_empty() || requests.iter().any(|request| request.work.is_stored()) {
            Some(storage.batch(requests.iter().flat_map(|request| request.work.spaces()))?)
        } else {
            None
        };
        let mut transaction = Transaction { batch, next, now, latest: *latest, core, changes };
        let done = requests.iter_mut().map(|request| transaction.perform(&mut request.work)).collect::<Result<_>>()?;
        transaction.remove()?;
        transaction.batch.map_or(Ok(()), Batch::commit)?;
        Ok(done)
    }
}

/// One transaction on its way from begin to commit. An error of a method is the end of all of it.
struct Transaction<'p> {
    /// `None` if nothing must be stored.
    batch: Option<Batch<'p>>,
    next: &'p mut u64,
    now: Timestamp,
    latest: Timestamp,
    core: &'p Core,
    changes: &'p mut Changes,
}

impl Transaction<'_> {
    /// Removes settled messages; no request of the batch needs them before.
    fn remove(&mut self) -> Result<()> {
        let Some(batch) = &mut self.batch else { return Ok(()) };
        let claimed = self.changes.claims.iter().filter_map(|claim| claim.seq);
        let withdrawn = self.changes.withdrawn.iter().filter_map(Withdrawn::seq);
        let mut seqs: Vec<u64> = self.changes.removed.iter().copied().chain(claimed).chain(withdrawn).collect();
        batch.delete(&mut seqs)
    }

    /// Takes the messages out of the work, and leaves its shape.
    fn perform(&mut self, work: &mut Work) -> Result<Done> {
        Ok(match work {
            Work::Publish(messages) => {
                mem::take(messages).into_iter().try_for_each(|message| self.publish(message))?;
                Done::One(Ok(()))
            }
            Work::Commit(units) => {
                let mut results = Vec::with_capacity(units.len());
                for unit in units {
                    results.push(match mem::replace(unit, Err(error::closed("commit"))) {
                        Ok(unit) => self.commit(unit)?,
                        Err(refused) => Err(refused),
                    });
                }
                Done::Each(results)
            }
            Work::Cancel(cancellations) => Done::Cancelled(Ok(self.cancel(cancellations)?)),
            Work::Declare(topology) => Done::One(self.declare(topology)?),
            Work::Flush => Done::One(Ok(())),
        })
    }

    fn publish(&mut self, prepared: Prepared) -> Result<()> {
        let Prepared { topic, partition, message, body } = prepared;
        if topic.topic.kind == TopicKind::Stream {
            self.changes.broadcasts.push(Broadcast { partition, message: message.clone() });
        }
        let due = message.not_before.filter(|due| *due > self.now);
        let size = u32::try_from(message.size()).unwrap_or(u32::MAX);
        for route in &topic.routes {
            let row = Row {
                seq: *self.next,
                queue: route.first_queue + partition.0,
                ready_at: due.unwrap_or(self.latest).as_millis(),
                delayed: due.is_some(),
                size,
            };
            *self.next += 1;
            if let Some(batch) = &mut self.batch {
                batch.insert(&row, &body)?;
            }
            self.changes.appends.push(Append { row, message: message.clone() });
        }
        Ok(())
    }

    fn cancel(&mut self, cancellations: &[Cancellation]) -> Result<Vec<bool>> {
        cancellations.iter().map(|cancellation| self.cancel_one(cancellation)).collect()
    }

    /// Takes a waiting message. It is not delivered before this batch is over, also if it becomes due meanwhile.
    fn cancel_one(&mut self, cancellation: &Cancellation) -> Result<bool> {
        if cancellation.due <= self.now.as_millis() {
            return Ok(false);
        }
        let (mut found, unread) = self.core.state().waiting(cancellation);
        if let Some(batch) = self.batch.as_ref().filter(|_| !unread.is_empty()) {
            let seqs: Vec<u64> = unread.iter().map(|place| place.seq).collect();
            let bodies = storage::bodies(batch.connection(), &seqs)?;
            let read = unread.into_iter().zip(bodies).filter_map(|(place, body)| Some((place, body?)));
            let read: Vec<_> = read.map(|(place, body)| (place, wire::id(&body).map(MessageId::from))).collect();
            found.extend(read.iter().filter(|(_, id)| id.as_ref() == Some(&cancellation.id)).map(|(place, _)| *place));
            self.core.state().recognise(cancellation, &read);
        }
        let Changes { appends, broadcasts, withdrawn, .. } = &mut *self.changes;
        let before = withdrawn.len();
        if !self.core.state().withdraw(cancellation, &found, withdrawn) {
            return Ok(false);
        }
        // Messages that the same batch has published are not stored yet.
        appends.retain(|append| {
            let is_it = append.row.delayed && cancellation.matches(&append.message);
            withdrawn.extend(is_it.then_some(Withdrawn::Appended(append.row.seq)));
            !is_it
        });
        let listened = broadcasts.len();
        broadcasts.retain(|broadcast| !cancellation.matches(&broadcast.message));
        Ok(withdrawn.len() > before || broadcasts.len() < listened)
    }

    /// Commits a unit. Steps that may refuse it come first.
    fn commit(&mut self, unit: PreparedUnit) -> Result<Result<()>> {
        let PreparedUnit { settle, publish, put } = unit;
        let first = self.changes.claims.len();
        if let Err(fenced) = self.core.state().claim(&settle, &mut self.changes.claims) {
            return Ok(Err(fenced));
        }
        if let Some(batch) = &mut self.batch
            && let Err(conflict) = batch.put(&put)?
        {
            let undo = self.changes.claims.drain(first..).collect();
            self.core.state().unclaim(undo);
            return Ok(Err(conflict));
        }
        publish.into_iter().try_for_each(|message| self.publish(message)).map(Ok)
    }

    fn declare(&mut self, topology: &Topology) -> Result<Result<()>> {
        let Some(batch) = &mut self.batch else { return Ok(Ok(())) };
        let present = self.changes.catalog.clone().unwrap_or_else(|| self.core.state().catalog().clone());
        let mut catalog = (*present).clone();
        let savepoint = |sql: &str| batch.connection().execute_batch(sql).map_err(|e| error::from_sqlite("declare", e));
        savepoint("SAVEPOINT declaring")?;
        let declared = catalog.declare(topology, batch.connection());
        match &declared {
            Ok(()) => self.changes.catalog = Some(Arc::new(catalog)),
            Err(_) => savepoint("ROLLBACK TO declaring")?,
        }
        savepoint("RELEASE declaring")?;
        match declared {
            Err(error) if is_of_storage(&error) => Err(error),
            declared => Ok(declared),
        }
    }
}

fn is_of_storage(error: &Error) -> bool {
    use partitura_broker::ErrorKind::{Corrupt, OutcomeUnknown, Storage};
    matches!(error.kind(), Storage | Corrupt | OutcomeUnknown)
}

#[cfg(test)]
mod tests {
    use partitura_broker::{
        Broker, Consumer, ConsumerOptions, ErrorKind, Event, Expect, Message, Ordering, ProducerOptions, Put, Topology,
        Transactions, Unit,
    };

    use crate::client::WriterHandle;
    use crate::delay::Cancellation;
    use crate::lock::lock;
    use crate::request::{Request, Work};
    use crate::{Embedded, Options};

    fn fill_disk_at(broker: &Embedded, pages: u32) {
        let WriterHandle::Inline(writer) = &broker.client().writer else { return };
        let writer = lock(writer);
        let storage = writer.as_ref().unwrap().storage();
        let limited = storage.read(|connection| Ok(connection.pragma_update(None, "max_page_count", pages)));
        limited.unwrap().unwrap();
    }

    async fn deliveries(consumer: &mut Box<dyn Consumer>) -> Vec<partitura_broker::Delivery> {
        loop {
            if let Event::Deliveries(deliveries) = consumer.next().await.unwrap() {
                return deliveries;
            }
        }
    }

    #[tokio::test]
    async fn a_message_cancelled_by_a_failed_batch_still_comes_and_one_published_and_cancelled_in_a_batch_does_not() {
        let broker = Embedded::memory(Options::default()).unwrap();
        let topic = "q".parse::<partitura_broker::TopicName>().unwrap();
        let topology = Topology::new().queue(topic.clone(), Ordering::Shared);
        broker.declare(&topology.subscription("s".parse().unwrap(), [topic.clone()])).await.unwrap();
        let due = broker.client().core().now() + std::time::Duration::from_secs(2);
        let delayed = |id: &str| Message::new(topic.clone(), id, "").not_before(due);
        let producer = broker.producer(ProducerOptions::default()).await.unwrap();
        producer.publish(vec![delayed("waits")]).await.remove(0).unwrap();
        let core = broker.client().core();
        let catalog = core.state().catalog().clone();
        let publish = |message| {
            let prepared = core.prepare(&catalog, message, core.now()).unwrap();
            Request::one(Work::Publish(vec![prepared]), Vec::new())
        };
        let cancel = |id: &str| {
            let cancellation =
                Cancellation::new(catalog.topic("cancel", &topic).unwrap().clone(), delayed(id).delayed().unwrap());
            Request::cancel(vec![cancellation], Vec::new())
        };
        let run = |requests| {
            let WriterHandle::Inline(writer) = &broker.client().writer else { panic!("in memory") };
            lock(writer).as_mut().unwrap().run(requests, core);
        };

        fill_disk_at(&broker, 50);
        let ((one, cancelled), (two, published)) =
            (cancel("waits"), publish(Message::new(topic.clone(), "l", vec![0; 1 << 20])));
        run(vec![one, two]);
        assert_eq!(cancelled.await.unwrap().unwrap_err().kind(), ErrorKind::Storage);
        assert_eq!(published.await.unwrap().unwrap_err().kind(), ErrorKind::Storage);
        fill_disk_at(&broker, 5_000);
        let ((one, published), (two, cancelled)) = (publish(delayed("both")), cancel("both"));
        run(vec![one, two]);
        published.await.unwrap().unwrap();
        assert_eq!(cancelled.await.unwrap().unwrap(), [true]);
        let rows = |broker: &Embedded| {
            let WriterHandle::Inline(writer) = &broker.client().writer else { panic!("in memory") };
            let count = |connection: &rusqlite::Connection| {
                Ok(connection.query_row("SELECT count(*) FROM message", [], |row| row.get::<_, u32>(0)).unwrap())
            };
            lock(writer).as_ref().unwrap().storage().read(count).unwrap()
        };
        assert_eq!(rows(&broker), 1);
        let mut consumer = broker.consumer(ConsumerOptions::new("s".parse().unwrap(), [topic.clone()])).await.unwrap();
        let came = deliveries(&mut consumer).await;
        assert_eq!(came.iter().map(|delivery| delivery.message.id.as_str()).collect::<Vec<_>>(), ["waits"]);
    }

    #[tokio::test]
    async fn a_full_disk_is_an_error_that_changes_nothing_and_passes() {
        let broker = Embedded::memory(Options::default()).unwrap();
        let (topic, subscription) = ("q".parse::<partitura_broker::TopicName>().unwrap(), "s".parse().unwrap());
        let topology = Topology::new().queue(topic.clone(), Ordering::Shared);
        broker.declare(&topology.subscription("s".parse().unwrap(), [topic.clone()])).await.unwrap();
        let message = |id: &str, size| Message::new(topic.clone(), id, vec![0; size]);
        let producer = broker.producer(ProducerOptions::default()).await.unwrap();
        producer.publish(vec![message("first", 10)]).await.remove(0).unwrap();
        let mut consumer = broker.consumer(ConsumerOptions::new(subscription, [topic.clone()])).await.unwrap();
        let held = deliveries(&mut consumer).await;

        fill_disk_at(&broker, 50);
        let full = producer.publish(vec![message("small", 10), message("large", 1 << 20)]).await;
        let kinds: Vec<_> = full.into_iter().map(|result| result.unwrap_err().kind()).collect();
        assert_eq!(kinds, [ErrorKind::Storage; 2]);
        let put = Put { space: "t", key: "k".into(), expect: Expect::Absent, value: Some("v".into()) };
        let unit = Unit { settle: vec![held[0].token], publish: vec![message("large", 1 << 20)], put: vec![put] };
        let error = broker.commit(vec![unit.clone()]).await.remove(0).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Storage);
        assert!(error.is_retryable() && error.to_string().contains("disk is full"), "{error}");
        assert_eq!(broker.get("t", "k".into()).await.unwrap(), None);

        // There is room again, and the delivery can still be settled.
        fill_disk_at(&broker, 5_000);
        broker.commit(vec![unit]).await.remove(0).unwrap();
        producer.publish(vec![message("last", 10)]).await.remove(0).unwrap();
        let mut ids = Vec::new();
        while ids.len() < 2 {
            ids.extend(deliveries(&mut consumer).await.into_iter().map(|delivery| delivery.message.id.to_string()));
        }
        assert_eq!(ids, ["large", "last"]);
    }
}
