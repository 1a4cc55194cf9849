//! Runs an author's code so that an endless loop in it, or a blocking call, is noticed and freezes nothing else.
//!
//! Code of a workflow takes microseconds, and so does a method of a service between two points where it waits: it runs on
//! the thread of its turn or task. That must never be the last thread that the runtime has: all but one of them may be
//! held by code. A call beyond that waits a moment for one of the others, which nearly always come back at once. If none
//! does, the runtime is told that this thread may be gone for a while. It then needs another, and a process that asked
//! for one at every second call would have a hundred.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::future::poll_fn;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, LazyLock, Mutex, MutexGuard, PoisonError};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use tokio::runtime::{Handle, RuntimeFlavor};

use crate::wire::names::InstanceKey;

/// After how long it is logged that code does not come back, and how often that is looked for while code runs. Those
/// who ask are told after the first look.
const STUCK_AFTER: Duration = Duration::from_secs(5);
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How often the instance is told again that a method of its task does not come back: it may have a new owner.
const TELL_EVERY: Duration = Duration::from_secs(30);

/// How long a call waits, on its thread, for another to come back.
const COMES_BACK_WITHIN: Duration = Duration::from_millis(1);

/// The calls that hold a thread of a runtime.
static HELD: Held = Held { count: Mutex::new(Count { held: 0, waiting: 0 }), returned: Condvar::new() };
/// How many calls the last look found that took long.
static SLOW: AtomicUsize = AtomicUsize::new(0);
static WATCH: LazyLock<Watch> = LazyLock::new(Watch::start);

/// Calls code of the instance in its turn; `what` names it.
pub(crate) fn call<T>(key: &InstanceKey, what: impl Into<Cow<'static, str>>, code: impl FnOnce() -> T) -> T {
    watched(Code::Turn(key.clone(), what.into()), code)
}

/// Code that runs beside the turns of an instance: a method of a service, or a step. It displays its name.
pub(crate) trait Beside: fmt::Display + Send + Sync {
    /// The instance that asked for it.
    fn instance(&self) -> InstanceKey;

    /// It has not come back for this long. Called again from time to time.
    fn is_stuck(&self, runs_for: Duration) {
        let _ = runs_for;
    }
}

/// A step, or a method that takes the calls of several tasks, by its name.
pub(crate) struct Named(pub(crate) InstanceKey, pub(crate) String);

impl fmt::Display for Named {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.1)
    }
}

impl Beside for Named {
    fn instance(&self) -> InstanceKey {
        self.0.clone()
    }
}

/// Awaits code that runs beside the turns of an instance. It may wait for as long as it likes, and is to come back when
/// it is polled.
pub(crate) async fn beside<F: Future>(code: Arc<dyn Beside>, future: F) -> F::Output {
    let mut future = pin!(future);
    poll_fn(|cx| watched(Code::Beside(code.clone()), || future.as_mut().poll(cx))).await
}

fn watched<T>(called: Code, code: impl FnOnce() -> T) -> T {
    let _watched = WATCH.watch(called);
    let Some(threads) = threads() else { return code() };
    let most = threads.saturating_sub(1);
    // Those that are known to be slow are not waited for.
    let within = if SLOW.load(Ordering::Relaxed) < most { COMES_BACK_WITHIN } else { Duration::ZERO };
    match HELD.hold_one_of(most, within) {
        Some(_holds) => code(),
        None => tokio::task::block_in_place(code),
    }
}

/// Whether code of any instance has not come back for a while.
pub(crate) fn is_any_slow() -> bool {
    SLOW.load(Ordering::Relaxed) > 0
}

/// Which code of the instance has not come back for a while and keeps its turn, and for how long it has run.
pub(crate) fn slow(key: &InstanceKey) -> Option<(Cow<'static, str>, Duration)> {
    let calls = WATCH.calls();
    calls.values().filter(|call| call.since.elapsed() >= LOOK_EVERY).find_map(|call| match &call.code {
        Code::Turn(instance, what) if instance == key => Some((what.clone(), call.since.elapsed())),
        _ => None,
    })
}

/// How many threads the runtime has that can be told of a blocking call.
fn threads() -> Option<usize> {
    let handle = Handle::try_current().ok()?;
    (handle.runtime_flavor() == RuntimeFlavor::MultiThread).then(|| handle.metrics().num_workers())
}

/// Counts threads that calls hold.
struct Held {
    count: Mutex<Count>,
    returned: Condvar,
}

struct Count {
    held: usize,
    /// How many calls wait for one of them.
    waiting: usize,
}

/// A thread, for as long as a call holds it.
struct Holds<'a>(&'a Held);

impl Held {
    /// Holds the thread of the caller, if no more than `most` are held with it: now, or `within` this time.
    fn hold_one_of(&self, most: usize, within: Duration) -> Option<Holds<'_>> {
        let mut count = self.count();
        if count.held >= most {
            count.waiting += 1;
            let wait = self.returned.wait_timeout_while(count, within, |count| count.held >= most);
            count = wait.unwrap_or_else(PoisonError::into_inner).0;
            count.waiting -= 1;
        }
        (count.held < most).then(|| {
            count.held += 1;
            Holds(self)
        })
    }

    fn count(&self) -> MutexGuard<'_, Count> {
        self.count.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Holds<'_> {
    fn drop(&mut self) {
        let mut count = self.0.count();
        count.held -= 1;
        let is_waited_for = count.waiting > 0;
        drop(count);
        if is_waited_for {
            self.0.returned.notify_one();
        }
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
    code: Code,
    since: Instant,
    told_at: Option<Instant>,
}

/// Code of an author.
enum Code {
    /// Of this instance, and what it is.
    Turn(InstanceKey, Cow<'static, str>),
    Beside(Arc<dyn Beside>),
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

    fn watch(&self, code: Code) -> Watched {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let call = Call { code, since: Instant::now(), told_at: None };
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
        let mut stuck = Vec::new();
        for call in calls.values_mut().filter(|call| call.since.elapsed() >= STUCK_AFTER) {
            if call.told_at.is_some_and(|told_at| told_at.elapsed() < TELL_EVERY) {
                continue;
            }
            let is_first = call.told_at.replace(Instant::now()).is_none();
            if is_first {
                call.code.log();
            }
            if let Code::Beside(code) = &call.code {
                stuck.push((code.clone(), call.since.elapsed()));
            }
        }
        let is_idle = calls.is_empty();
        drop(calls);
        for (code, runs_for) in stuck {
            code.is_stuck(runs_for);
        }
        if is_idle {
            self.is_awake.store(false, Ordering::Relaxed);
            // A call that began just now has woken this thread, or is seen here.
            if self.calls().is_empty() {
                thread::park();
            }
        }
    }
}

impl Code {
    fn instance(&self) -> InstanceKey {
        match self {
            Self::Turn(instance, _) => instance.clone(),
            Self::Beside(code) => code.instance(),
        }
    }

    fn log(&self) {
        let instance = self.instance();
        match self {
            Self::Turn(_, code) => tracing::error!(
                %instance,
                code = &**code,
                "its code has not come back for {STUCK_AFTER:?}: an endless loop, or a blocking call; what comes for it waits. \
                 Put blocking work into a task or a step, and wait with cx.sleep, cx.until or cx.channel"
            ),
            Self::Beside(code) => tracing::error!(
                %instance,
                %code,
                "its code has not come back for {STUCK_AFTER:?}: an endless loop, or a blocking call. Have blocking work done by \
                 tokio::task::spawn_blocking: neither a time-out nor a cancellation reaches it here"
            ),
        }
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        let ended = WATCH.calls().remove(&self.0);
        if let Some(Call { code, since, told_at: Some(_) }) = ended {
            tracing::warn!(instance = %code.instance(), took = ?since.elapsed(), "its code has come back");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FOR_EVER: Duration = Duration::from_secs(600);

    fn held() -> Held {
        Held { count: Mutex::new(Count { held: 0, waiting: 0 }), returned: Condvar::new() }
    }

    #[test]
    fn a_call_takes_the_thread_of_another_that_comes_back_and_no_further_one() {
        let held = held();
        let first = held.hold_one_of(1, Duration::ZERO).expect("all are free");
        thread::scope(|scope| {
            let second = scope.spawn(|| held.hold_one_of(1, FOR_EVER).is_some());
            while held.count().waiting == 0 {
                thread::yield_now();
            }
            drop(first);
            assert!(second.join().expect("no panic"));
        });
        assert_eq!(held.count().held, 0);
    }

    #[test]
    fn one_thread_is_never_held_whatever_is_slow() {
        let held = held();
        let slow: Vec<_> = (0..3).map(|_| held.hold_one_of(3, Duration::ZERO).expect("free")).collect();
        assert!(held.hold_one_of(3, Duration::from_millis(1)).is_none());
        assert!(held.hold_one_of(0, Duration::ZERO).is_none());
        drop(slow);
        assert!(held.hold_one_of(3, Duration::ZERO).is_some());
    }
}
