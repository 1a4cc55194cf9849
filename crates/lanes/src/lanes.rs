use std::fmt;
use std::future::Future;
use std::sync::Arc;

use partitura_broker::{Broker, Capabilities, Consumer, Error, ErrorKind, Producer, ProducerOptions, Result};

use crate::driver::Driver;
use crate::{Handler, LaneOptions, SubscriptionTopics};

/// Runs a [`Handler`] over the messages of one [`Consumer`], in a lane for each key.
///
/// * **Order.** Of a key one batch at a time is with the handler, in the order of the broker. Messages without a key,
///   and those of shared topics, are each a lane of their own.
/// * **Concurrency.** Batches of different keys run at once, each in a task of its own, up to
///   [`LaneOptions::concurrency`].
/// * **Memory** is bounded by [`LaneOptions::credit`]; the broker keeps the rest.
/// * **Settlement** follows the work: after [`Outcome::Done`](crate::Outcome::Done), or when the dead letter is
///   confirmed. Never before.
/// * **Delay.** A message that a broker delivers too early is held until it is due by [`LaneOptions::clock`].
///
/// ```no_run
/// # async fn print(broker: &dyn partitura_broker::Broker) -> Result<(), Box<dyn std::error::Error>> {
/// use partitura_broker::{Message, Ordering, ProducerOptions, Topology};
/// use partitura_lanes::{Batch, Handler, LaneOptions, Lanes, Outcome, SubscriptionTopics};
///
/// struct Print(tokio::sync::Notify);
///
/// impl Handler for &'static Print {
///     async fn handle(&self, batch: Batch) -> Outcome {
///         println!("{:?}", batch[0].message.payload);
///         self.0.notify_one();
///         Outcome::Done
///     }
/// }
///
/// let source = SubscriptionTopics::new("orders".parse()?, "billing".parse()?, Ordering::ByKey { partitions: 4 });
/// broker.declare(&source.declare_queue(Topology::new(), false)?).await?;
/// let producer = broker.producer(ProducerOptions::default()).await?;
/// producer.publish(vec![Message::new(source.topic().clone(), "1", "one chair").key("ada")]).await.remove(0)?;
///
/// let print: &'static Print = Box::leak(Box::new(Print(Default::default())));
/// let lanes = Lanes::open(broker, source, LaneOptions::default(), print).await?;
/// lanes.run_until(print.0.notified()).await?;
/// # Ok(()) }
/// ```
pub struct Lanes<H> {
    consumer: Box<dyn Consumer>,
    producer: Arc<dyn Producer>,
    capabilities: Capabilities,
    source: SubscriptionTopics,
    options: LaneOptions,
    handler: Arc<H>,
}

impl<H: Handler> Lanes<H> {
    /// Joins the subscription of `source`, which has been declared.
    ///
    /// # Errors
    /// Those of [`Broker::consumer`] and [`Broker::producer`];
    /// [`InvalidArgument`](partitura_broker::ErrorKind::InvalidArgument) for options that contradict themselves.
    ///
    /// # Cancel safety
    /// Safe: nothing is held before it returns.
    pub async fn open(
        broker: &dyn Broker,
        source: SubscriptionTopics,
        options: LaneOptions,
        handler: H,
    ) -> Result<Self> {
        check(&options)?;
        let producer = broker.producer(ProducerOptions::default()).await?;
        let consumer = broker.consumer(source.consumer(&options)?).await?;
        Ok(Self::new(consumer, producer.into(), broker.capabilities(), source, options, handler))
    }

    /// Runs over a consumer that was opened elsewhere. With parking it covers the topic of `source` and its
    /// [parking topic](SubscriptionTopics::parking_topic), and its credit is that of `options`.
    pub fn new(
        consumer: Box<dyn Consumer>,
        producer: Arc<dyn Producer>,
        capabilities: &Capabilities,
        source: SubscriptionTopics,
        options: LaneOptions,
        handler: H,
    ) -> Self {
        Self { consumer, producer, capabilities: capabilities.clone(), source, options, handler: Arc::new(handler) }
    }

    /// Runs until `shutdown` is ready; then takes up nothing new, lets running handlers finish for
    /// [`LaneOptions::drain_within`], settles, and leaves the subscription.
    ///
    /// Messages that were received and not begun are left to the next consumer, as if they had never come.
    ///
    /// # Errors
    /// A final error of the consumer. Retryable ones are logged and waited out, with a growing pause.
    ///
    /// # Cancel safety
    /// Dropping the future is a crash: running handlers are dropped, and unsettled messages are delivered to another.
    pub async fn run_until(self, shutdown: impl Future<Output = impl Sized> + Send) -> Result<()> {
        let Self { consumer, producer, capabilities, source, options, handler } = self;
        Driver::new(consumer, producer, &capabilities, &source, &options, handler)?.run_until(shutdown).await
    }
}

fn check(options: &LaneOptions) -> Result<()> {
    if options.hold.is_some_and(|hold| hold.is_zero()) {
        let message = "a holding bound of nothing would park every message at once";
        return Err(Error::new(ErrorKind::InvalidArgument, "open lanes", message));
    }
    Ok(())
}

impl<H> fmt::Debug for Lanes<H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lanes").field("source", &self.source).field("options", &self.options).finish_non_exhaustive()
    }
}
