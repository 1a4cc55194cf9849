use std::future::Future;
use std::time::Duration;

use partitura_broker::Clock;
use partitura_engine::{ClientError, Partitura};

use crate::error::AdminError;

/// How long a question may take.
const LIMIT: Duration = Duration::from_secs(10);

/// Answers an operator's questions about the deployment of a connection. Cheap to clone.
///
/// Every question reads a bounded number of rows, and gives up after ten seconds.
#[derive(Debug, Clone)]
pub struct Admin {
    pub(crate) partitura: Partitura,
}

impl Admin {
    /// For the deployment of this connection. It needs the store of the workers.
    pub fn new(partitura: &Partitura) -> Self {
        Self { partitura: partitura.clone() }
    }

    /// The connection.
    pub fn partitura(&self) -> &Partitura {
        &self.partitura
    }

    /// The time now, in milliseconds since the Unix epoch.
    pub fn now(&self) -> u64 {
        self.partitura.broker().clock().now().as_millis()
    }
}

/// Waits for an answer, for a while.
pub(crate) async fn within<T>(
    what: &'static str,
    answer: impl Future<Output = Result<T, ClientError>>,
) -> Result<T, AdminError> {
    match tokio::time::timeout(LIMIT, answer).await {
        Ok(answer) => answer.map_err(AdminError::from),
        Err(_) => Err(AdminError::Timeout { what, limit: LIMIT }),
    }
}
