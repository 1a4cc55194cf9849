use std::sync::Arc;
use std::time::Duration;

use partitura_adapter_kit::warn_of_faults;
use partitura_broker::{Capabilities, CorrectedClock, Delay, Durability, Limits, Result, Supports};
use tokio::sync::watch;
use tokio::time::timeout;

use crate::faults::FAULTS;
use crate::link::{Dial, Link};
use crate::options::{Options, Target};
use crate::salvage::Salvage;
use crate::topics::Topics;
use crate::{SYSTEM, delay, version};

/// How long closing waits for what was published to be confirmed.
const LAST_CONFIRMS: Duration = Duration::from_secs(10);

/// What everything that belongs to one broker shares.
#[derive(Debug)]
pub(crate) struct Core {
    pub(crate) capabilities: Capabilities,
    pub(crate) clock: CorrectedClock,
    pub(crate) dial: Arc<Dial>,
    /// Declares, asks, and receives replies.
    pub(crate) control: Arc<Link>,
    /// Publishes, and nothing else: the broker may stop reading from it.
    pub(crate) publishing: Arc<Link>,
    pub(crate) topics: Topics,
    pub(crate) salvage: Arc<Salvage>,
    /// How many publishers still have something under way.
    publishers: watch::Sender<usize>,
}

impl Core {
    pub(crate) async fn connect(url: &str, options: &Options) -> Result<Arc<Self>> {
        let target = Target::new(url, options)?;
        let version = version::of_server(&target).await?;
        warn_of_faults(SYSTEM, &version, FAULTS);
        let hold = target.hold;
        let dial = Dial::new(target);
        let (control, publishing) = (dial.link("control"), dial.link("publishing"));
        // Whether the credentials are right is known now, and not at the first use.
        control.connection().await?;
        Ok(Arc::new(Self {
            capabilities: capabilities(&version, hold),
            clock: CorrectedClock::default(),
            topics: Topics::new(control.clone()),
            salvage: Arc::default(),
            dial,
            control,
            publishing,
            publishers: watch::Sender::new(0),
        }))
    }

    /// Counts a publisher until the guard is dropped.
    pub(crate) fn publisher(&self) -> PublisherGuard {
        self.publishers.send_modify(|count| *count += 1);
        PublisherGuard(self.publishers.clone())
    }

    /// Takes nothing new, waits for what was accepted, and closes the connections.
    pub(crate) async fn close(&self) -> Result<()> {
        self.dial.close();
        let mut publishers = self.publishers.subscribe();
        // What is not confirmed by then fails with an unknown outcome.
        let _ = timeout(LAST_CONFIRMS, publishers.wait_for(|count| *count == 0)).await;
        self.dial.hang_up().await
    }
}

/// A publisher that has not ended.
#[derive(Debug)]
pub(crate) struct PublisherGuard(watch::Sender<usize>);

impl Drop for PublisherGuard {
    fn drop(&mut self) {
        self.0.send_modify(|count| *count -= 1);
    }
}

fn capabilities(version: &str, hold: Duration) -> Capabilities {
    Capabilities {
        broker: format!("rabbitmq {version}"),
        // Quorum queues sync their log before they confirm, on a majority of their nodes where there are several.
        durability: Durability::Synced,
        delay: Delay { native: true, max: delay::MAX, lateness: delay::LATENESS },
        hold: Some(hold),
        limits: Limits::default(),
        supports: Supports::default(),
    }
}
