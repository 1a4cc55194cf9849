//! The part of HTTP that is needed to ask a server on the loopback interface for its state.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::time::Duration;

/// A server that takes longer for a line of JSON is not ready.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);

/// A request of an operator, which may take the server a while.
const OPERATION_TIMEOUT: Duration = Duration::from_secs(60);

/// Returns the body of the answer to a GET of `path`, if its status says that it succeeded. `header` is one more header
/// line, or empty.
pub(crate) fn get(port: u16, path: &str, header: &str) -> io::Result<String> {
    ask(port, &format!("GET {path}"), header, "", REQUEST_TIMEOUT)
}

/// Makes an operator's request, as `DELETE /path`, with JSON or nothing in its body. Returns the body of the answer.
pub(crate) fn operate(port: u16, request: &str, header: &str, body: &str) -> io::Result<String> {
    ask(port, request, header, body, OPERATION_TIMEOUT)
}

fn ask(port: u16, request: &str, header: &str, body: &str, within: Duration) -> io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&(Ipv4Addr::LOCALHOST, port).into(), REQUEST_TIMEOUT)?;
    stream.set_read_timeout(Some(within))?;
    stream.set_write_timeout(Some(REQUEST_TIMEOUT))?;
    // In HTTP 1.0 the answer is never in chunks, and ends with the connection.
    let header = if header.is_empty() { String::new() } else { format!("{header}\r\n") };
    let content = match body.len() {
        0 => String::new(),
        length => format!("Content-Type: application/json\r\nContent-Length: {length}\r\n"),
    };
    write!(stream, "{request} HTTP/1.0\r\nHost: localhost\r\nAccept: */*\r\n{header}{content}\r\n{body}")?;
    let mut answer = Vec::new();
    stream.take(1 << 20).read_to_end(&mut answer)?;
    read(&String::from_utf8_lossy(&answer)).map_err(|refusal| io::Error::other(format!("{request}: {refusal}")))
}

/// Whether a program listens on the port.
pub(crate) fn listens(port: u16) -> bool {
    TcpStream::connect_timeout(&(Ipv4Addr::LOCALHOST, port).into(), REQUEST_TIMEOUT).is_ok()
}

/// The body of an answer; or all of it, if it says that the request failed.
fn read(answer: &str) -> Result<String, String> {
    let succeeded = answer.split_whitespace().nth(1).is_some_and(|status| status.starts_with('2'));
    match answer.split_once("\r\n\r\n") {
        Some((_, body)) if succeeded => Ok(body.to_owned()),
        _ => Err(answer.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_answer_of_success_has_a_body() {
        assert_eq!(read("HTTP/1.1 200 OK\r\nA: b\r\n\r\n{}"), Ok("{}".to_owned()));
        assert_eq!(read("HTTP/1.1 204 No Content\r\n\r\n"), Ok(String::new()));
        assert!(read("HTTP/1.1 503 Unavailable\r\n\r\n{}").is_err());
        assert!(read("HTTP/1.1 200 OK\r\nA: b").is_err());
    }
}
