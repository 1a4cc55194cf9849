//! Delayed messages.
//!
//! Kafka has no delay. So a delayed message waits in a compacted topic with as many partitions as its own. Each
//! process that consumes the topic also runs the forwarder of its delayed messages. The consumer group
//! `partitura-timers.TOPIC` gives each partition of the compacted topic to one process. That process reads it into
//! an index. When a message is due, it publishes the message to its topic, waits for the confirm, and only then
//! writes a tombstone. After a crash in between, the message is published once more under the same id.
//!
//! * **Memory.** The index is a due time and an offset for each message. Only the messages that fall due next have
//!   their contents in memory. Other contents are read again when it is their turn: `index`, `reload`.
//! * **A successor** reads from the lowest offset that waits, which the owner commits.
//! * **Failures.** If a topic refuses all messages, its partition waits longer and longer. If one message alone is
//!   refused, it is tried again later, and the others go on: `forwarding`. A forwarder that fails or panics is
//!   started again.

mod forwarding;
mod index;
mod memory;
mod reload;

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::thread;
use std::time::{Duration, Instant};

use partitura_broker::telemetry::TARGET;
use partitura_broker::{Result, TopicName};

use self::forwarding::Forwarding;
use self::index::BACKOFF;
use self::memory::Memory;
use crate::core::Core;
use crate::stop::Stop;
use crate::{error, names};

/// The time without a failure after which the next failure counts as the first.
const SOUND: Duration = Duration::from_secs(60);
/// The longest sleep between two looks whether to stop.
const NAP: Duration = Duration::from_millis(50);

/// The forwarders that run on a connection, and the memory that they share.
#[derive(Debug, Default)]
pub(crate) struct DelayForwarders {
    memory: Memory,
    running: Mutex<HashMap<TopicName, Weak<DelayForwarder>>>,
}

impl DelayForwarders {
    /// The forwarder of a topic, which runs for as long as it is held. Must be called within tokio's
    /// runtime.
    pub(crate) fn forwarder(&self, core: &Arc<Core>, topic: &TopicName) -> Result<Arc<DelayForwarder>> {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(forwarder) = running.get(topic).and_then(Weak::upgrade) {
            return Ok(forwarder);
        }
        let started = start(core, topic, self.memory.clone())?;
        running.insert(topic.clone(), Arc::downgrade(&started));
        Ok(started)
    }
}

/// The forwarder of the delayed messages of one topic. Dropping it ends it; another process takes over.
#[derive(Debug)]
pub(crate) struct DelayForwarder(Arc<Stop>);

impl Drop for DelayForwarder {
    fn drop(&mut self) {
        self.0.stop();
    }
}

/// Starts the forwarder of a topic. Must be called within tokio's runtime.
fn start(core: &Arc<Core>, topic: &TopicName, memory: Memory) -> Result<Arc<DelayForwarder>> {
    let stop = Stop::new();
    core.stop_on_close(&stop);
    let watched = core.topics.watch(&names::timers(topic));
    let (weak, named, stopped) = (Arc::downgrade(core), topic.clone(), stop.clone());
    let run =
        move || supervise(&named, &stopped, || Forwarding::start(&weak, &named, &watched, &memory)?.run(&stopped));
    thread::Builder::new()
        .name("kafka-timers".into())
        .spawn(run)
        .map_err(|source| error::thread("subscribe", source))?;
    Ok(Arc::new(DelayForwarder(stop)))
}

/// Runs until `run` returns without an error, or is to stop. After a failure or a panic it runs again, after a
/// pause.
fn supervise(topic: &TopicName, stop: &Stop, mut run: impl FnMut() -> Result<()>) {
    let mut failures = 0;
    while !stop.is_stopped() {
        let began = Instant::now();
        let failure = match catch_unwind(AssertUnwindSafe(&mut run)) {
            Ok(Ok(())) => return,
            Ok(Err(error)) => error.to_string(),
            Err(_) => "it panicked".to_owned(),
        };
        failures = if began.elapsed() > SOUND { 1 } else { failures + 1 };
        let wait = BACKOFF.delay(failures, u64::MAX);
        tracing::warn!(target: TARGET, %topic, failure, ?wait, "restarting the forwarder of delayed messages");
        let until = Instant::now() + wait;
        while !stop.is_stopped() && Instant::now() < until {
            thread::sleep(NAP.min(wait));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use partitura_broker::{Error, ErrorKind};

    use super::*;

    #[test]
    fn a_forwarder_that_fails_or_panics_is_started_again() {
        let (topic, stop, runs) = (TopicName::new("t").expect("a valid name"), Stop::new(), Cell::new(0));
        supervise(&topic, &stop, || {
            runs.set(runs.get() + 1);
            match runs.get() {
                1 => Err(Error::new(ErrorKind::Disconnected, "subscribe", "no brokers")),
                2 => panic!("on purpose"),
                _ => Ok(()),
            }
        });
        assert_eq!(runs.get(), 3);
    }

    #[test]
    fn a_forwarder_that_is_to_stop_is_not_started_again() {
        let (topic, stop, runs) = (TopicName::new("t").expect("a valid name"), Stop::new(), Cell::new(0));
        supervise(&topic, &stop, || {
            runs.set(runs.get() + 1);
            stop.stop();
            Err(Error::new(ErrorKind::Disconnected, "subscribe", "no brokers"))
        });
        assert_eq!(runs.get(), 1);
    }
}
