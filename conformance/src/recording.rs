//! Wrappers of the contract's traits, which record.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use partitura_broker::{
    AckToken, Broker, Capabilities, Consumer, ConsumerOptions, CorrectedClock, Delayed, Entry, Event, Inbox,
    InboxAddress, Message, Partition, Producer, ProducerOptions, Receipt, Result, ScanRange, Space, TopicName,
    Topology, Transactions, Unit, Version,
};

use crate::history::{Delivered, Record, Sent, Token};
use crate::recorder::{Recorder, micros};

impl Recorder {
    /// Wraps `broker` in one that records.
    pub fn wrap(&self, broker: Arc<dyn Broker>) -> Arc<dyn Broker> {
        Arc::new(RecordingBroker::new(broker, self.clone()))
    }
}

/// A broker that records.
#[derive(Debug)]
struct RecordingBroker {
    inner: Arc<dyn Broker>,
    recorder: Recorder,
    transactions: RecordingTransactions,
}

impl RecordingBroker {
    fn new(inner: Arc<dyn Broker>, recorder: Recorder) -> Self {
        let transactions = RecordingTransactions { inner: inner.clone(), recorder: recorder.clone() };
        Self { inner, recorder, transactions }
    }
}

#[async_trait]
impl Broker for RecordingBroker {
    fn capabilities(&self) -> &Capabilities {
        self.inner.capabilities()
    }

    fn clock(&self) -> CorrectedClock {
        self.inner.clock()
    }

    async fn declare(&self, topology: &Topology) -> Result<()> {
        self.inner.declare(topology).await?;
        for topic in &topology.topics {
            let partitions = match topic.ordering {
                partitura_broker::Ordering::ByKey { partitions } => Some(partitions),
                partitura_broker::Ordering::Shared => None,
            };
            self.recorder.note(Record::Topic { topic: topic.name.to_string(), partitions });
        }
        for subscription in &topology.subscriptions {
            for topic in &subscription.topics {
                let (topic, subscription) = (topic.to_string(), subscription.name.to_string());
                self.recorder.note(Record::Subscription { topic, subscription });
            }
        }
        Ok(())
    }

    async fn producer(&self, options: ProducerOptions) -> Result<Box<dyn Producer>> {
        let inner = self.inner.producer(options).await?;
        Ok(Box::new(RecordingProducer { inner, recorder: self.recorder.clone() }))
    }

    async fn consumer(&self, options: ConsumerOptions) -> Result<Box<dyn Consumer>> {
        let number = self.recorder.number();
        let joined = Record::Joined {
            consumer: number,
            topics: options.topics.iter().map(ToString::to_string).collect(),
            subscription: options.subscription.as_ref().map(ToString::to_string),
            messages: options.credit.messages.get(),
            bytes: options.credit.bytes.get(),
        };
        let inner = self.inner.consumer(options).await?;
        self.recorder.note(joined);
        Ok(Box::new(RecordingConsumer { inner: Some(inner), recorder: self.recorder.clone(), number }))
    }

    async fn inbox(&self) -> Result<Box<dyn Inbox>> {
        self.inner.inbox().await
    }

    fn has_subscribers(&self, topic: &TopicName) -> bool {
        self.inner.has_subscribers(topic)
    }

    fn transactions(&self) -> Option<&dyn Transactions> {
        self.inner.transactions().map(|_| &self.transactions as &dyn Transactions)
    }

    async fn close(&self) -> Result<()> {
        self.inner.close().await
    }
}

#[derive(Debug)]
struct RecordingProducer {
    inner: Box<dyn Producer>,
    recorder: Recorder,
}

#[async_trait]
impl Producer for RecordingProducer {
    async fn publish(&self, batch: Vec<Message>) -> Vec<Result<Receipt>> {
        let call = self.recorder.call();
        let ids: Vec<String> = batch.iter().map(|message| message.id.to_string()).collect();
        for message in &batch {
            self.recorder.note(Record::Publishing { call, sent: message.into() });
        }
        let results = self.inner.publish(batch).await;
        for (id, result) in ids.into_iter().zip(&results) {
            let outcome = result.as_ref().map(|receipt| receipt.partition.0);
            let outcome = outcome.map_err(|error| format!("{:?}", error.kind()));
            self.recorder.note(Record::Published { call, id, outcome });
        }
        results
    }

    async fn cancel(&self, delayed: Vec<Delayed>) -> Vec<Result<bool>> {
        let call = self.recorder.call();
        let named = |delayed: &Delayed| (delayed.topic.to_string(), delayed.id.to_string());
        let names: Vec<_> = delayed.iter().map(named).collect();
        for (topic, id) in names.iter().cloned() {
            self.recorder.note(Record::Cancelling { call, topic, id });
        }
        let results = self.inner.cancel(delayed).await;
        for ((topic, id), result) in names.into_iter().zip(&results) {
            let outcome = result.as_ref().copied().map_err(|error| format!("{:?}", error.kind()));
            self.recorder.note(Record::Cancelled { call, topic, id, outcome });
        }
        results
    }

    async fn reply(&self, replies: Vec<(InboxAddress, Message)>) -> Result<()> {
        self.inner.reply(replies).await
    }
}

#[derive(Debug)]
struct RecordingConsumer {
    inner: Option<Box<dyn Consumer>>,
    recorder: Recorder,
    number: u32,
}

impl RecordingConsumer {
    fn inner(&mut self) -> &mut Box<dyn Consumer> {
        self.inner.as_mut().expect("present until closed, which consumes self")
    }

    fn record(&self, event: &Event) {
        let consumer = self.number;
        let note = |record| self.recorder.note(record);
        match event {
            Event::Assigned(assignments) => assignments.iter().for_each(|assignment| {
                note(Record::Assigned { consumer, partition: assignment.partition.0, epoch: assignment.epoch });
            }),
            Event::Deliveries(deliveries) => deliveries.iter().for_each(|delivery| {
                let (message, token) = (Sent::from(&delivery.message), Token::from(&delivery.token));
                note(Record::Delivered(Delivered { consumer, message, redelivered: delivery.redelivered, token }));
            }),
            Event::Revoking { partitions, within } => partitions.iter().for_each(|partition| {
                note(Record::Revoking { consumer, partition: partition.0, within: micros(*within) });
            }),
            Event::Lost(partitions) => partitions.iter().for_each(|partition| {
                note(Record::Lost { consumer, partition: partition.0 });
            }),
            _ => {}
        }
    }
}

#[async_trait]
impl Consumer for RecordingConsumer {
    async fn next(&mut self) -> Result<Event> {
        let event = self.inner().next().await?;
        self.record(&event);
        Ok(event)
    }

    fn settle(&mut self, tokens: &[AckToken]) {
        for token in tokens {
            self.recorder.note(Record::Settling { consumer: self.number, token: token.into() });
        }
        self.inner().settle(tokens);
    }

    async fn flush(&mut self) -> Result<()> {
        self.inner().flush().await?;
        self.recorder.note(Record::Flushed { consumer: self.number });
        Ok(())
    }

    async fn release(&mut self, partitions: &[Partition]) -> Result<()> {
        for partition in partitions {
            self.recorder.note(Record::Releasing { consumer: self.number, partition: partition.0 });
        }
        self.inner().release(partitions).await
    }

    async fn close(mut self: Box<Self>) -> Result<()> {
        self.recorder.note(Record::Leaving { consumer: self.number });
        match self.inner.take() {
            Some(inner) => inner.close().await,
            None => Ok(()),
        }
    }
}

impl Drop for RecordingConsumer {
    fn drop(&mut self) {
        if self.inner.is_some() {
            self.recorder.note(Record::Leaving { consumer: self.number });
        }
    }
}

#[derive(Debug)]
struct RecordingTransactions {
    inner: Arc<dyn Broker>,
    recorder: Recorder,
}

impl RecordingTransactions {
    fn inner(&self) -> &dyn Transactions {
        self.inner.transactions().expect("asked for only where the broker has them")
    }
}

#[async_trait]
impl Transactions for RecordingTransactions {
    async fn commit(&self, units: Vec<Unit>) -> Vec<Result<()>> {
        let mut shapes = Vec::with_capacity(units.len());
        for unit in &units {
            let call = self.recorder.call();
            for message in &unit.publish {
                self.recorder.note(Record::Publishing { call, sent: message.into() });
            }
            unit.settle.iter().for_each(|token| self.recorder.note(Record::Committing { token: token.into() }));
            let published: Vec<String> = unit.publish.iter().map(|message| message.id.to_string()).collect();
            shapes.push((call, published, unit.settle.clone()));
        }
        let results = self.inner().commit(units).await;
        for ((call, published, settled), result) in shapes.into_iter().zip(&results) {
            let outcome = result.as_ref().map(|()| u32::MAX).map_err(|error| format!("{:?}", error.kind()));
            if outcome.is_ok() {
                settled.iter().for_each(|token| self.recorder.note(Record::Committed { token: token.into() }));
            }
            for id in published {
                self.recorder.note(Record::Published { call, id, outcome: outcome.clone() });
            }
        }
        results
    }

    async fn get(&self, space: Space, key: Bytes) -> Result<Option<(Version, Bytes)>> {
        self.inner().get(space, key).await
    }

    async fn scan(&self, range: ScanRange, limit: usize) -> Result<Vec<Entry>> {
        self.inner().scan(range, limit).await
    }

    async fn scan_each(&self, ranges: Vec<ScanRange>, limit: usize) -> Result<Vec<Vec<Entry>>> {
        self.inner().scan_each(ranges, limit).await
    }

    async fn count_each(&self, ranges: Vec<ScanRange>, limit: usize) -> Result<Vec<usize>> {
        self.inner().count_each(ranges, limit).await
    }
}
