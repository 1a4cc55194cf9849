//! Partitura's embedded durable broker: one file, no server.
//!
//! [`Embedded::open`] keeps everything in one SQLite file; a confirmed message has been synced to the disk.
//! [`Embedded::memory`] keeps the same promises for as long as the process lives, for tests and simulations, and runs
//! under tokio's paused clock.
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use partitura_broker::{Broker, ConsumerOptions, Event, Message, Ordering, ProducerOptions, Topology};
//! use partitura_embedded::{Embedded, Options};
//!
//! let broker = Embedded::memory(Options::default())?; // or Embedded::open("data", Options::default())?
//! let (orders, billing) = ("orders".parse()?, "billing".parse::<partitura_broker::SubscriptionName>()?);
//! let orders: partitura_broker::TopicName = orders;
//! let topology = Topology::new()
//!     .queue(orders.clone(), Ordering::ByKey { partitions: 4 })
//!     .subscription(billing.clone(), [orders.clone()]);
//! broker.declare(&topology).await?;
//!
//! let producer = broker.producer(ProducerOptions::default()).await?;
//! let message = Message::new(orders.clone(), "order-1", "one chair").key("customer-7");
//! producer.publish(vec![message]).await.remove(0)?;
//!
//! let mut consumer = broker.consumer(ConsumerOptions::new(billing, [orders])).await?;
//! loop {
//!     if let Event::Deliveries(deliveries) = consumer.next().await? {
//!         assert_eq!(&deliveries[0].message.payload[..], b"one chair");
//!         consumer.settle(&[deliveries[0].token]);
//!         break;
//!     }
//! }
//! consumer.close().await?;
//! broker.close().await?;
//! # Ok(()) }
//! ```
//!
//! # The types and their work
//!
//! ```text
//! producers, transactions ─► queue ─► writer thread ─► file        one transaction and one sync per batch;
//!                                          │                       the next batch forms meanwhile
//!                                          ▼
//! consumers ◄──────────────────────────  state                     queues, owners and unsettled deliveries, in memory
//! ```
//!
//! # The files
//!
//! The files without a mark are those of every adapter. `+` marks files that a broker in the process needs. A file
//! imports only files above it.
//!
//! ```text
//! options.rs  error.rs  wire.rs    no state: settings, errors, messages as blobs
//! lock.rs          + takes a lock
//! topics.rs          Catalog: the declared topics and subscriptions
//! topology.rs        declares, within the catalog and the file
//! delay.rs           Cancellation: of a delayed message
//! request.rs       + Request: one call to the writer
//! storage/         + SQLite, and all statements for it
//! file.rs          + Directory: opens, locks and checks the file
//! state/           + State: queues, owners and unsettled deliveries, in memory
//! core.rs            Core: the state that all parts share
//! writer.rs        + Writer: a batch of requests becomes one transaction
//! readers.rs       + Readers: connections that only read
//! checkpoint.rs    + Checkpointer: moves the log into the file
//! write_queue.rs   + WriteQueue: the requests for the thread that writes
//! client.rs          Client: the writer's handle, and the readers
//! consumer.rs      + EmbeddedConsumer: a member of a subscription
//! inbox.rs           EmbeddedInbox
//! producer.rs        EmbeddedProducer
//! embedded.rs        Embedded: the broker
//! transactions.rs  + the transactions of the broker
//! ```

mod checkpoint;
mod client;
mod consumer;
mod core;
mod delay;
mod embedded;
mod error;
mod file;
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod fuzzing;
mod inbox;
mod lock;
mod options;
mod producer;
mod readers;
mod request;
mod state;
mod storage;
mod topics;
mod topology;
mod transactions;
mod wire;
mod write_queue;
mod writer;

pub use embedded::Embedded;
pub use options::Options;
