//! Ctrl-C and SIGTERM, heard from the first moment on.

use std::io;

use tokio::sync::watch;

/// The exit code of who was told to stop before all orders were settled.
pub const UNFINISHED: u8 = 130;

/// Whether the process has been told to end.
#[derive(Debug, Clone)]
pub struct Stop(watch::Receiver<bool>);

impl Stop {
    /// Listens from now on. The first signal asks for a clean end; the second ends the process at once, which loses
    /// nothing either.
    pub fn listen() -> io::Result<Self> {
        let mut signals = Signals::listen()?;
        let (told, stop) = watch::channel(false);
        tokio::spawn(async move {
            signals.next().await;
            eprintln!("finishing what runs …");
            told.send_replace(true);
            signals.next().await;
            std::process::exit(UNFINISHED.into());
        });
        Ok(Self(stop))
    }

    /// Resolves when it has been told.
    pub async fn told(mut self) {
        // The sender tells it before it is gone.
        let _ = self.0.wait_for(|&told| told).await;
    }
}

#[cfg(unix)]
struct Signals {
    interrupt: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
}

#[cfg(unix)]
impl Signals {
    fn listen() -> io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Self { interrupt: signal(SignalKind::interrupt())?, terminate: signal(SignalKind::terminate())? })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

#[cfg(windows)]
struct Signals(tokio::signal::windows::CtrlC);

#[cfg(windows)]
impl Signals {
    fn listen() -> io::Result<Self> {
        tokio::signal::windows::ctrl_c().map(Self)
    }

    async fn next(&mut self) {
        self.0.recv().await;
    }
}
