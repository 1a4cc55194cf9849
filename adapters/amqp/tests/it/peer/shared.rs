//! The state of a peer, which its connections share.

use std::sync::{Mutex, MutexGuard};

use tokio::sync::{Notify, mpsc, watch};

use super::nodes::{Nodes, Out};

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
