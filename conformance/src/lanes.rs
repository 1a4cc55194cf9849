//! Lanes on the broker under test, with handlers that record.

use std::future::Future;

use partitura_broker::{ConsumerOptions, Delivery, Ordering, Topology};
use partitura_lanes::{Batch, DeadLetters, Handler, LaneOptions, Lanes, Outcome, SubscriptionTopics, Trials};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::client::{Client, Queue};
use crate::own_key::restore_key;
use crate::{Env, Record, Recorder, Stop};

/// A queue, read through lanes.
#[derive(Debug, Clone)]
pub(crate) struct LaneQueue {
    pub(crate) queue: Queue,
    pub(crate) source: SubscriptionTopics,
}

impl LaneQueue {
    pub(crate) fn new(env: &Env) -> Self {
        let queue = env.queue("orders", Ordering::ByKey { partitions: 4 });
        let source = SubscriptionTopics::new(queue.topic.clone(), queue.subscription.clone(), queue.ordering);
        Self { queue, source }
    }

    /// Declares the queue with its dead letters and its parking.
    pub(crate) async fn declare(&self, client: &Client) -> Result<(), Stop> {
        client.declare(&self.source.declare_queue(Topology::new(), true)?).await
    }

    /// The lanes' defaults, with parking.
    pub(crate) fn options() -> LaneOptions {
        LaneOptions::default().parking(true)
    }

    /// Runs `handle` over the queue. It gets a message and the number of its run.
    pub(crate) async fn run<F, R>(
        &self,
        env: &Env,
        client: &Client,
        options: LaneOptions,
        handle: F,
    ) -> Result<Running, Stop>
    where
        F: Fn(Delivery, u32) -> R + Send + Sync + 'static,
        R: Future<Output = Outcome> + Send,
    {
        let subscription = self.queue.subscription.to_string();
        let handler = Recorded { handle, recorder: env.recorder.clone(), number: env.recorder.number(), subscription };
        let (view, options) = (env.subject.broker_of_lanes(client.shared()), env.subject.lane_options(options));
        // Cases that run at the same time have nothing to do with each other.
        let options = options.trials(Trials::default());
        let lanes = Lanes::open(&*view, self.source.clone(), options, handler).await?;
        let (stop, stopped) = oneshot::channel::<()>();
        Ok(Running { stop, task: tokio::spawn(lanes.run_until(stopped)) })
    }

    /// To read the queue without lanes: with its parking topic, as it was declared.
    pub(crate) fn both_topics(&self) -> Result<ConsumerOptions, Stop> {
        let topics = [self.queue.topic.clone()].into_iter().chain(self.source.parking_topic()?);
        Ok(ConsumerOptions::new(self.queue.subscription.clone(), topics))
    }

    pub(crate) fn dead_letters(&self, env: &Env, client: &Client) -> Result<DeadLetters, Stop> {
        Ok(DeadLetters::new(env.subject.broker_of_lanes(client.shared()), self.source.clone())?)
    }
}

/// Running lanes.
#[derive(Debug)]
pub(crate) struct Running {
    stop: oneshot::Sender<()>,
    task: JoinHandle<partitura_broker::Result<()>>,
}

impl Running {
    /// Shuts down in good order.
    pub(crate) async fn stop(self) -> Result<(), Stop> {
        self.stopping().await
    }

    /// Tells them to shut down, at once; the future waits until they have.
    pub(crate) fn stopping(self) -> impl Future<Output = Result<(), Stop>> {
        drop(self.stop);
        async { Ok(self.task.await.map_err(|error| error.to_string())??) }
    }
}

struct Recorded<F> {
    handle: F,
    recorder: Recorder,
    number: u32,
    subscription: String,
}

impl<F, R> Handler for Recorded<F>
where
    F: Fn(Delivery, u32) -> R + Send + Sync + 'static,
    R: Future<Output = Outcome> + Send,
{
    async fn handle(&self, batch: Batch) -> Outcome {
        let attempt = batch.attempt();
        let Some(mut delivery) = batch.into_deliveries().next() else { return Outcome::Done };
        restore_key(&mut delivery.message);
        let id = delivery.message.id.to_string();
        self.recorder.note(Record::Started {
            lanes: self.number,
            subscription: self.subscription.clone(),
            key: delivery.message.key.as_ref().map(|key| key.escape_ascii().to_string()),
            id: id.clone(),
            attempt,
        });
        let outcome = (self.handle)(delivery, attempt).await;
        let word = match &outcome {
            Outcome::Done | Outcome::Settled => "done",
            Outcome::Retry { .. } => "retry",
            Outcome::Dead { .. } => "dead",
            _ => "lost",
        };
        self.recorder.note(Record::Ended { lanes: self.number, id, outcome: word.into() });
        outcome
    }
}
