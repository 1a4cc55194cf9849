//! Runs an author's code so that an endless loop in it, or a blocking call, is noticed and freezes nothing else.
//!
//! Code of a workflow takes microseconds, so it runs on the thread of its turn. That must never be the last thread that
//! the runtime has: then the runtime is told beforehand that the thread may be gone for a while.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use tokio::runtime::{Handle, RuntimeFlavor};

use crate::wire::names::InstanceKey;

/// After how long it is logged that code does not come back, and how often that is looked for while code runs. Those
/// who ask are told after the first look.
const STUCK_AFTER: Duration = Duration::from_secs(5);
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// How many calls hold a thread of the runtime.
static ON_THREADS: AtomicUsize = AtomicUsize::new(0);
/// How many calls the last look found that took long.
static SLOW: AtomicUsize = AtomicUsize::new(0);
static WATCH: LazyLock<Watch> = LazyLock::new(Watch::start);

/// Calls code of the instance; `what` names it.
pub(crate) fn call<T>(key: &InstanceKey, what: impl Into<Cow<'static, str>>, code: impl FnOnce() -> T) -> T {
    let _watched = WATCH.watch(key, what.into());
    let _held = Held::one_more();
    match threads() {
        Some(threads) if ON_THREADS.load(Ordering::Relaxed) >= threads => tokio::task::block_in_place(code),
        _ => code(),
    }
}

/// Whether code of any instance has not come back for a while.
pub(crate) fn is_any_slow() -> bool {
    SLOW.load(Ordering::Relaxed) > 0
}

/// Which code of the instance has not come back for a while, and for how long it has run.
pub(crate) fn slow(key: &InstanceKey) -> Option<(Cow<'static, str>, Duration)> {
    let calls = WATCH.calls();
    let slow = calls.values().find(|call| call.instance == *key && call.since.elapsed() >= LOOK_EVERY)?;
    Some((slow.what.clone(), slow.since.elapsed()))
}

/// How many threads the runtime has that can be told of a blocking call.
fn threads() -> Option<usize> {
    let handle = Handle::try_current().ok()?;
    (handle.runtime_flavor() == RuntimeFlavor::MultiThread).then(|| handle.metrics().num_workers())
}

/// Counts a call for as long as it lasts.
struct Held;

impl Held {
    fn one_more() -> Self {
        ON_THREADS.fetch_add(1, Ordering::Relaxed);
        Self
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        ON_THREADS.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The calls under way in this process, and the thread that looks at them. It sleeps while there are none.
struct Watch {
    calls: Mutex<BTreeMap<u64, Call>>,
    next: AtomicU64,
    is_awake: AtomicBool,
    /// `None`: the system gave no thread.
    thread: Option<Thread>,
}

struct Call {
    instance: InstanceKey,
    what: Cow<'static, str>,
    since: Instant,
    is_told: bool,
}

/// A call that is watched until this is dropped.
struct Watched(u64);

impl Watch {
    fn start() -> Self {
        let look = || {
            loop {
                thread::park_timeout(LOOK_EVERY);
                WATCH.look();
            }
        };
        let thread = thread::Builder::new().name("partitura-watch".into()).spawn(look);
        let thread = thread.ok().map(|handle| handle.thread().clone());
        Self { calls: Mutex::default(), next: AtomicU64::new(0), is_awake: AtomicBool::new(true), thread }
    }

    fn calls(&self) -> MutexGuard<'_, BTreeMap<u64, Call>> {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn watch(&self, instance: &InstanceKey, what: Cow<'static, str>) -> Watched {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let call = Call { instance: instance.clone(), what, since: Instant::now(), is_told: false };
        self.calls().insert(number, call);
        if !self.is_awake.swap(true, Ordering::Relaxed)
            && let Some(thread) = &self.thread
        {
            thread.unpark();
        }
        Watched(number)
    }

    /// Tells of calls that take too long; sleeps if there are no calls.
    fn look(&self) {
        let mut calls = self.calls();
        SLOW.store(calls.values().filter(|call| call.since.elapsed() >= LOOK_EVERY).count(), Ordering::Relaxed);
        for call in calls.values_mut().filter(|call| !call.is_told && call.since.elapsed() >= STUCK_AFTER) {
            call.is_told = true;
            tracing::error!(
                instance = %call.instance,
                code = &*call.what,
                "its code has not come back for {STUCK_AFTER:?}: an endless loop, or a blocking call; what comes for it waits. \
                 Put blocking work into a task or a step, and wait with cx.sleep, cx.until or cx.channel"
            );
        }
        let is_idle = calls.is_empty();
        drop(calls);
        if is_idle {
            self.is_awake.store(false, Ordering::Relaxed);
            // A call that began just now has woken this thread, or is seen here.
            if self.calls().is_empty() {
                thread::park();
            }
        }
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        if let Some(call) = WATCH.calls().remove(&self.0)
            && call.is_told
        {
            tracing::warn!(instance = %call.instance, took = ?call.since.elapsed(), "its code has come back");
        }
    }
}
