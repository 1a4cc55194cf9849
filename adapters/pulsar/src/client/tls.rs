//! TLS on rustls and ring, the same for the broker's protocol and for HTTP.

use std::path::Path;
use std::sync::Arc;

use partitura_broker::{Error, ErrorKind, Result};
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::CertificateDer;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

/// The configuration that trusts the authorities in the file `ca`, or else those that browsers trust.
pub(crate) fn tls_config(ca: Option<&Path>) -> Result<Arc<ClientConfig>> {
    let mut roots = RootCertStore::empty();
    match ca {
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
    Ok(Arc::new(builder.with_root_certificates(roots).with_no_client_auth()))
}
