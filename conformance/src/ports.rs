//! Ports for servers in containers.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::atomic::{AtomicU16, Ordering};

/// The first port to choose, and their number. Linux takes the local ports of connections from 32,768 on, other systems
/// from 49,152 on: no connection takes one of these between the choice and the start of the server.
const FIRST: u16 = 21_000;
const COUNT: u16 = 8_000;

/// An address of this machine at which nothing listens, another one with each call. Processes begin at different ports.
pub(crate) fn free_address() -> SocketAddr {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let begin = std::process::id().wrapping_mul(97) % u32::from(COUNT);
    let address = |_| {
        let number = begin + u32::from(NEXT.fetch_add(1, Ordering::Relaxed));
        let port = FIRST + u16::try_from(number % u32::from(COUNT)).unwrap_or_default();
        SocketAddr::from((Ipv4Addr::LOCALHOST, port))
    };
    let free = (0..COUNT).map(address).find(|address| TcpListener::bind(address).is_ok());
    free.expect("a free port of this machine")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_free_and_no_port_that_connections_take() {
        let first = free_address();
        let _taken = TcpListener::bind(first).expect("nothing listens there");
        let second = free_address();
        assert_ne!(first, second);
        for address in [first, second] {
            assert!((FIRST..FIRST + COUNT).contains(&address.port()), "{address}");
        }
    }
}
