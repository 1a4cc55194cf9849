//! Stopping a thread of this connection.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::watch;

/// Tells a thread to stop, and the tasks that wait for it.
#[derive(Debug)]
pub(crate) struct Stop {
    stop: AtomicBool,
    told: watch::Sender<bool>,
}

impl Stop {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self { stop: AtomicBool::new(false), told: watch::Sender::new(false) })
    }

    pub(crate) fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
        self.told.send_replace(true);
    }

    pub(crate) fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    pub(crate) async fn stopped(&self) {
        // The sender lives as long as this.
        let mut told = self.told.subscribe();
        let _told = told.wait_for(|told| *told).await.is_ok();
    }
}
