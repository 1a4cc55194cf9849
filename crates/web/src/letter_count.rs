//! How many dead letters there are, for a page that is shown often.
//!
//! Reading letters takes some brokers seconds, and only one process reads at a time. So the number is read in the
//! background, once in a while, and only if somebody looks.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use partitura_admin::{Admin, Letterbox};
use tokio::time::Instant;

/// For how long a number is shown before it is read again.
const SHOWN: Duration = Duration::from_secs(30);
/// How long the first visitor waits for it.
const FIRST: Duration = Duration::from_secs(1);
/// As many letters of one destination are read; there may be more.
const READ: usize = 500;

/// The number of dead letters, as last read. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(crate) struct LetterCount(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    /// The number, and whether there may be more.
    count: Option<(usize, bool)>,
    begun: Option<Instant>,
}

impl LetterCount {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The number, and whether there may be more. `None`: it is not known yet.
    pub(crate) async fn read(&self, admin: &Admin) -> Option<(usize, bool)> {
        let is_due = {
            let mut state = self.lock();
            let is_due = state.begun.is_none_or(|begun| begun.elapsed() >= SHOWN);
            if is_due {
                state.begun = Some(Instant::now());
            }
            is_due
        };
        if is_due {
            let (count, admin) = (self.clone(), admin.clone());
            let reading = tokio::spawn(async move {
                if let Ok(boxes) = admin.all_letters().await {
                    count.lock().count = Some(sum(&boxes));
                }
            });
            if self.lock().count.is_none() {
                // The page comes without it then.
                drop(tokio::time::timeout(FIRST, reading).await);
            }
        }
        self.lock().count
    }

    /// Has it read again for the next visitor: letters were sent again or discarded.
    pub(crate) fn forget(&self) {
        *self.lock() = State::default();
    }
}

fn sum(boxes: &[Letterbox]) -> (usize, bool) {
    let number = boxes.iter().map(|of| of.letters.len()).sum();
    (number, boxes.iter().any(|of| of.letters.len() >= READ || of.error.is_some()))
}
