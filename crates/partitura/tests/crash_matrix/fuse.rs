//! The end of the process, at an effect chosen beforehand.

use std::fmt;
use std::future::{Future, poll_fn};
use std::path::PathBuf;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::Duration;

use crate::diary::Diary;

/// Counts the points at which a crash makes a difference, and ends the process at the one it is set to.
#[derive(Debug, Clone)]
pub(crate) struct Fuse(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    /// From 1; `None`: never.
    at: Option<u32>,
    passed: AtomicU32,
    diary: PathBuf,
}

/// Where the process is with an effect.
#[derive(Debug, Clone, Copy)]
enum Moment {
    Before,
    /// It was asked for, and nobody knows how far it has come.
    Amid,
    /// A part of it is done for good, where it is made of parts.
    Halfway,
    After,
}

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Before => "before",
            Self::Amid => "amid",
            Self::Halfway => "halfway through",
            Self::After => "after",
        })
    }
}

impl Fuse {
    pub(crate) fn new(at: Option<u32>, diary: PathBuf) -> Self {
        Self(Arc::new(Inner { at, passed: AtomicU32::new(0), diary }))
    }

    /// How many points were passed.
    pub(crate) fn passed(&self) -> u32 {
        self.0.passed.load(Ordering::Relaxed)
    }

    pub(crate) fn before(&self, effect: &str) {
        self.point(Moment::Before, effect);
    }

    pub(crate) fn after(&self, effect: &str) {
        self.point(Moment::After, effect);
    }

    /// Carries out an effect, with points before, amid and after it.
    pub(crate) async fn around<F: Future>(&self, effect: &str, carried_out: F) -> F::Output {
        self.before(effect);
        let mut carried_out = pin!(carried_out);
        if self.reaches() {
            // From the first poll on it is under way, on a thread of its own.
            poll_fn(|context| Poll::Ready(carried_out.as_mut().poll(context).is_ready())).await;
            // Not to wait for anything: to catch that thread at another moment each time.
            thread::sleep(Duration::from_micros(u64::from(self.passed()) * 37 % 1_000));
            self.blow(Moment::Amid, effect);
        }
        let output = carried_out.await;
        self.after(effect);
        output
    }

    /// A point at which a part of an effect is done and the rest is not.
    pub(crate) fn halfway<F: Future>(&self, effect: &str, half: impl FnOnce() -> F) {
        if self.reaches() {
            complete(half());
            self.blow(Moment::Halfway, effect);
        }
    }

    /// A point after something that began earlier has come to its end.
    pub(crate) fn once_done<F: Future>(&self, effect: &str, end: impl FnOnce() -> F) {
        if self.reaches() {
            complete(end());
            self.blow(Moment::After, effect);
        }
    }

    fn point(&self, moment: Moment, effect: &str) {
        if self.reaches() {
            self.blow(moment, effect);
        }
    }

    fn reaches(&self) -> bool {
        let number = self.0.passed.fetch_add(1, Ordering::Relaxed) + 1;
        self.0.at == Some(number)
    }

    fn blow(&self, moment: Moment, effect: &str) -> ! {
        Diary::open(&self.0.diary).crashed(&format!("{moment} {effect}"));
        std::process::abort()
    }
}

/// Waits here and now: a caller that awaits may give up in between, and then the crash would not come.
fn complete<F: Future>(future: F) -> F::Output {
    struct Waiting(Thread);

    impl Wake for Waiting {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }

    let waker = Waker::from(Arc::new(Waiting(thread::current())));
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(output) => return output,
            Poll::Pending => thread::park(),
        }
    }
}
