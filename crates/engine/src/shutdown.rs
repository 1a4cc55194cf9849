//! The end of a worker.

use futures::future::Shared;
use tokio::sync::oneshot;

/// Wakes those who wait in the order in which they began to.
pub(crate) type Shutdown = Shared<oneshot::Receiver<()>>;

/// Waits until the worker is to end.
pub(crate) async fn until(shutdown: Shutdown) {
    // A worker that was dropped without being stopped is over as well.
    let _ = shutdown.await;
}
