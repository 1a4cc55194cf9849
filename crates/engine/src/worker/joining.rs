//! How a worker joins its subscriptions.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use partitura_broker::{Credit, Result};
use partitura_lanes::{Handler, LaneOptions, Lanes, Retry, SubscriptionTopics};

use crate::core::Core;
use crate::retry_for::retry_for;
use crate::wire::ids;

/// How long a worker that starts waits for a broker or a store that is not there yet, or not any more.
pub(super) const RETRY_FOR: Duration = Duration::from_secs(60);

/// Joins a subscription. A delivery whose handler fails is retried without end: commands and tasks are never given up
/// for want of a working store or broker.
pub(super) async fn lanes<H: Handler + Clone>(
    core: &Arc<Core>,
    source: SubscriptionTopics,
    concurrency: NonZeroUsize,
    batch: usize,
    handler: H,
) -> Result<Lanes<H>> {
    let options = LaneOptions::default()
        .concurrency(concurrency.get())
        .batch(batch)
        .retry(Retry::exponential().initial(Duration::from_millis(20)).max_interval(Duration::from_secs(10)))
        .credit(Credit { messages: concurrency, ..Credit::default() })
        .drain_within(core.settings.drain_within)
        .clock(core.clock.clone())
        .seed(ids::seed(&*core.ids));
    let open = || Lanes::open(&*core.broker, source.clone(), options.clone(), handler.clone());
    retry_for(RETRY_FOR, "join a subscription", open).await
}
