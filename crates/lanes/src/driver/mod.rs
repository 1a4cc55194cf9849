//! Runs the [core](crate::core): gives it events and time, and carries out its actions.

mod publish;
mod report;
mod tasks;

use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use partitura_broker::{Capabilities, Clock, Consumer, Error, Event, Partition, Producer, Result};
use tokio::sync::mpsc;
use tokio::time::{Instant, Sleep, sleep_until, timeout};

use self::publish::Publisher;
use self::report::Report;
use self::tasks::Tasks;
use crate::core::{Actions, Core, Now, Parking, Settings};
use crate::meter::{Held, Meter};
use crate::{Handler, LaneOptions, Retry, SubscriptionTopics, Trials};

/// Number of reports that are taken up before the consumer is looked at again.
const REPORTS: usize = 1_024;
/// How long a wait lasts at most before the clock is looked at again: it may have jumped, or have been corrected.
const LOOK_AGAIN: Duration = Duration::from_secs(60);
/// The same where a message came too early, for then some clock is off.
const LOOK_SOON: Duration = Duration::from_secs(1);
/// How often the gauges of what is in memory are set, at most.
const MEASURE_EVERY: Duration = Duration::from_secs(1);
/// How long the broker has at least to take the last settlements.
const LAST_SETTLEMENTS: Duration = Duration::from_secs(10);
/// The wait where nothing waits for the time: practically for ever.
const NEVER: Duration = Duration::from_secs(365 * 24 * 3_600);

pub(crate) struct Driver<H> {
    consumer: Box<dyn Consumer>,
    handler: Arc<H>,
    core: Core,
    /// Actions that are not carried out yet.
    actions: Actions,
    tasks: Tasks,
    publisher: Publisher,
    meter: Meter,
    /// When the meter was last told how much is in memory, and how much that was.
    measured: Option<(Duration, Held)>,
    reports: mpsc::UnboundedReceiver<Report>,
    report: mpsc::UnboundedSender<Report>,
    clock: Arc<dyn Clock>,
    start: Instant,
    revoke_within: Duration,
    drain_within: Duration,
}

impl<H: Handler> Driver<H> {
    pub(crate) fn new(
        consumer: Box<dyn Consumer>,
        producer: Arc<dyn Producer>,
        capabilities: &Capabilities,
        source: &SubscriptionTopics,
        options: &LaneOptions,
        handler: Arc<H>,
    ) -> Result<Self> {
        let (report, reports) = mpsc::unbounded_channel();
        let meter = Meter::new(source.topic());
        Ok(Self {
            consumer,
            handler,
            core: Core::new(settings(capabilities, source, options)?),
            actions: Actions::default(),
            tasks: Tasks::new(meter.clone()),
            publisher: Publisher::new(
                producer,
                source,
                capabilities.limits,
                options.clock.clone(),
                (report.clone(), meter.clone()),
            )?,
            meter,
            measured: None,
            reports,
            report,
            clock: options.clock.clone(),
            start: Instant::now(),
            revoke_within: options.revoke_within,
            drain_within: options.drain_within,
        })
    }

    pub(crate) async fn run_until(mut self, shutdown: impl Future<Output = impl Sized> + Send) -> Result<()> {
        let mut shutdown = pin!(shutdown);
        let mut alarm = pin!(sleep_until(self.start));
        let mut failures = Failures::default();
        loop {
            self.take_reports().await;
            self.act().await;
            let now = self.now();
            self.set_alarm(alarm.as_mut(), now);
            tokio::select! {
                biased;
                _ = &mut shutdown => return self.leave(Ok(())).await,
                event = failures.next(&mut self.consumer) => match event {
                    Ok(event) => self.event(event),
                    Err(error) if error.is_retryable() => failures.wait(&error),
                    Err(error) => return self.leave(Err(error)).await,
                },
                Some(report) = self.reports.recv() => self.take(report).await,
                () = alarm.as_mut() => {}
            }
        }
    }

    fn event(&mut self, event: Event) {
        let now = self.now();
        match event {
            Event::Deliveries(deliveries) => {
                self.meter.consumed(deliveries.len());
                for delivery in deliveries {
                    self.handler.received(&delivery);
                    if delivery.message.not_before.is_some_and(|due| due > now.wall) {
                        self.handler.early(&delivery);
                    }
                    self.core.deliver(delivery, now);
                }
            }
            Event::Assigned(assignments) => {
                let partitions: Vec<_> = assignments.iter().map(|assignment| assignment.partition).collect();
                partitions.iter().for_each(|partition| self.core.assigned(*partition, now));
                self.handler.assigned(&partitions);
                self.meter.owns(self.core.owned().len());
            }
            Event::Revoking { partitions, .. } => {
                partitions.into_iter().for_each(|partition| self.core.revoking(partition));
            }
            Event::Lost(partitions) => {
                partitions.iter().for_each(|partition| self.core.lost(*partition, now));
                self.handler.released(&partitions);
                self.meter.owns(self.core.owned().len());
            }
            other => tracing::debug!(?other, "an event of a newer contract was ignored"),
        }
    }

    /// Carries out what the core asks for.
    async fn act(&mut self) {
        let now = self.now();
        self.core.tick(now);
        self.measure(now);
        while let Some(start) = self.core.start(now) {
            self.tasks.run(start, self.handler.clone(), self.report.clone());
        }
        self.core.take_actions(&mut self.actions);
        self.publisher.bury(self.actions.burials.drain(..));
        self.publisher.mark(std::mem::take(&mut self.actions.markers));
        self.publisher.park(std::mem::take(&mut self.actions.moves));
        self.settle();
        self.settle_late().await;
        self.release().await;
    }

    /// Tells the meter how much is in memory: once in a while, and when nothing is left. It wakes nobody for that.
    fn measure(&mut self, now: Now) {
        let is_due = match self.measured {
            Some((last, _)) if now.steady >= last + MEASURE_EVERY => true,
            Some((_, held)) => held != Held::default() && self.core.holds_nothing(),
            None => true,
        };
        if cfg!(feature = "metrics") && is_due {
            let held = self.core.held();
            self.meter.holds(held);
            self.measured = Some((now.steady, held));
        }
    }

    async fn release(&mut self) {
        let released = std::mem::take(&mut self.actions.released);
        if released.is_empty() {
            return;
        }
        self.let_go(&released).await;
        match timeout(self.revoke_within, self.consumer.release(&released)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(%error, ?released, "partitions were released without a clean end"),
            Err(_) => tracing::warn!(?released, "the broker did not answer to a release in time"),
        }
    }

    /// Has the handler let go of partitions of which nothing runs any more.
    async fn let_go(&mut self, partitions: &[Partition]) {
        if timeout(self.revoke_within, self.handler.releasing(partitions)).await.is_err() {
            tracing::warn!(?partitions, "the handler did not finish its work on partitions that are given up");
        }
        self.handler.released(partitions);
        self.meter.owns(self.core.owned().len());
    }

    fn settle(&mut self) {
        if !self.actions.settle.is_empty() {
            self.consumer.settle(&self.actions.settle);
            self.actions.settle.clear();
        }
    }

    async fn settle_late(&mut self) {
        let tokens = std::mem::take(&mut self.actions.settle_late);
        if tokens.is_empty() {
            return;
        }
        match self.consumer.flush().await {
            Ok(()) => self.consumer.settle(&tokens),
            Err(error) => tracing::debug!(%error, "leaving old markers to the next owner"),
        }
    }

    async fn take_reports(&mut self) {
        for _ in 0..REPORTS {
            let Ok(report) = self.reports.try_recv() else { return };
            self.take(report).await;
        }
    }

    async fn take(&mut self, report: Report) {
        let now = self.now();
        match report {
            Report::Finished { lane, outcome } => {
                self.tasks.ended(lane);
                self.core.finished(lane, outcome, now);
            }
            Report::Buried { lane, confirmed } => self.core.buried(lane, confirmed, now),
            Report::Marked(markers) => {
                for marker in markers {
                    if marker.confirmed {
                        self.core.marker_confirmed(marker.item);
                    } else {
                        self.core.marker_failed(marker.item, now);
                    }
                }
            }
            Report::Moved(moves) => {
                let old = moves.iter().filter(|moved| moved.confirmed).map(|moved| moved.item.token);
                self.consumer.settle(&old.collect::<Vec<_>>());
                // The new copies may not run before the old ones are gone for good: otherwise, after a crash, an old
                // copy would come behind its successors.
                if let Err(error) = self.consumer.flush().await {
                    tracing::warn!(%error, "parked messages may be run twice");
                }
                moves.into_iter().for_each(|moved| self.core.moved(moved.item, moved.confirmed, now));
            }
        }
    }

    /// Ends in good order.
    async fn leave(mut self, result: Result<()>) -> Result<()> {
        let within = self.drain_within;
        self.core.drain();
        let drained = async {
            loop {
                self.take_reports().await;
                self.act().await;
                if self.core.is_quiet() {
                    break;
                }
                match self.reports.recv().await {
                    Some(report) => self.take(report).await,
                    None => break,
                }
            }
        };
        if timeout(within, drained).await.is_err() {
            tracing::warn!(?within, "handlers were still running and are dropped");
        }
        self.tasks.abort();
        let owned = self.core.owned();
        self.let_go(&owned).await;
        self.core.take_actions(&mut self.actions);
        self.settle();
        result?;
        // The settlements are sent, however short a time there was to finish the rest.
        match timeout(within.max(LAST_SETTLEMENTS), self.consumer.close()).await {
            Ok(closed) => closed,
            Err(_) => {
                let message = "the broker did not take the last settlements in time; some messages will come again";
                Err(Error::new(partitura_broker::ErrorKind::Timeout, "leave the subscription", message))
            }
        }
    }

    fn now(&self) -> Now {
        Now { steady: self.start.elapsed(), wall: self.clock.now() }
    }

    fn set_alarm(&self, mut alarm: Pin<&mut Sleep>, now: Now) {
        let look = if self.core.holds_early() { LOOK_SOON } else { LOOK_AGAIN };
        let at = self.start + now.steady + self.core.idle_for(now).map_or(NEVER, |idle| idle.min(look));
        // An alarm that comes too early does no harm, and setting one costs more than that.
        if alarm.is_elapsed() || alarm.deadline() > at {
            alarm.as_mut().reset(at);
        }
    }
}

/// The consumer's failures, and the pause after them.
#[derive(Debug, Default)]
struct Failures {
    count: u32,
    until: Option<Instant>,
}

impl Failures {
    async fn next(&mut self, consumer: &mut Box<dyn Consumer>) -> Result<Event> {
        if let Some(until) = self.until {
            sleep_until(until).await;
            self.until = None;
        }
        let event = consumer.next().await?;
        self.count = 0;
        Ok(event)
    }

    fn wait(&mut self, error: &Error) {
        self.count = self.count.saturating_add(1);
        let patient = Retry::exponential().initial(Duration::from_millis(100)).max_interval(Duration::from_secs(10));
        let pause = patient.delay(self.count, 0.5).unwrap_or_default();
        tracing::warn!(%error, failures = self.count, ?pause, "the consumer failed and is asked again after a pause");
        self.until = Some(Instant::now() + pause);
    }
}

fn settings(capabilities: &Capabilities, source: &SubscriptionTopics, options: &LaneOptions) -> Result<Settings> {
    let parking = source.parking_topic()?.filter(|_| options.parking).map(|topic| Parking {
        topic,
        hold: options.holds(capabilities),
        behind: options.behind,
        full_messages: options.credit.messages.get().div_ceil(2),
        full_bytes: options.credit.bytes.get().div_ceil(2),
    });
    let ordered = source.ordering() != partitura_broker::Ordering::Shared;
    Ok(Settings {
        concurrency: options.concurrency.get(),
        batch: options.batch.get(),
        retry: options.retry,
        ordered: ordered || source.subscription().is_none(),
        assigned: ordered && source.subscription().is_some(),
        parking,
        crashes: Trials::limit(options.crashes),
        most_begun: options.credit.messages.get().saturating_mul(2),
        trials: options.trials.clone(),
        seed: options.seed.unwrap_or_else(|| uuid::Uuid::now_v7().as_u64_pair().1),
    })
}
