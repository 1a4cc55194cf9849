use std::sync::Arc;
use std::time::Duration;

use partitura_broker::{Error, ErrorKind, Result};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::rustls::{self, ClientConfig};

use crate::options::Host;

/// The time limit for connecting.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// A stream with or without TLS.
pub(super) trait Socket: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Socket for T {}

/// Connects.
pub(super) async fn open(host: &Host, tls: Option<&Arc<ClientConfig>>) -> Result<Box<dyn Socket>> {
    let connecting = async {
        let stream = TcpStream::connect((host.name.as_str(), host.port)).await?;
        // Commands are small, and the writer gathers them.
        stream.set_nodelay(true)?;
        let Some(tls) = tls else { return Ok(Box::new(stream) as Box<dyn Socket>) };
        let name = ServerName::try_from(host.name.clone()).map_err(std::io::Error::other)?;
        let stream = TlsConnector::from(tls.clone()).connect(name, stream).await?;
        Ok(Box::new(stream) as Box<dyn Socket>)
    };
    let failed = |kind, message: &str| Error::new(kind, "connect", message).of(host);
    let connected: std::io::Result<_> = timeout(CONNECT_TIMEOUT, connecting)
        .await
        .map_err(|_| failed(ErrorKind::Timeout, "the broker does not answer"))?;
    connected.map_err(|error| match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
        Some(rustls::Error::InvalidCertificate(_)) => {
            failed(ErrorKind::Unauthorized, "the broker's certificate is not trusted; see the option ca").because(error)
        }
        Some(_) => failed(ErrorKind::Incompatible, "TLS failed; see that the port is one for TLS").because(error),
        None => failed(ErrorKind::Disconnected, "the broker cannot be reached").because(error),
    })
}
