//! Messages that are not due yet.
//!
//! RabbitMQ moves a message on when it has been in a queue for the queue's time. So there are [wait
//! queues](wait_queues), of 2¹¹ to 2³¹ ms. A message goes to the largest one that ends half a second before it is due,
//! and from there into the `due` queue of its topic. The consumers of the topic [forward](forwarder) it from there: to
//! its partition, or to the next wait queue. All messages wait equally long in one queue, so that none waits for
//! another. Each round takes at least half of the rest of the delay, by the clock of that moment, so that no error adds
//! up.

mod due;
mod forwarder;
mod recovery;
mod wait_queues;

pub(crate) use forwarder::forward;
pub(crate) use recovery::Recovery;
pub(crate) use wait_queues::{LATENESS, MAX_DELAY, Wait, create, create_due, exists};
