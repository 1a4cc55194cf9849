//! The state of a peer, which its connections share.

use std::sync::{Mutex, MutexGuard};
use std::time::Instant;

use fe2o3_amqp::types::messaging::{AmqpValue, Body, Message, Properties};
use fe2o3_amqp::types::primitives::Value;
use tokio::sync::{Notify, mpsc, watch};

use super::nodes::{Nodes, Out, Stored};

/// The broker that is played.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Plays {
    Solace,
    ServiceBus,
}

#[derive(Debug)]
pub(super) struct Shared {
    pub(super) plays: Plays,
    pub(super) state: Mutex<State>,
    pub(super) changed: Notify,
    /// Whether published messages are confirmed.
    pub(super) confirms: watch::Sender<bool>,
}

#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) nodes: Nodes,
    /// The events, a line each.
    pub(super) log: Vec<String>,
    /// The number of connections so far.
    pub(super) connections: u64,
    /// The ways to them.
    pub(super) open: Vec<mpsc::UnboundedSender<Out>>,
    /// The queue to which a message comes before each look at it.
    pub(super) busy: Option<String>,
    /// The moments of these looks.
    pub(super) looks: Vec<Instant>,
}

impl State {
    /// Takes note that a client looks at a queue.
    pub(super) fn looks_at(&mut self, node: &str) {
        if self.busy.as_deref() == Some(node) {
            self.looks.push(Instant::now());
            let properties = Properties::builder().group_id("others/of-another".to_owned()).build();
            let body = Body::Value(AmqpValue(Value::Null));
            let message: Stored = Message::builder().properties(properties).body(body).build();
            self.nodes.put(node, message);
        }
    }
}

impl Shared {
    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no test panics with it")
    }

    pub(super) fn log(&self, line: String) {
        self.state().log.push(line);
        self.changed.notify_waiters();
    }
}
