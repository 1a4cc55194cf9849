use std::sync::{Mutex, MutexGuard, PoisonError};

/// Takes a lock. If a holder panicked it can be used: the state changes only after the storage, in steps that do not
/// panic.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
