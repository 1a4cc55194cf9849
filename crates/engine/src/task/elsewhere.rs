//! Another process may know a method that this one does not: while a new version of a program is rolled out, its tasks
//! reach the old one as well. They are put back for others, for a while.

use std::time::Duration;

use partitura_broker::{AckToken, ErrorKind, Message};
use partitura_lanes::{Outcome, headers};

use super::call::TRIED;
use super::runner::TaskRunner;
use crate::storage::turn_store::is_unsendable;

/// After how long others get it the first time; then twice as long each time, up to the longest.
const FIRST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(5);
/// How much is kept of the builds that did not know it, in bytes.
const BUILDS: usize = 200;

/// The fate of a task before it came here.
struct Tried {
    /// In milliseconds since the Unix epoch.
    since: u64,
    times: u32,
    /// How often it was redriven then: an operator who sends it again starts anew.
    redriven: u32,
    /// The id that it had.
    id: String,
    /// The builds that did not know it, separated by commas.
    builds: String,
}

/// The decision about a task that this process does not know.
pub(super) enum Unknown {
    /// Let others have it.
    PutBack(Box<Message>),
    /// Report it: nobody knew it in time. Says so.
    Report(String),
}

impl TaskRunner {
    /// Decides about a task, of which something is not known here.
    pub(super) fn unknown(&self, message: &Message, problem: &str) -> Unknown {
        let now = self.clock.now_rounded_up();
        let mut tried = Tried::read(message, now.as_millis());
        tried.add(&self.build);
        if now.as_millis().saturating_sub(tried.since) >= u64::try_from(self.elsewhere.as_millis()).unwrap_or(u64::MAX)
        {
            let (limit, builds) = (self.elsewhere, &tried.builds);
            return Unknown::Report(format!("{problem}\n  no worker knew it for {limit:?}; tried by builds {builds}"));
        }
        tried.times += 1;
        let mut again = message.clone();
        again.id = format!("{}.e{}", tried.id, tried.times).into();
        again.headers.insert(TRIED, tried.to_string());
        // Every other time at once: those who wait for messages have waited for longer than this process, which has
        // just had one. All wake up together for a delayed one, and the same process may be the quickest each time.
        again.not_before = tried.times.is_multiple_of(2).then(|| {
            let wait = FIRST.saturating_mul(2_u32.saturating_pow(tried.times / 2)).min(LONGEST);
            now + wait
        });
        Unknown::PutBack(Box::new(again))
    }

    /// A task that this version cannot decode at all.
    pub(super) async fn undecodable(&self, message: &Message, token: AckToken, problem: &str) -> Outcome {
        let problem = format!("not a task for a service of this version: {problem}");
        let again = match self.unknown(message, &problem) {
            Unknown::PutBack(again) => *again,
            Unknown::Report(text) => return Outcome::dead(text),
        };
        match self.commit(Some(token), vec![again]).await {
            Ok(outcome) => outcome,
            Err(error) if is_unsendable(&error) => Outcome::dead(problem),
            Err(error) if error.kind() == ErrorKind::Fenced => Outcome::Lost,
            Err(error) => Outcome::retry(error.to_string()),
        }
    }
}

impl Tried {
    fn read(message: &Message, now: u64) -> Self {
        let redriven = message.headers.get_str(headers::REDRIVEN).and_then(|times| times.parse().ok()).unwrap_or(0);
        let none = Self { since: now, times: 0, redriven, id: message.id.to_string(), builds: String::new() };
        let Some(text) = message.headers.get_str(TRIED) else { return none };
        match text.splitn(5, ' ').collect::<Vec<_>>()[..] {
            [since, times, before, id, builds] => {
                let number = |text: &str| text.parse::<u64>().ok();
                let small = |text: &str| text.parse::<u32>().ok();
                match (number(since), small(times), small(before)) {
                    (Some(since), Some(times), Some(before)) if before == redriven => {
                        Self { since, times, redriven, id: id.to_owned(), builds: builds.to_owned() }
                    }
                    _ => none,
                }
            }
            _ => none,
        }
    }

    fn add(&mut self, build: &str) {
        let known = self.builds.split(',').any(|known| known == build);
        if !known && self.builds.len() + build.len() < BUILDS {
            let comma = if self.builds.is_empty() { "" } else { "," };
            self.builds = format!("{}{comma}{build}", self.builds);
        }
    }
}

impl std::fmt::Display for Tried {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { since, times, redriven, id, builds } = self;
        write!(f, "{since} {times} {redriven} {id} {builds}")
    }
}
