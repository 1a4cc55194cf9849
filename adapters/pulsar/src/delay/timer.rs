use std::time::Duration;

use partitura_broker::{Message, Timestamp};

use crate::wire::Outbound;

/// The longest delay.
pub(crate) const MAX_DELAY: Duration = Duration::from_secs(10 * 366 * 24 * 3_600);
/// The time before its moment at which the broker is to deliver a timer: longer than the broker's ticks.
pub(crate) const LEAD: Duration = Duration::from_secs(2);
/// The longest delay that the broker is asked for. A timer that is due later is written again then. Otherwise it would
/// keep its ledger from being deleted, and the broker reads all pending timers when it starts.
const HORIZON: Duration = Duration::from_secs(24 * 3_600);

/// The timer to write for a delayed message, into the timers of its topic.
pub(crate) fn timer(message: Message, due: Timestamp, now: Timestamp) -> Outbound {
    let wait = due.since(now).min(HORIZON).saturating_sub(LEAD);
    let message = Outbound::new(message);
    if wait.is_zero() { message } else { message.deliver_at(now + wait) }
}
