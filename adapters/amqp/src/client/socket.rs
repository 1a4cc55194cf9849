//! The stream below AMQP. TLS is rustls on ring, as in all adapters; the client's own would bring another library.

use std::fmt::Debug;
use std::sync::Arc;

use partitura_broker::{Error, ErrorKind, Result};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio_rustls::rustls::{self, ClientConfig, RootCertStore};

use crate::options::{Login, Target};

/// A stream with or without TLS.
pub(super) trait Socket: AsyncRead + AsyncWrite + Debug + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Debug + Send + Unpin> Socket for T {}

/// Connects, without a limit of time.
pub(super) async fn open(target: &Target, tls: Option<&Arc<ClientConfig>>) -> Result<Box<dyn Socket>> {
    let connecting = async {
        let stream = TcpStream::connect((target.host.as_str(), target.port)).await?;
        // Frames are small, and the client gathers them.
        stream.set_nodelay(true)?;
        let Some(tls) = tls else { return Ok(Box::new(stream) as Box<dyn Socket>) };
        let name = ServerName::try_from(target.host.clone()).map_err(std::io::Error::other)?;
        Ok(Box::new(TlsConnector::from(tls.clone()).connect(name, stream).await?) as Box<dyn Socket>)
    };
    let connected: std::io::Result<_> = connecting.await;
    connected.map_err(|error| {
        let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
        let (kind, message) = match inner {
            Some(rustls::Error::InvalidCertificate(_)) => {
                (ErrorKind::Unauthorized, "the broker's certificate is not trusted; see the option ca")
            }
            Some(_) => (ErrorKind::Incompatible, "TLS failed; see that the port is one for TLS"),
            None => (ErrorKind::Disconnected, "the broker cannot be reached"),
        };
        Error::new(kind, "connect", message).because(error)
    })
}

/// The configuration that trusts the authorities in the file `ca`, or else those that browsers trust. It has the
/// client's certificate, if that is the login.
pub(super) fn tls_config(target: &Target) -> Result<Arc<ClientConfig>> {
    let mut roots = RootCertStore::empty();
    match target.ca.as_deref() {
        None => roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned()),
        Some(path) => {
            let unreadable = "the file of certificate authorities cannot be read; it is a file in PEM";
            let failed = || Error::new(ErrorKind::InvalidArgument, "connect", unreadable).of(path.display());
            for certificate in CertificateDer::pem_file_iter(path).map_err(|error| failed().because(error))? {
                let certificate = certificate.map_err(|error| failed().because(error))?;
                roots.add(certificate).map_err(|error| failed().because(error))?;
            }
            if roots.is_empty() {
                return Err(failed());
            }
        }
    }
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| Error::new(ErrorKind::Incompatible, "connect", "TLS cannot be set up").because(error))?;
    let builder = builder.with_root_certificates(roots);
    Ok(Arc::new(match &target.login {
        Login::Certificate { certificate, key } => {
            let unusable = "the client's certificate cannot be used with its key; both are files in PEM";
            let failed = || Error::new(ErrorKind::InvalidArgument, "connect", unusable).of(certificate.display());
            let chain =
                CertificateDer::pem_file_iter(certificate).and_then(Iterator::collect::<std::result::Result<_, _>>);
            let chain = chain.map_err(|error| failed().because(error))?;
            let key = PrivateKeyDer::from_pem_file(key).map_err(|error| failed().because(error))?;
            builder.with_client_auth_cert(chain, key).map_err(|error| failed().because(error))?
        }
        _ => builder.with_no_client_auth(),
    }))
}
