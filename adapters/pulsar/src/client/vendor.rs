//! Pulsar's official client, for callers that need more than the contract has.

use std::sync::Arc;

use partitura_broker::{Error, ErrorKind, Result};
use pulsar::authentication::Authentication;
use pulsar::error::AuthenticationError;
use pulsar::{Pulsar, TokioExecutor};

use super::identity::Identity;
use crate::options::Target;

/// Connects it to the same cluster, as the same role.
pub(crate) async fn vendor_client(target: &Target, identity: Arc<Identity>) -> Result<Pulsar<TokioExecutor>> {
    let failed = |message: &str| Error::new(ErrorKind::Disconnected, "connect", message);
    let host = target.hosts.first().ok_or_else(|| failed("there is no host"))?;
    let scheme = if target.tls { "pulsar+ssl" } else { "pulsar" };
    let mut builder = Pulsar::builder(format!("{scheme}://{host}"), TokioExecutor);
    if target.options.credentials.is_some() {
        builder = builder.with_auth_provider(Box::new(Tokens(identity)));
    }
    if let Some(path) = &target.options.ca {
        let path = path.clone();
        let read = tokio::task::spawn_blocking(move || std::fs::read(path)).await;
        let chain = read.unwrap_or_else(|gone| Err(gone.into())).map_err(|error| {
            Error::new(ErrorKind::InvalidArgument, "connect", "the certificate authorities cannot be read")
                .because(error)
        })?;
        builder = builder.with_certificate_chain(chain);
    }
    builder.build().await.map_err(|error| failed("the client of the crate pulsar cannot connect").because(error))
}

struct Tokens(Arc<Identity>);

#[async_trait::async_trait]
impl Authentication for Tokens {
    fn auth_method_name(&self) -> String {
        "token".to_owned()
    }

    async fn initialize(&mut self) -> Result<(), AuthenticationError> {
        Ok(())
    }

    async fn auth_data(&mut self) -> Result<Vec<u8>, AuthenticationError> {
        let token = self.0.token().await.map_err(|error| AuthenticationError::Custom(error.to_string()))?;
        Ok(token.unwrap_or_default().into_bytes())
    }
}
