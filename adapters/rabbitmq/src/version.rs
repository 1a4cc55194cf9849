use futures::{AsyncReadExt, AsyncWriteExt};
use lapin::tcp::{AMQPUriTcpExt, OwnedTLSConfig};
use partitura_broker::{Error, ErrorKind, Result};
use tokio::time::timeout;

use crate::error::classify;
use crate::options::Target;

/// The oldest release that works: quorum queues whose messages expire, and are moved on without loss, came with it.
const OLDEST: (u32, u32) = (3, 10);
/// More than any server's greeting.
const GREETING: usize = 4_096;

/// The server's version, which it tells before anybody logs in. The client library reads it and does not give it out, so
/// that this is asked on a short connection of its own.
pub(crate) async fn of_server(target: &Target) -> Result<String> {
    let greeting = timeout(target.connect_within, greeting(target)).await.map_err(|_| {
        let message = format!("no answer within {:?}", target.connect_within);
        Error::new(ErrorKind::Disconnected, "connect", message)
    });
    let greeting = greeting
        .and_then(|greeting| greeting.map_err(|error| classify(error.into(), "connect")))
        .map_err(|error| error.of(target.address()))?;
    let Some(version) = version_in(&greeting) else {
        let message = "what answers there is not RabbitMQ; the port of AMQP is 5672, or 5671 with TLS";
        return Err(Error::new(ErrorKind::Incompatible, "connect", message).of(target.address()));
    };
    let mut numbers = version.split(['.', '-', '+']).map(|part| part.parse().unwrap_or(0));
    if (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)) < OLDEST {
        let message = format!("RabbitMQ {version} is too old, {}.{} is the oldest that works", OLDEST.0, OLDEST.1);
        return Err(Error::new(ErrorKind::Incompatible, "connect", message).of(target.address()));
    }
    Ok(version)
}

/// What the server says first.
async fn greeting(target: &Target) -> std::io::Result<Vec<u8>> {
    let tls = OwnedTLSConfig { identity: None, cert_chain: target.authorities.clone() };
    let runtime = lapin::runtime::default_runtime().map_err(std::io::Error::other)?;
    let mut stream = target.uri.connect_with_config_async(tls.as_ref(), &runtime).await?;
    stream.write_all(b"AMQP\x00\x00\x09\x01").await?;
    stream.flush().await?;
    let (mut greeting, mut buffer) = (Vec::new(), [0; 1_024]);
    while greeting.len() < GREETING && version_in(&greeting).is_none() {
        match stream.read(&mut buffer).await? {
            0 => break,
            read => greeting.extend_from_slice(&buffer[..read]),
        }
    }
    Ok(greeting)
}

/// The field `version` of the server's properties: the length of its name, the name, `S`, the length of the text, the text.
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
    fn the_version_is_found_once_it_is_there() {
        let greeting = b"..\x07productS\x00\x00\x00\x08RabbitMQ\x07versionS\x00\x00\x00\x063.10.8\x08platform";
        assert_eq!(version_in(greeting).as_deref(), Some("3.10.8"));
        assert_eq!(version_in(&greeting[..greeting.len() - 10]), None);
        assert_eq!(version_in(b"HTTP/1.1 400 Bad Request"), None);
    }
}
