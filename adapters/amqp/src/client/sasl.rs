//! SASL EXTERNAL: the broker knows the client by the certificate of its TLS connection.
//!
//! The client library offers it only over its own TLS. So this is done before the library gets the stream.

use fe2o3_amqp::types::primitives::Symbol;
use fe2o3_amqp::types::sasl::{SaslCode, SaslInit, SaslMechanisms, SaslOutcome};
use partitura_broker::{Error, ErrorKind, Result};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

const CONNECT: &str = "connect";
const HEADER: [u8; 8] = *b"AMQP\x03\x01\x00\x00";
const EXTERNAL: &str = "EXTERNAL";
/// The largest frame before the connection is open.
const MAX_FRAME: usize = 512;
/// The part of a frame before its body, without the size: where the body begins, the type, and two more bytes.
const HEAD: [u8; 4] = [2, 1, 0, 0];

/// Logs in as the certificate of the stream says.
///
/// # Errors
/// [`Unauthorized`](ErrorKind::Unauthorized): the broker does not accept the certificate.
/// [`Incompatible`](ErrorKind::Incompatible): it does not offer EXTERNAL.
pub(super) async fn external(stream: &mut (impl AsyncRead + AsyncWrite + Unpin)) -> Result<()> {
    stream.write_all(&HEADER).await.map_err(lost)?;
    let mut header = [0; 8];
    stream.read_exact(&mut header).await.map_err(lost)?;
    if header != HEADER {
        return Err(incompatible("the server there does not speak AMQP 1.0 with SASL"));
    }
    let offered: SaslMechanisms = read(stream).await?;
    if !offered.sasl_server_mechanisms.0.contains(&Symbol::from(EXTERNAL)) {
        return Err(incompatible("the broker does not offer SASL EXTERNAL, so that a certificate is no login there"));
    }
    // Empty: the identity is that of the certificate.
    let init =
        SaslInit { mechanism: Symbol::from(EXTERNAL), initial_response: Some(Vec::new().into()), hostname: None };
    let body = serde_amqp::to_vec(&init).map_err(|error| incompatible("SASL cannot be written").because(error))?;
    let size = u32::try_from(4 + HEAD.len() + body.len()).unwrap_or(u32::MAX);
    stream.write_all(&[&size.to_be_bytes()[..], &HEAD, &body].concat()).await.map_err(lost)?;
    match read::<SaslOutcome>(stream).await?.code {
        SaslCode::Ok => Ok(()),
        SaslCode::Auth => {
            let message = "the broker does not accept the client's certificate";
            Err(Error::new(ErrorKind::Unauthorized, CONNECT, message))
        }
        _ => Err(Error::new(ErrorKind::Disconnected, CONNECT, "the broker cannot check the certificate now")),
    }
}

async fn read<T: serde::de::DeserializeOwned>(stream: &mut (impl AsyncRead + Unpin)) -> Result<T> {
    let size = usize::try_from(stream.read_u32().await.map_err(lost)?).unwrap_or(usize::MAX);
    let rest = size.checked_sub(4).filter(|rest| (HEAD.len()..=MAX_FRAME).contains(rest));
    let Some(rest) = rest else { return Err(incompatible("the server sends no frames of SASL")) };
    let mut frame = vec![0; rest];
    stream.read_exact(&mut frame).await.map_err(lost)?;
    // The first byte counts words of four bytes, the size included.
    let begin = (usize::from(frame[0]) * 4).saturating_sub(4).min(frame.len());
    let unreadable = |error| incompatible("the server sends no frames of SASL").because(error);
    serde_amqp::from_slice(&frame[begin..]).map_err(unreadable)
}

fn lost(error: std::io::Error) -> Error {
    Error::new(ErrorKind::Disconnected, CONNECT, "the connection is lost before the login").because(error)
}

fn incompatible(message: &'static str) -> Error {
    Error::new(ErrorKind::Incompatible, CONNECT, message)
}

#[cfg(test)]
mod tests {
    use fe2o3_amqp::types::primitives::Array;
    use tokio::io::{DuplexStream, duplex};

    use super::*;

    async fn write(stream: &mut DuplexStream, body: &impl serde::Serialize) {
        let body = serde_amqp::to_vec(body).expect("written");
        let size = u32::try_from(8 + body.len()).expect("a small frame");
        stream.write_all(&[&size.to_be_bytes()[..], &HEAD, &body].concat()).await.expect("a reader");
    }

    /// A broker that offers a mechanism, and answers with a code.
    async fn log_in(offered: &'static str, code: SaslCode) -> Result<()> {
        let (mut client, mut broker) = duplex(1_024);
        let broker = tokio::spawn(async move {
            let mut header = [0; 8];
            broker.read_exact(&mut header).await.expect("a header");
            broker.write_all(&header).await.expect("a reader");
            let sasl_server_mechanisms = Array::from(vec![Symbol::from("PLAIN"), Symbol::from(offered)]);
            write(&mut broker, &SaslMechanisms { sasl_server_mechanisms }).await;
            if let Ok(init) = read::<SaslInit>(&mut broker).await {
                assert_eq!((init.mechanism, init.initial_response), (Symbol::from(EXTERNAL), Some(Vec::new().into())));
                write(&mut broker, &SaslOutcome { code, additional_data: None }).await;
            }
        });
        let logged_in = external(&mut client).await;
        drop(client);
        broker.await.expect("the broker got what it expects");
        logged_in
    }

    #[tokio::test]
    async fn the_certificate_is_the_login_where_the_broker_offers_that() {
        log_in(EXTERNAL, SaslCode::Ok).await.expect("logged in");
        let refused = log_in(EXTERNAL, SaslCode::Auth).await.expect_err("an unknown certificate");
        assert_eq!(refused.kind(), ErrorKind::Unauthorized);
        let other = log_in("ANONYMOUS", SaslCode::Ok).await.expect_err("no such mechanism");
        assert_eq!(other.kind(), ErrorKind::Incompatible);
    }
}
