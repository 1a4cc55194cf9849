//! The version of the server.

use futures::{AsyncReadExt, AsyncWriteExt};
use lapin::tcp::{AMQPUriTcpExt, OwnedTLSConfig};
use partitura_broker::{Error, ErrorKind, Result};
use tokio::time::timeout;

use crate::error::classify;
use crate::options::Target;

/// The oldest release that works, major and minor: its quorum queues move expired messages on without loss.
const OLDEST: (u32, u32) = (3, 10);
/// The size of a greeting: more than that of any server.
const MAX_GREETING: usize = 4_096;

/// Reads the server's version, which the server sends before a client logs in. The client library reads it and does not
/// give it out. So this needs a short connection of its own.
pub(crate) async fn read(target: &Target) -> Result<String> {
    let greeting = timeout(target.connect_within, greeting(target)).await.map_err(|_| {
        let message = format!("no answer within {:?}", target.connect_within);
        Error::new(ErrorKind::Disconnected, "connect", message)
    });
    let greeting = greeting
        .and_then(|greeting| greeting.map_err(|error| classify("connect", error.into())))
        .map_err(|error| error.of(target.address()))?;
    let Some(version) = version_in(&greeting) else {
        let message = "the server there is not RabbitMQ; the port of AMQP is 5672, or 5671 with TLS";
        return Err(Error::new(ErrorKind::Incompatible, "connect", message).of(target.address()));
    };
    let mut numbers = version.split(['.', '-', '+']).map(|part| part.parse().unwrap_or(0));
    if (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)) < OLDEST {
        let message = format!("RabbitMQ {version} is too old, {}.{} is the oldest that works", OLDEST.0, OLDEST.1);
        return Err(Error::new(ErrorKind::Incompatible, "connect", message).of(target.address()));
    }
    Ok(version)
}

/// The first bytes from the server.
async fn greeting(target: &Target) -> std::io::Result<Vec<u8>> {
    let tls = OwnedTLSConfig { identity: None, cert_chain: target.authorities.clone() };
    let runtime = lapin::runtime::default_runtime().map_err(std::io::Error::other)?;
    let mut stream = target.uri.connect_with_config_async(tls.as_ref(), &runtime).await?;
    stream.write_all(b"AMQP\x00\x00\x09\x01").await?;
    stream.flush().await?;
    let (mut greeting, mut buffer) = (Vec::new(), [0; 1_024]);
    while greeting.len() < MAX_GREETING && version_in(&greeting).is_none() {
        match stream.read(&mut buffer).await? {
            0 => break,
            read => greeting.extend_from_slice(&buffer[..read]),
        }
    }
    Ok(greeting)
}

/// The field `version` of the server's properties: the length of its name, the name, `S`, the length of the text, and
/// the text.
fn version_in(greeting: &[u8]) -> Option<String> {
    const FIELD: &[u8] = b"\x07versionS";
    let at = greeting.windows(FIELD.len()).position(|window| window == FIELD)? + FIELD.len();
    let (length, rest) = greeting.get(at..)?.split_first_chunk::<4>()?;
    let text = rest.get(..usize::try_from(u32::from_be_bytes(*length)).ok()?)?;
    String::from_utf8(text.to_vec()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_is_found_once_it_has_come() {
        let greeting = b"..\x07productS\x00\x00\x00\x08RabbitMQ\x07versionS\x00\x00\x00\x063.10.8\x08platform";
        assert_eq!(version_in(greeting).as_deref(), Some("3.10.8"));
        assert_eq!(version_in(&greeting[..greeting.len() - 10]), None);
        assert_eq!(version_in(b"HTTP/1.1 400 Bad Request"), None);
    }
}
