//! A peer that speaks AMQP 1.0 as the documentation of a broker says, and no more: it has the queues that a test gives
//! it, refuses links as that broker does, and writes down what clients ask.

mod connection;
mod frames;
mod login;
mod nodes;
mod requests;
mod shared;

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use fe2o3_amqp::types::messaging::{ApplicationProperties, Body, Data, Message, Properties};
use fe2o3_amqp::types::primitives::Binary;
use tokio::net::TcpListener;
use tokio::sync::{Notify, watch};

pub(crate) use self::nodes::Queue;
use self::nodes::{Nodes, Out};
pub(crate) use self::shared::Plays;
use self::shared::{Shared, State};

/// Nothing here takes as long.
const TIME_LIMIT: Duration = Duration::from_secs(30);

/// A running peer.
#[derive(Debug, Clone)]
pub(crate) struct Peer {
    address: SocketAddr,
    shared: Arc<Shared>,
}

impl Peer {
    pub(crate) async fn start(plays: Plays, queues: impl IntoIterator<Item = (String, Queue)>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let state =
            State { nodes: Nodes { queues: queues.into_iter().collect(), ..Nodes::default() }, ..State::default() };
        let (state, changed, confirms) = (Mutex::new(state), Notify::new(), watch::Sender::new(true));
        let shared = Arc::new(Shared { plays, state, changed, confirms });
        let accepting = shared.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(connection::serve(accepting.clone(), stream));
            }
        });
        Self { address, shared }
    }

    /// The URL for the adapter.
    pub(crate) fn url(&self) -> String {
        let profile = match self.shared.plays {
            Plays::Solace => "solace",
            Plays::ServiceBus => "servicebus",
        };
        format!("amqp10://user:secret@{}?profile={profile}", self.address)
    }

    /// The events so far.
    pub(crate) fn log(&self) -> Vec<String> {
        self.shared.state().log.clone()
    }

    /// Waits for a line that contains this text, from the line of this number on. Returns the number of the next.
    pub(crate) async fn happens(&self, text: &str, from: usize) -> usize {
        let waiting = async {
            loop {
                let changed = self.shared.changed.notified();
                tokio::pin!(changed);
                changed.as_mut().enable();
                let found = self.log().iter().skip(from).position(|line| line.contains(text));
                if let Some(position) = found {
                    return from + position + 1;
                }
                changed.await;
            }
        };
        let happened = tokio::time::timeout(TIME_LIMIT, waiting).await;
        happened.unwrap_or_else(|_| panic!("{text:?} does not happen in {:#?}", self.log()))
    }

    /// The number of messages in a queue, those with readers included.
    pub(crate) fn backlog(&self, queue: &str) -> usize {
        self.shared.state().nodes.queues[queue].messages.len()
    }

    /// The largest number of messages of a queue that were with readers at once.
    pub(crate) fn most_out(&self, queue: &str) -> usize {
        self.shared.state().nodes.queues[queue].most_out
    }

    /// Puts delayed messages of this many bytes into a queue.
    pub(crate) fn fill(&self, queue: &str, count: usize, size: usize, due: i64) {
        for number in 0..count {
            let table = ApplicationProperties::builder().insert("partitura_due", due).build();
            let properties = Properties::builder().message_id(format!("late-{number}")).build();
            let body = Body::Data(vec![Data(Binary::from(vec![7; size]))].into());
            let message = Message::builder().properties(properties).application_properties(table).body(body).build();
            self.shared.state().nodes.put(queue, message);
        }
    }

    /// From now on a message of others comes to this queue before each look at it.
    pub(crate) fn keep_busy(&self, queue: &str) {
        self.shared.state().busy = Some(queue.to_owned());
    }

    /// The moments of the looks at the queue that is kept busy.
    pub(crate) fn looks(&self) -> Vec<Instant> {
        self.shared.state().looks.clone()
    }

    /// Whether messages that are published from now on are confirmed. Those that were not are confirmed later.
    pub(crate) fn confirm(&self, confirms: bool) {
        self.shared.confirms.send_replace(confirms);
    }

    /// Takes the locks of all sessions away.
    pub(crate) fn lose_locks(&self) {
        let mut state = self.shared.state();
        let queues = state.nodes.queues.values().filter(|queue| queue.has_sessions);
        for reader in queues.flat_map(|queue| &queue.readers) {
            let (_, channel, handle) = reader.link;
            let lost = Out::Detach { channel, handle, condition: "com.microsoft:session-lock-lost" };
            let _ = reader.out.send(lost);
        }
        for queue in state.nodes.queues.values_mut().filter(|queue| queue.has_sessions) {
            queue.leave(|_| true);
        }
    }

    /// Cuts all connections.
    pub(crate) fn cut(&self) {
        for open in self.shared.state().open.drain(..) {
            let _ = open.send(Out::Cut);
        }
    }
}
