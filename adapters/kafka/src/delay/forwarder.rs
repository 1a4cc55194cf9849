use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use partitura_broker::telemetry::TARGET;
use partitura_broker::{Result, TopicName};
use tokio::runtime::Handle;

use super::group::GroupForwarding;
use super::index::BACKOFF;
use super::leases::Leases;
use super::memory::Memory;
use super::owned::{OwnedForwarding, Owner};
use crate::core::Core;
use crate::stop::Stop;
use crate::{error, names};

/// The time without a failure after which the next failure counts as the first.
const SOUND: Duration = Duration::from_secs(60);
/// The longest sleep between two looks whether to stop.
const NAP: Duration = Duration::from_millis(50);

/// The forwarder of the delayed messages of one topic that is not a queue ordered by key. Dropping it ends it; another process takes over.
#[derive(Debug)]
pub(crate) struct DelayForwarder(Arc<Stop>);

impl DelayForwarder {
    /// Starts the forwarder of a topic. Must be called within tokio's runtime.
    pub(super) fn start(core: &Arc<Core>, topic: &TopicName, memory: Memory) -> Result<Arc<Self>> {
        let stop = Stop::new();
        core.stop_on_close(&stop);
        let watched = core.topics.watch(&names::timers(topic));
        let (weak, named, stopped) = (Arc::downgrade(core), topic.clone(), stop.clone());
        spawn(move || {
            let run = || GroupForwarding::start(&weak, &named, &watched, &memory)?.run(&stopped);
            supervise(named.as_str(), &stopped, run);
        })?;
        Ok(Arc::new(Self(stop)))
    }
}

/// Starts the forwarder of all queues of a connection, which ends with the connection. Must be called within tokio's
/// runtime.
pub(super) fn start_owned(core: &Arc<Core>, memory: Memory) -> Result<Arc<Leases>> {
    let stop = Stop::new();
    core.stop_on_close(&stop);
    let (sender, signals) = mpsc::channel();
    let leases = Arc::new(Leases::new(sender.clone()));
    let (core, runtime) = (Arc::downgrade(core), Handle::current());
    let owner = Owner { core, runtime, memory, leases: leases.clone(), signals, sender };
    spawn(move || supervise("all queues", &stop, || OwnedForwarding::start(&owner)?.run(&stop)))?;
    Ok(leases)
}

fn spawn(run: impl FnOnce() + Send + 'static) -> Result<()> {
    let spawned = thread::Builder::new().name("kafka-timers".into()).spawn(run);
    spawned.map(drop).map_err(|source| error::thread("subscribe", source))
}

impl Drop for DelayForwarder {
    fn drop(&mut self) {
        self.0.stop();
    }
}

/// Runs until `run` returns without an error, or is to stop. After a failure or a panic it runs again, after a
/// pause.
fn supervise(topic: &str, stop: &Stop, mut run: impl FnMut() -> Result<()>) {
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
        tracing::warn!(target: TARGET, topic, failure, ?wait, "restarting the forwarder of delayed messages");
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
        let (stop, runs) = (Stop::new(), Cell::new(0));
        supervise("t", &stop, || {
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
        let (stop, runs) = (Stop::new(), Cell::new(0));
        supervise("t", &stop, || {
            runs.set(runs.get() + 1);
            stop.stop();
            Err(Error::new(ErrorKind::Disconnected, "subscribe", "no brokers"))
        });
        assert_eq!(runs.get(), 1);
    }
}
