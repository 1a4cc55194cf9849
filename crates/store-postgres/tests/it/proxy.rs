//! A proxy before the server that cuts one connection at the worst moment.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking::Slot;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// The moment at which a connection is cut. The next request of any client is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cut {
    /// Before the request reaches the server.
    Request,
    /// When the request has been sent to the server.
    Sent,
    /// When the server has answered, and before the client hears of it.
    Answer,
}

pub(crate) struct Proxy {
    port: u16,
    state: Arc<State>,
    accepting: JoinHandle<()>,
}

#[derive(Default)]
struct State {
    armed: Slot,
    refusing: AtomicBool,
}

/// A cut that one connection takes.
mod parking {
    use std::sync::{Mutex, PoisonError};

    use super::Cut;

    #[derive(Default)]
    pub(super) struct Slot(Mutex<Option<Cut>>);

    impl Slot {
        pub(super) fn put(&self, cut: Cut) {
            *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(cut);
        }

        pub(super) fn take(&self) -> Option<Cut> {
            self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
        }

        pub(super) fn is_empty(&self) -> bool {
            self.0.lock().unwrap_or_else(PoisonError::into_inner).is_none()
        }
    }
}

impl Proxy {
    pub(crate) async fn start(url: &str) -> Self {
        let upstream = place(url).to_owned();
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("its address").port();
        let state = Arc::new(State::default());
        let accepting = tokio::spawn({
            let state = state.clone();
            async move {
                while let Ok((client, _)) = listener.accept().await {
                    if !state.refusing.load(Ordering::SeqCst) {
                        tokio::spawn(pass(client, upstream.clone(), state.clone()));
                    }
                }
            }
        });
        Self { port, state, accepting }
    }

    /// The URL of the server, by way of the proxy.
    pub(crate) fn url(&self, url: &str) -> String {
        url.replace(place(url), &format!("127.0.0.1:{}", self.port))
    }

    pub(crate) fn arm(&self, cut: Cut) {
        self.state.armed.put(cut);
    }

    pub(crate) fn has_cut(&self) -> bool {
        self.state.armed.is_empty()
    }

    /// Whether new connections are closed at once.
    pub(crate) fn refuse(&self, refuse: bool) {
        self.state.refusing.store(refuse, Ordering::SeqCst);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

/// Host and port.
fn place(url: &str) -> &str {
    let (_, place) = url.rsplit_once('@').expect("a URL with a user");
    place.split_once('/').expect("a URL with a database").0
}

/// Passes both ways until one side closes, or the cut.
async fn pass(mut client: TcpStream, upstream: String, state: Arc<State>) -> std::io::Result<()> {
    let mut server = TcpStream::connect(upstream).await?;
    server.set_nodelay(true)?;
    client.set_nodelay(true)?;
    let (mut request, mut answer) = (vec![0; 1 << 16], vec![0; 1 << 16]);
    let mut cutting = None;
    loop {
        tokio::select! {
            read = client.read(&mut request) => {
                let read = read?;
                if read == 0 {
                    return Ok(());
                }
                cutting = cutting.or_else(|| state.armed.take());
                if cutting == Some(Cut::Request) {
                    break;
                }
                server.write_all(&request[..read]).await?;
                if cutting == Some(Cut::Sent) {
                    break;
                }
            }
            read = server.read(&mut answer) => {
                let read = read?;
                if read == 0 || cutting == Some(Cut::Answer) {
                    break;
                }
                client.write_all(&answer[..read]).await?;
            }
        }
    }
    client.set_zero_linger()
}
