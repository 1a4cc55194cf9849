use std::future::Future;
use std::sync::{Arc, Mutex};

use partitura_broker::{Broker, Message, Ordering, ProducerOptions, Topology};
use partitura_embedded::Embedded;
use partitura_lanes::{Batch, Handler, LaneOptions, Lanes, Outcome, SubscriptionTopics};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// A function as a handler.
pub(crate) struct With<F>(pub(crate) F);

impl<F, R> Handler for With<F>
where
    F: Fn(Batch) -> R + Send + Sync + 'static,
    R: Future<Output = Outcome> + Send,
{
    async fn handle(&self, batch: Batch) -> Outcome {
        (self.0)(batch).await
    }
}

/// The handled messages, in order, and a way to wait for them.
#[derive(Clone)]
pub(crate) struct Log(watch::Sender<Vec<String>>);

impl Log {
    pub(crate) fn new() -> Self {
        Self(watch::Sender::new(Vec::new()))
    }

    pub(crate) fn add(&self, line: impl Into<String>) {
        self.0.send_modify(|lines| lines.push(line.into()));
    }

    pub(crate) fn lines(&self) -> Vec<String> {
        self.0.borrow().clone()
    }

    pub(crate) async fn until(&self, what: impl FnMut(&Vec<String>) -> bool) -> Vec<String> {
        self.0.subscribe().wait_for(what).await.unwrap().clone()
    }

    pub(crate) async fn count(&self, lines: usize) -> Vec<String> {
        self.until(|log| log.len() >= lines).await
    }
}

/// Lanes at work, until stopped.
pub(crate) struct Running {
    stop: Option<tokio::sync::oneshot::Sender<()>>,
    task: JoinHandle<partitura_broker::Result<()>>,
}

impl Running {
    pub(crate) async fn stop(mut self) {
        drop(self.stop.take());
        self.task.await.unwrap().unwrap();
    }

    pub(crate) async fn crash(self) {
        self.task.abort();
        let _ = self.task.await;
    }
}

pub(crate) struct World {
    pub(crate) broker: Arc<dyn Broker>,
    pub(crate) source: SubscriptionTopics,
    number: Mutex<usize>,
}

impl World {
    /// A queue of four partitions, with or without parking.
    pub(crate) async fn new(parking: bool) -> Self {
        Self::over(Arc::new(Embedded::memory(Default::default()).unwrap()), parking).await
    }

    pub(crate) async fn over(broker: Arc<dyn Broker>, parking: bool) -> Self {
        let ordering = Ordering::ByKey { partitions: 4 };
        let source = SubscriptionTopics::new("orders".parse().unwrap(), "billing".parse().unwrap(), ordering);
        broker.declare(&source.declare_queue(Topology::new(), parking).unwrap()).await.unwrap();
        Self { broker, source, number: Mutex::new(0) }
    }

    pub(crate) fn message(&self, key: &str, payload: &str) -> Message {
        let mut number = self.number.lock().unwrap();
        *number += 1;
        Message::new(self.source.topic().clone(), format!("m{number}"), payload.to_owned()).key(key.to_owned())
    }

    /// Publishes `key:payload` each.
    pub(crate) async fn publish(&self, messages: &[&str]) {
        let split = messages.iter().map(|text| text.split_once(':').unwrap());
        self.publish_all(split.map(|(key, payload)| self.message(key, payload)).collect()).await;
    }

    pub(crate) async fn publish_all(&self, messages: Vec<Message>) {
        let producer = self.broker.producer(ProducerOptions::default()).await.unwrap();
        for result in producer.publish(messages).await {
            result.unwrap();
        }
    }

    pub(crate) async fn run<F, R>(&self, options: LaneOptions, handler: F) -> Running
    where
        F: Fn(Batch) -> R + Send + Sync + 'static,
        R: Future<Output = Outcome> + Send + 'static,
    {
        let lanes = Lanes::open(&*self.broker, self.source.clone(), options, With(handler)).await.unwrap();
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let task = tokio::spawn(async move {
            lanes
                .run_until(async {
                    let _ = stopped.await;
                })
                .await
        });
        Running { stop: Some(stop), task }
    }
}

/// `key:payload` of the first of a batch.
pub(crate) fn text(batch: &Batch) -> String {
    let message = &batch[0].message;
    let key = message.key.as_deref().unwrap_or_default();
    format!("{}:{}", String::from_utf8_lossy(key), String::from_utf8_lossy(&message.payload))
}
