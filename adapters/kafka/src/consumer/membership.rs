use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, watch};

use super::driving_thread::DrivingThread;
use super::state::State;
use crate::error;

/// The state that the polling thread and the consumer share.
pub(crate) struct Membership {
    state: Mutex<State>,
    /// Notified when there may be an event.
    pub(super) arrived: Arc<Notify>,
    /// Changes with each round of the polling thread.
    pub(super) rounds: watch::Sender<()>,
    /// Whether settlements are to be committed at once.
    pub(super) hurry: AtomicBool,
    /// Whether there is something to do.
    pub(super) woken: AtomicBool,
    thread: Arc<DrivingThread>,
    pub(super) stop: AtomicBool,
    /// Whether the last commit has been made.
    pub(super) left: AtomicBool,
    /// Whether the group knows that the consumer has left.
    pub(super) gone: AtomicBool,
}

impl Membership {
    pub(super) fn new(state: State, thread: Arc<DrivingThread>) -> Self {
        Self {
            state: Mutex::new(state),
            arrived: Arc::default(),
            rounds: watch::Sender::new(()),
            hurry: AtomicBool::new(false),
            woken: AtomicBool::new(false),
            thread,
            stop: AtomicBool::new(false),
            left: AtomicBool::new(false),
            gone: AtomicBool::new(false),
        }
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has the next round begin at once.
    pub(super) fn wake(&self) {
        self.woken.store(true, Ordering::Release);
        self.thread.wake();
    }

    /// Has the consumer leave the group.
    pub(super) fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.wake();
    }

    /// Ends the consumer with its connection.
    pub(crate) fn close(&self) {
        self.state().end.get_or_insert(error::closed("consume"));
        self.stop();
        self.arrived.notify_one();
    }

    /// Waits until the group knows that the consumer has left.
    pub(crate) async fn gone(&self) {
        self.wait_for(|membership| membership.gone.load(Ordering::Relaxed)).await;
    }

    pub(super) async fn wait_for(&self, reached: impl Fn(&Self) -> bool) {
        let mut rounds = self.rounds.subscribe();
        while !reached(self) {
            if rounds.changed().await.is_err() {
                return;
            }
        }
    }
}
