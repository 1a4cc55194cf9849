//! The connections that consume, which the consumers of a process share.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use partitura_broker::ConsumerOptions;

use crate::client::{Client, Connector};
use crate::lock::HeldLocks;

/// The number of connections that are made before consumers share one. Each costs a thread and its buffers, here and
/// at the broker. A lost connection, or one that the client takes for broken, costs the partitions of its consumers.
const FEW: usize = 4;
/// The number of channels of a connection beyond which another one is made. The broker's limit is usually 2,047.
const MOST_CHANNELS: usize = 1_000;
/// The channels of a consumer beside those of its partitions: for heartbeats, for asking, and for freeing locks.
const MORE_CHANNELS: usize = 3;

/// The shared connections.
#[derive(Debug, Default)]
pub(crate) struct ConsumingConnections(Mutex<Vec<Arc<SharedConnection>>>);

/// A connection for the claims of several consumers.
#[derive(Debug)]
struct SharedConnection {
    connector: Arc<Connector>,
    /// The locks that this process holds on it. The broker tells connections apart, and not the consumers on one.
    locks: HeldLocks,
    /// The number of channels that its consumers may need.
    channels: AtomicUsize,
}

/// The part of a consumer in a connection.
#[derive(Debug)]
pub(crate) struct Seat {
    shared: Arc<SharedConnection>,
    channels: usize,
}

impl ConsumingConnections {
    /// Chooses the connection for a consumer: the one with the fewest channels.
    pub(crate) fn seat(&self, client: &Arc<Client>, options: &ConsumerOptions, partitions: u32) -> Seat {
        // One for the messages of each partition, and one for those of the topic that fall due.
        let channels = options.topics.len() * (partitions as usize + 1) + MORE_CHANNELS;
        // Refused claims use up the other half of the numbers.
        let most = MOST_CHANNELS.min(usize::from(client.channel_max()) / 2);
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let few = all.iter().min_by_key(|shared| shared.channels()).cloned();
        let room = |shared: &Arc<SharedConnection>| {
            shared.channels() == 0 || (all.len() >= FEW && shared.channels() + channels <= most)
        };
        let shared = few.filter(room).unwrap_or_else(|| {
            let (connector, locks) = (client.connector("consuming"), HeldLocks::default());
            let shared = Arc::new(SharedConnection { connector, locks, channels: AtomicUsize::new(0) });
            all.push(shared.clone());
            shared
        });
        shared.channels.fetch_add(channels, Ordering::Relaxed);
        Seat { shared, channels }
    }
}

impl SharedConnection {
    fn channels(&self) -> usize {
        self.channels.load(Ordering::Relaxed)
    }
}

impl Seat {
    pub(crate) fn connector(&self) -> &Arc<Connector> {
        &self.shared.connector
    }

    pub(crate) fn locks(&self) -> &HeldLocks {
        &self.shared.locks
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.shared.channels.fetch_sub(self.channels, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use partitura_broker::{Result, SubscriptionName, TopicName};

    use super::*;
    use crate::options::{Options, Target};

    fn options() -> Result<ConsumerOptions> {
        Ok(ConsumerOptions::new(SubscriptionName::new("s")?, [TopicName::new("a")?, TopicName::new("b")?]))
    }

    fn connections(seats: &[Seat]) -> usize {
        let mut all: Vec<_> = seats.iter().map(|seat| Arc::as_ptr(&seat.shared)).collect();
        all.sort_unstable();
        all.dedup();
        all.len()
    }

    #[test]
    fn many_consumers_share_few_connections_and_a_full_one_takes_no_more() -> Result<()> {
        let client = Client::new(Target::new("amqp://localhost", &Options::default())?);
        let (all, options) = (ConsumingConnections::default(), options()?);
        let seats = |count, partitions| (0..count).map(|_| all.seat(&client, &options, partitions)).collect::<Vec<_>>();
        let mut some = seats(FEW, 16);
        assert_eq!(connections(&some), FEW, "a connection each");
        some.extend(seats(96, 16));
        assert_eq!(connections(&some), FEW);
        some.extend(seats(20, 16));
        assert_eq!(connections(&some), FEW + 1, "four have more than 1,000 channels each");
        drop(some);
        assert_eq!(connections(&seats(1, 5_000)), 1, "an empty connection takes any consumer");
        Ok(())
    }
}
