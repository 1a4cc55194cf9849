//! The limits of a worker: how many of its tasks run at a time, and how many begin in a second, in all and for each
//! key.
//!
//! A task that there is no room for waits here for a moment, and its delivery with it. How many wait is bounded, and
//! each group of tasks with the same limits has a share of the places, so that one key does not keep the others out. A
//! task without a place, or one that would wait for long, goes back to the broker, to come again when its turn is
//! expected. [`Places`] is the rule, this file the waiting.

mod meter;
mod places;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use partitura_broker::{Error, ErrorKind, Result};
use partitura_workflow::{Limit, Payload, Service};
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep_until};

use self::places::{Entered, Places, Slot};
use super::rates::Rates;

/// The longest that a task waits in memory. After that it goes back to the broker: another worker may have room.
pub(super) const LONGEST: Duration = Duration::from_secs(30);

/// The limits of one worker.
#[derive(Debug)]
pub(crate) struct Limits {
    limits: Vec<Limit>,
    /// Up to how many tasks of a service wait here.
    room: HashMap<&'static str, usize>,
    places: Mutex<Places<Permit>>,
    /// Where those are kept that are of all processes, if there are any.
    rates: Option<Arc<Rates>>,
}

/// The state of the limits for a task that is about to run.
pub(super) enum Turn {
    /// It runs now. No limit concerns it where there is no permit.
    Now(Option<Permit>),
    /// It waits for its permit.
    Wait(oneshot::Receiver<Permit>),
    /// It goes back to the broker for so long.
    Back(Duration),
}

/// Room for one task under all limits that concern it, until it is dropped.
#[derive(Debug)]
pub(super) struct Permit {
    limits: Arc<Limits>,
    slots: Vec<Slot>,
}

impl Limits {
    /// Those of `limits` and of the traits of the services. `concurrency`: how many deliveries of a service are held
    /// unless a limit says less.
    pub(crate) fn new(mut limits: Vec<Limit>, services: &[Box<dyn Service>], concurrency: usize) -> Result<Self> {
        for limit in &limits {
            check_names(limit, services)?;
        }
        limits.extend(services.iter().flat_map(|service| service.limits()));
        for limit in &limits {
            if let Some(problem) = limit.problem() {
                let of = [limit.service.unwrap_or("all services"), limit.method.unwrap_or("all methods")].join(", ");
                return Err(refused(&format!("a limit of {of}: {problem}")));
            }
        }
        let limits = Self { limits, room: HashMap::new(), places: Mutex::default(), rates: None };
        let room = services.iter().map(|service| {
            let name = service.name();
            (name, (limits.deliveries(name, concurrency) / 2).max(1))
        });
        Ok(Self { room: room.collect(), ..limits })
    }

    /// Keeps the rates of all processes here.
    pub(crate) fn kept_by(self, rates: &Arc<Rates>) -> Result<Self> {
        let are_shared = self.limits.iter().any(|limit| limit.across_processes);
        if are_shared && !rates.are_possible() {
            return Err(refused("a rate across processes is kept in a store, and there is none: connect with one"));
        }
        Ok(Self { rates: are_shared.then(|| rates.clone()), ..self })
    }

    /// How many deliveries of a service are held at a time: those that run, and a few that wait. The others stay with
    /// the broker.
    pub(crate) fn deliveries(&self, service: &str, concurrency: usize) -> usize {
        const FEW: usize = 8;
        let whole = |limit: &&Limit| limit.method.is_none() && limit.per.is_none() && concerns(limit, service);
        let most = self.limits.iter().filter(whole).filter_map(|limit| limit.at_most).min();
        let most = most.and_then(|most| usize::try_from(most).ok());
        most.map_or(concurrency, |most| concurrency.min(most.saturating_mul(2).max(most.saturating_add(FEW))))
    }

    /// Asks for room for a task.
    pub(super) fn enter(self: &Arc<Self>, service: &str, method: &str, args: &Payload) -> Turn {
        let slots = self.slots(service, method, args);
        if slots.is_empty() {
            return Turn::Now(None);
        }
        let room = self.room.get(service).copied().unwrap_or(1);
        let now = Instant::now();
        let mut places = self.lock();
        if places.is_alarm_due(now) {
            // Those that have waited for this moment go first.
            self.admit(places, now);
            places = self.lock();
        }
        match places.enter(&self.limits, (service, slots), room, now) {
            Entered::Taken(slots) => Turn::Now(Some(Permit { limits: self.clone(), slots })),
            Entered::Waits(permit) => {
                self.wake(&mut places, now);
                Turn::Wait(permit)
            }
            Entered::Back(wait) => Turn::Back(wait),
        }
    }

    /// Where the rates of all processes are kept, and those of this task: of each its name, and how many begin in a
    /// second.
    pub(super) fn shared(&self, service: &str, method: &str) -> Option<(&Rates, Vec<(String, f64)>)> {
        let shared = self.limits.iter().filter(|limit| limit.across_processes && is_of(limit, service, method));
        let named = shared.filter_map(|limit| {
            let name = [limit.service.unwrap_or_default(), limit.method.unwrap_or_default()].join("\0");
            Some((name, limit.per_second?))
        });
        self.rates.as_deref().map(|rates| (rates, named.collect()))
    }

    /// Gives the places that the task counts against.
    fn slots(&self, service: &str, method: &str, args: &Payload) -> Vec<Slot> {
        let limits = self.limits.iter().enumerate();
        limits
            .filter(|(_, limit)| is_of(limit, service, method))
            .filter_map(|(limit, Limit { per, .. })| {
                let key = match per {
                    Some(path) => value_at(args, path)?,
                    None => String::new(),
                };
                Some(Slot { limit, key })
            })
            .collect()
    }

    fn lock(&self) -> MutexGuard<'_, Places<Permit>> {
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn release(self: &Arc<Self>, slots: &[Slot]) {
        let now = Instant::now();
        let mut places = self.lock();
        places.release(slots, now);
        self.admit(places, now);
    }

    /// Lets those run that there is room for.
    fn admit(self: &Arc<Self>, mut places: MutexGuard<'_, Places<Permit>>, now: Instant) {
        let admitted = places.admit(&self.limits, now);
        self.wake(&mut places, now);
        drop(places);
        for (slots, waiter) in admitted {
            // A permit that nobody waits for any more is dropped with the answer, outside of the lock, and gives its
            // room back.
            let _ = waiter.send(Permit { limits: self.clone(), slots });
        }
    }

    /// Looks again when the next task may begin that waits for a rate only.
    fn wake(self: &Arc<Self>, places: &mut Places<Permit>, now: Instant) {
        let Some(at) = places.alarm(&self.limits, now) else { return };
        let limits = Arc::downgrade(self);
        tokio::spawn(async move {
            sleep_until(at).await;
            let Some(limits) = Weak::upgrade(&limits) else { return };
            let mut places = limits.lock();
            places.alarm_rang(at);
            limits.admit(places, Instant::now());
        });
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.limits.release(&self.slots);
    }
}

fn concerns(limit: &Limit, service: &str) -> bool {
    limit.service.is_none_or(|name| name == service)
}

fn is_of(limit: &Limit, service: &str, method: &str) -> bool {
    concerns(limit, service) && limit.method.is_none_or(|name| name == method)
}

/// The value of an argument, or of a field of one, as it was sent. `None` where there is none.
pub(super) fn value_at(args: &Payload, path: &str) -> Option<String> {
    let mut value = args.clone();
    for name in path.split('.') {
        value = value.decode::<HashMap<String, Payload>>().ok()?.remove(name)?;
    }
    Some(value.as_json().to_owned())
}

/// Refuses a limit of what the worker does not run: it would limit nothing.
fn check_names(limit: &Limit, services: &[Box<dyn Service>]) -> Result<()> {
    let Some(name) = limit.service else { return Ok(()) };
    let Some(service) = services.iter().find(|service| service.name() == name) else {
        return Err(refused(&format!("a limit of the service {name}, which the worker does not run")));
    };
    let known: Vec<_> = service.methods().iter().map(|method| method.name).collect();
    match limit.method {
        Some(method) if !known.contains(&method) => Err(refused(&format!(
            "a limit of {name}.{method}, which does not exist; the methods are {}",
            known.join(", ")
        ))),
        _ => Ok(()),
    }
}

fn refused(message: &str) -> Error {
    Error::new(ErrorKind::InvalidArgument, "start", message)
}
