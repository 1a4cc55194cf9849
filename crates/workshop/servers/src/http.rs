//! The part of HTTP that is needed to ask a server on the loopback interface for its state.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::time::Duration;

/// A server that takes longer for a line of JSON is not ready.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);

/// Returns the body of the answer to a GET of `path`, if its status is 200. `header` is one more header line, or empty.
pub(crate) fn get(port: u16, path: &str, header: &str) -> io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&(Ipv4Addr::LOCALHOST, port).into(), REQUEST_TIMEOUT)?;
    stream.set_read_timeout(Some(REQUEST_TIMEOUT))?;
    stream.set_write_timeout(Some(REQUEST_TIMEOUT))?;
    // In HTTP 1.0 the answer is never in chunks, and ends with the connection.
    let header = if header.is_empty() { String::new() } else { format!("{header}\r\n") };
    write!(stream, "GET {path} HTTP/1.0\r\nHost: localhost\r\nAccept: */*\r\n{header}\r\n")?;
    let mut answer = Vec::new();
    stream.take(1 << 20).read_to_end(&mut answer)?;
    body(&String::from_utf8_lossy(&answer)).ok_or_else(|| io::Error::other("the answer is not 200"))
}

/// Whether a program listens on the port.
pub(crate) fn listens(port: u16) -> bool {
    TcpStream::connect_timeout(&(Ipv4Addr::LOCALHOST, port).into(), REQUEST_TIMEOUT).is_ok()
}

fn body(answer: &str) -> Option<String> {
    let (head, body) = answer.split_once("\r\n\r\n")?;
    let status = head.split_whitespace().nth(1)?;
    (status == "200").then(|| body.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_answer_of_200_has_a_body() {
        assert_eq!(body("HTTP/1.1 200 OK\r\nA: b\r\n\r\n{}"), Some("{}".to_owned()));
        assert_eq!(body("HTTP/1.1 503 Unavailable\r\n\r\n{}"), None);
        assert_eq!(body("HTTP/1.1 200 OK\r\nA: b"), None);
    }
}
