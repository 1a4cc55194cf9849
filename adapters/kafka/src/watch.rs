//! Notices that a topic was deleted and made anew while it is in use.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use partitura_broker::Result;
use partitura_broker::telemetry::TARGET;
use tokio::sync::Notify;

use crate::birth::{Birth, births, births_within};
use crate::core::Core;
use crate::error;

/// How often all topics in use are looked at, in one request.
const EVERY: Duration = Duration::from_secs(2);
/// How much longer for each of them: an answer has thirty settings of each.
const EACH: Duration = Duration::from_millis(20);
/// How long an answer is waited for. Somebody may wait behind it, and without it what is known stays.
const WITHIN: Duration = Duration::from_secs(2);

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

    /// Which topic of that name there is now, as far as is known.
    pub(crate) fn birth(&self) -> Birth {
        Birth::from_number(self.birth.load(Ordering::Acquire))
    }

    /// Looks now.
    pub(crate) async fn look(&self, core: &Core) -> Result<()> {
        let births = births(&*core.admin()?, &[&self.name]).await;
        let births = births.map_err(|source| error::error("look up", source).of(&self.name))?;
        self.saw(core, births.get(&self.name).copied().unwrap_or(Birth::UNKNOWN));
        Ok(())
    }

    /// Takes note of which there is.
    fn saw(&self, core: &Core, birth: Birth) {
        if birth.is_known() && Birth::from_number(self.birth.swap(birth.number(), Ordering::AcqRel)).differs(birth) {
            tracing::warn!(target: TARGET, topic = self.name, "the topic was deleted and made anew");
            core.made_anew(&self.name);
        }
    }
}

/// The topics in use on a connection.
#[derive(Debug, Default)]
pub(crate) struct Watch {
    topics: Mutex<BTreeMap<String, Weak<Watched>>>,
    is_running: AtomicBool,
    hurry: Arc<Notify>,
}

impl Watch {
    /// Looks at this topic for as long as somebody has what this returns. Must be called within tokio's runtime.
    pub(crate) fn topic(core: &Arc<Core>, name: &str) -> Arc<Watched> {
        let watch = core.watching();
        let watched = watch.watched(name);
        if !watch.is_running.swap(true, Ordering::AcqRel) {
            tokio::spawn(run(Arc::downgrade(core), watch.hurry.clone()));
        }
        watched
    }

    fn watched(&self, name: &str) -> Arc<Watched> {
        let mut topics = self.topics.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(watched) = topics.get(name).and_then(Weak::upgrade) {
            return watched;
        }
        let watched = Arc::new(Watched { name: name.to_owned(), birth: AtomicU64::default() });
        topics.insert(name.to_owned(), Arc::downgrade(&watched));
        watched
    }

    /// Looks at once: something hints at a change.
    pub(crate) fn hurry(&self) {
        self.hurry.notify_one();
    }

    fn in_use(&self) -> Vec<Arc<Watched>> {
        let mut topics = self.topics.lock().unwrap_or_else(PoisonError::into_inner);
        topics.retain(|_, watched| watched.strong_count() > 0);
        topics.values().filter_map(Weak::upgrade).collect()
    }
}

async fn run(core: Weak<Core>, hurry: Arc<Notify>) {
    let mut wait = EVERY;
    loop {
        let _hurried = tokio::time::timeout(wait, hurry.notified()).await;
        let Some(core) = core.upgrade().filter(|core| !core.is_closed()) else { return };
        let topics = core.watching().in_use();
        look(&core, &topics).await;
        wait = EVERY + EACH * u32::try_from(topics.len()).unwrap_or(u32::MAX);
    }
}

/// Looks at all of these at once.
pub(crate) async fn look(core: &Core, topics: &[Arc<Watched>]) {
    let names: Vec<&str> = topics.iter().map(|topic| topic.name.as_str()).collect();
    let Some(admin) = core.admin().ok().filter(|_| !names.is_empty()) else { return };
    match births_within(&admin, &names, WITHIN).await {
        Ok(births) => {
            for topic in topics {
                topic.saw(core, births.get(&topic.name).copied().unwrap_or(Birth::UNKNOWN));
            }
        }
        Err(error) => tracing::debug!(target: TARGET, %error, "looking whether topics are still the same"),
    }
}
