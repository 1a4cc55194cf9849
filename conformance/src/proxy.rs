//! A TCP proxy between the clients and the broker, which makes the faults of networks.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until};

/// The largest number of bytes that are read at once.
const CHUNK: usize = 16 << 10;
/// The number of chunks on their way in each direction of a connection. Beyond it the sender waits, as in any network.
const ON_THE_WIRE: usize = 256;

/// Passes connections on to a broker, until a fault is set. Its connections end with it.
#[derive(Debug)]
pub(crate) struct Proxy {
    address: SocketAddr,
    faults: watch::Sender<Faults>,
    accepting: JoinHandle<()>,
}

/// The faults of the network. Connections are numbered in the order in which they come, from 0.
#[derive(Debug, Clone, Copy, Default)]
struct Faults {
    /// The number of the next connection.
    next: u64,
    /// Connections before this one are cut.
    cut: u64,
    /// New connections are cut at once.
    refusing: bool,
    /// Connections before this one pass nothing on, in both directions.
    silent: u64,
    /// Connections before this one pass nothing on to clients. Data of clients still passes.
    deaf: u64,
    /// Nothing is taken from clients.
    stalled: bool,
    /// The delay in each direction.
    delay: Duration,
}

/// The direction of the bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    ToBroker,
    ToClient,
}

impl Proxy {
    /// Listens on `listen` for connections to `upstream`.
    pub(crate) async fn start(listen: SocketAddr, upstream: SocketAddr) -> io::Result<Self> {
        let listener = TcpListener::bind(listen).await?;
        let (address, faults) = (listener.local_addr()?, watch::Sender::new(Faults::default()));
        let accepting = tokio::spawn(accept(listener, upstream, faults.clone()));
        Ok(Self { address, faults, accepting })
    }

    /// The address for clients.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Resets every connection, and new ones at once, until it is healed.
    pub(crate) fn cut(&self) {
        self.faults.send_modify(|faults| (faults.cut, faults.refusing) = (faults.next, true));
    }

    /// Leaves every connection open and passes nothing on, as if a machine between the two has disappeared: neither
    /// side is told, not even when the other one closes. New connections pass.
    pub(crate) fn silence(&self) {
        self.faults.send_modify(|faults| faults.silent = faults.next);
    }

    /// Drops the broker's data on every connection, confirms included, and passes the clients' data on. New
    /// connections pass.
    pub(crate) fn deafen(&self) {
        self.faults.send_modify(|faults| faults.deaf = faults.next);
    }

    /// Reads nothing from clients until it is healed. Then all data passes, and nothing is lost.
    pub(crate) fn stall(&self) {
        self.faults.send_modify(|faults| faults.stalled = true);
    }

    /// Delays all data, in each direction.
    pub(crate) fn delay(&self, delay: Duration) {
        self.faults.send_modify(|faults| faults.delay = delay);
    }

    /// Ends all faults. A connection that has lost bytes never passes data again.
    pub(crate) fn heal(&self) {
        self.faults.send_modify(|faults| {
            (faults.refusing, faults.stalled, faults.delay) = (false, false, Duration::ZERO);
        });
    }

    /// The number of connections so far.
    pub(crate) fn connections(&self) -> u64 {
        self.faults.borrow().next
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        // The connections' tasks see that the sender of faults is gone.
        self.accepting.abort();
    }
}

impl Faults {
    fn cuts(&self, number: u64) -> bool {
        self.refusing || number < self.cut
    }

    fn holds(&self, way: Way) -> bool {
        self.stalled && way == Way::ToBroker
    }

    fn swallows(&self, number: u64, way: Way) -> bool {
        number < self.silent || (number < self.deaf && way == Way::ToClient)
    }
}

/// Listens until it is aborted. `faults` is the proxy's own sender; a connection has a receiver only, and ends with it.
async fn accept(listener: TcpListener, upstream: SocketAddr, faults: watch::Sender<Faults>) {
    let receiver = faults.subscribe();
    loop {
        let Ok((client, _)) = listener.accept().await else { continue };
        let mut number = 0;
        faults.send_modify(|faults| {
            number = faults.next;
            faults.next += 1;
        });
        tokio::spawn(connection(client, upstream, number, receiver.clone()));
    }
}

/// Passes on both ways until one side closes, the connection is cut, or the proxy is gone.
async fn connection(mut client: TcpStream, upstream: SocketAddr, number: u64, faults: watch::Receiver<Faults>) {
    let mut cutting = faults.clone();
    let cut = cutting.wait_for(|faults| faults.cuts(number));
    let passing = async {
        let mut broker = TcpStream::connect(upstream).await?;
        client.set_nodelay(true)?;
        broker.set_nodelay(true)?;
        let passed = {
            let ((from_client, to_client), (from_broker, to_broker)) = (client.split(), broker.split());
            let there = pass(from_client, to_broker, number, Way::ToBroker, faults.clone());
            let back = pass(from_broker, to_client, number, Way::ToClient, faults.clone());
            tokio::try_join!(there, back)
        };
        passed.map(drop)
    };
    let closed = tokio::select! {
        _ = cut => false,
        passed = passing => passed.is_ok(),
    };
    if !closed {
        // Resets the connection, since a close would end it in good order.
        let _already_gone = client.set_zero_linger();
    }
}

/// Passes on one way, until the end of the stream.
async fn pass(
    mut from: ReadHalf<'_>,
    mut to: WriteHalf<'_>,
    number: u64,
    way: Way,
    mut faults: watch::Receiver<Faults>,
) -> io::Result<()> {
    let (sender, mut wire) = mpsc::channel::<(Instant, Vec<u8>)>(ON_THE_WIRE);
    let reading = async move {
        let mut buffer = vec![0; CHUNK];
        loop {
            // Waits before the read, so that the client notices the stall, and after it, for data that was on its way.
            free(&mut faults, way).await?;
            let read = from.read(&mut buffer).await;
            let now = free(&mut faults, way).await?;
            if now.swallows(number, way) {
                if !matches!(read, Ok(count) if count > 0) {
                    // The other side is not told that this side is gone.
                    std::future::pending::<()>().await;
                }
                continue;
            }
            let count = read?;
            if count == 0 || sender.send((Instant::now() + now.delay, buffer[..count].to_vec())).await.is_err() {
                return Ok(());
            }
        }
    };
    let writing = async {
        while let Some((due, bytes)) = wire.recv().await {
            sleep_until(due).await;
            to.write_all(&bytes).await?;
        }
        to.shutdown().await
    };
    tokio::try_join!(reading, writing).map(drop)
}

/// Waits until data may be taken from this side, and returns the faults then.
async fn free(faults: &mut watch::Receiver<Faults>, way: Way) -> io::Result<Faults> {
    let gone = |_| io::Error::from(io::ErrorKind::ConnectionAborted);
    faults.wait_for(|faults| !faults.holds(way)).await.map(|faults| *faults).map_err(gone)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Long enough for data that is on its way.
    const A_MOMENT: Duration = Duration::from_millis(100);

    /// A broker that sends its input back, and the proxy before it.
    async fn echo() -> Proxy {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let upstream = listener.local_addr().expect("its address");
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let (mut reader, mut writer) = stream.split();
                    tokio::io::copy(&mut reader, &mut writer).await
                });
            }
        });
        Proxy::start("127.0.0.1:0".parse().expect("an address"), upstream).await.expect("a proxy")
    }

    async fn connect(proxy: &Proxy) -> TcpStream {
        let mut stream = TcpStream::connect(proxy.address()).await.expect("a connection");
        assert_eq!(exchange(&mut stream, b"hello").await.expect("an answer"), b"hello");
        stream
    }

    async fn exchange(stream: &mut TcpStream, text: &[u8]) -> io::Result<Vec<u8>> {
        stream.write_all(text).await?;
        receive(stream, text.len()).await
    }

    async fn receive(stream: &mut TcpStream, count: usize) -> io::Result<Vec<u8>> {
        let mut heard = vec![0; count];
        stream.read_exact(&mut heard).await?;
        Ok(heard)
    }

    /// Whether nothing comes, neither bytes nor an end.
    async fn is_quiet(stream: &mut TcpStream) -> bool {
        tokio::time::timeout(A_MOMENT, receive(stream, 1)).await.is_err()
    }

    #[tokio::test]
    async fn what_is_said_passes_whole_and_in_order_and_so_does_the_end() {
        let proxy = echo().await;
        let stream = connect(&proxy).await;
        let long: Vec<u8> = (0..=255).cycle().take(1 << 20).collect();
        let (mut reader, mut writer) = stream.into_split();
        let sent = long.clone();
        tokio::spawn(async move { writer.write_all(&sent).await });
        let mut heard = Vec::new();
        reader.read_to_end(&mut heard).await.expect("the end");
        assert!(heard == long, "{} of {} bytes", heard.len(), long.len());
        assert_eq!(proxy.connections(), 1);
    }

    #[tokio::test]
    async fn a_cut_resets_every_connection_and_new_ones_until_it_is_healed() {
        let proxy = echo().await;
        let mut stream = connect(&proxy).await;
        proxy.cut();
        let error = receive(&mut stream, 1).await.expect_err("a reset");
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
        let mut refused = TcpStream::connect(proxy.address()).await.expect("a connection");
        assert!(exchange(&mut refused, b"x").await.is_err());
        proxy.heal();
        connect(&proxy).await;
    }

    #[tokio::test]
    async fn a_silent_connection_says_nothing_for_ever_and_new_ones_pass() {
        let proxy = echo().await;
        let mut stream = connect(&proxy).await;
        proxy.silence();
        stream.write_all(b"x").await.expect("it is taken");
        assert!(is_quiet(&mut stream).await);
        connect(&proxy).await;
        proxy.heal();
        assert!(is_quiet(&mut stream).await);
    }

    #[tokio::test]
    async fn what_the_broker_says_is_swallowed_and_what_it_is_told_gets_through() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let upstream = listener.local_addr().expect("its address");
        let proxy = Proxy::start("127.0.0.1:0".parse().expect("an address"), upstream).await.expect("a proxy");
        let mut client = TcpStream::connect(proxy.address()).await.expect("a connection");
        let (mut broker, _) = listener.accept().await.expect("a connection");
        proxy.deafen();
        client.write_all(b"request").await.expect("it is taken");
        assert_eq!(receive(&mut broker, 7).await.expect("the request"), b"request");
        broker.write_all(b"confirm").await.expect("it is taken");
        assert!(is_quiet(&mut client).await);
    }

    #[tokio::test]
    async fn what_is_stalled_is_late_and_not_lost() {
        let proxy = echo().await;
        let mut stream = connect(&proxy).await;
        proxy.stall();
        stream.write_all(b"stalled").await.expect("it is taken");
        assert!(is_quiet(&mut stream).await);
        proxy.heal();
        assert_eq!(receive(&mut stream, 7).await.expect("the answer"), b"stalled");
    }

    #[tokio::test]
    async fn a_delay_counts_each_way_and_does_not_add_up() {
        let proxy = echo().await;
        let mut stream = connect(&proxy).await;
        proxy.delay(A_MOMENT);
        let began = Instant::now();
        for _ in 0..20 {
            stream.write_all(b"x").await.expect("it is taken");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        assert_eq!(receive(&mut stream, 20).await.expect("the answers"), [b'x'; 20]);
        let took = began.elapsed();
        assert!(took >= 2 * A_MOMENT && took < 20 * A_MOMENT, "{took:?}");
    }

    #[tokio::test]
    async fn connections_end_with_their_proxy() {
        let proxy = echo().await;
        let mut stream = connect(&proxy).await;
        drop(proxy);
        assert!(receive(&mut stream, 1).await.is_err());
    }
}
