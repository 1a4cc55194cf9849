use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

use partitura_engine::{Client, UpdateError, WorkflowError, WorkflowHandle};
use partitura_workflow::{Update, Workflow};
use serde::de::DeserializeOwned;

use super::watch::Watch;

/// The client of a [`TestEnv`](super::TestEnv): as [`Client`], with handles that fail the test instead of waiting for
/// ever.
#[derive(Debug, Clone)]
pub struct TestClient {
    client: Client,
    watch: Arc<Watch>,
}

impl TestClient {
    pub(super) fn new(client: Client, watch: Arc<Watch>) -> Self {
        Self { client, watch }
    }

    /// Resolves when an instance will not end, with the reason and what to write.
    pub(super) async fn hopeless(&self, instance: (&str, &str)) -> String {
        self.watch.hopeless(&self.client, instance).await
    }

    /// The instance of the workflow `W` with this id, whether it exists or not.
    ///
    /// # Panics
    /// When the workflow is not registered with the [`TestEnv`](super::TestEnv).
    pub fn workflow<W: Workflow>(&self, id: impl Into<String>) -> TestHandle<W> {
        self.watch.expect_workflow(W::NAME);
        let Self { client, watch } = self.clone();
        TestHandle { handle: client.workflow(id), client, watch }
    }
}

impl Deref for TestClient {
    type Target = Client;

    fn deref(&self) -> &Client {
        &self.client
    }
}

/// An instance in a [`TestEnv`](super::TestEnv): as [`WorkflowHandle`], but [`result`](Self::result) fails the test
/// where it would wait for ever.
pub struct TestHandle<W> {
    handle: WorkflowHandle<W>,
    client: Client,
    watch: Arc<Watch>,
}

impl<W: Workflow> TestHandle<W> {
    /// Waits for the outcome. Virtual time passes meanwhile, as much as it takes.
    ///
    /// # Errors
    /// How the workflow ended, if not with a result.
    ///
    /// # Panics
    /// When the outcome will never come: the instance, a child or another instance of the test is stopped; it waits for
    /// a service or workflow that is not registered, for a task whose retries have no end, or for what does not come in
    /// ten years. The message says which, and what to write.
    ///
    /// # Cancel safety
    /// Safe; ask again at any time.
    pub async fn result(&self) -> Result<W::Output, WorkflowError<W::Error>> {
        tokio::select! {
            biased;
            result = self.handle.result_through_stops() => result,
            reason = self.watch.hopeless(&self.client, (W::NAME, self.handle.id())) => panic!("{reason}"),
        }
    }

    /// Updates the instance, and waits for the answer. Virtual time passes meanwhile, as much as it takes.
    ///
    /// # Errors
    /// As for [`WorkflowHandle::update`], which the [handle of an application](Self::unwatched) has, and which takes an
    /// id.
    ///
    /// # Panics
    /// When the answer will never come, as [`result`](Self::result) does.
    ///
    /// # Cancel safety
    /// Dropped while awaited, the update may or may not have been applied.
    pub async fn update<T, E>(&self, update: Update<W, T, E>) -> Result<T, UpdateError<E>>
    where
        T: DeserializeOwned + Send,
        E: DeserializeOwned + Send,
    {
        // It ends the test by itself.
        self.handle.update(update).await
    }

    /// The handle as an application has it: its [`result`](WorkflowHandle::result) never fails the test, and may wait
    /// for ever.
    pub fn unwatched(&self) -> &WorkflowHandle<W> {
        &self.handle
    }
}

impl<W> Clone for TestHandle<W> {
    fn clone(&self) -> Self {
        let Self { handle, client, watch } = self;
        Self { handle: handle.clone(), client: client.clone(), watch: watch.clone() }
    }
}

impl<W> Deref for TestHandle<W> {
    type Target = WorkflowHandle<W>;

    fn deref(&self) -> &WorkflowHandle<W> {
        &self.handle
    }
}

impl<W: Workflow> fmt::Debug for TestHandle<W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TestHandle").field("handle", &self.handle).finish_non_exhaustive()
    }
}
