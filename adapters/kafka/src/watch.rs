//! The topics in use, and the birth of each.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use crate::birth::Birth;

/// A topic in use.
#[derive(Debug)]
pub(crate) struct Watched {
    name: String,
    birth: AtomicU64,
}

impl Watched {
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// The birth of the topic that has this name now, as far as it is known.
    pub(crate) fn birth(&self) -> Birth {
        Birth::from_number(self.birth.load(Ordering::Acquire))
    }

    /// Takes note of the birth. `true` if it shows that the topic was deleted and created again.
    pub(crate) fn note(&self, birth: Birth) -> bool {
        birth.is_known() && Birth::from_number(self.birth.swap(birth.number(), Ordering::AcqRel)).differs(birth)
    }
}

/// The topics in use on a connection. A topic is in use while its [`Watched`] is held.
#[derive(Debug, Default)]
pub(crate) struct WatchedTopics(Mutex<BTreeMap<String, Weak<Watched>>>);

impl WatchedTopics {
    pub(crate) fn get(&self, name: &str) -> Arc<Watched> {
        let mut topics = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(watched) = topics.get(name).and_then(Weak::upgrade) {
            return watched;
        }
        let watched = Arc::new(Watched { name: name.to_owned(), birth: AtomicU64::default() });
        topics.insert(name.to_owned(), Arc::downgrade(&watched));
        watched
    }

    pub(crate) fn in_use(&self) -> Vec<Arc<Watched>> {
        let mut topics = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        topics.retain(|_, watched| watched.strong_count() > 0);
        topics.values().filter_map(Weak::upgrade).collect()
    }
}
