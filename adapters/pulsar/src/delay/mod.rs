//! Delay: a message that is not due yet waits among the timers of its topic, and is forwarded when it is due.
//!
//! Pulsar delays messages only on shared subscriptions, and looks for due messages once in a tick, which is a second
//! long by default. So it is asked to deliver each timer a little before its time (`LEAD`), and the forwarder waits
//! for the moment itself. Every process that consumes a topic is ready to forward, and one of them does.

mod destination;
mod forwarder;
mod forwarders;
mod timer;

pub(crate) use forwarders::{ForwarderGuard, Forwarders};
pub(crate) use timer::{MAX_DELAY, timer};
