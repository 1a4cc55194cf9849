use std::num::NonZeroU32;

use crate::ServiceStub;

/// How many tasks a worker runs at a time, or begins in a second: of all services, of one, or of one method, in all or
/// for each value of an argument. Limits are those of one worker process: with three of them, three times as many run. A
/// rate may be that of [all processes](Self::across_processes) together.
///
/// ```
/// # use partitura_workflow::{Caller, Limit, ServiceStub};
/// # struct PaymentsStub;
/// # impl ServiceStub for PaymentsStub { const NAME: &'static str = "Payments"; fn new(_: Caller) -> Self { Self } }
/// Limit::all_services().at_most(200);
/// Limit::service::<PaymentsStub>().at_most(50).per_second(100.0);
/// // At most 5 for each value of the argument `tenant`.
/// Limit::method::<PaymentsStub>("charge").per("tenant").at_most(5);
/// // What the bank allows, however many workers there are.
/// Limit::method::<PaymentsStub>("charge").per_second(10.0).across_processes();
/// ```
///
/// Of several limits each holds. A trait states those that belong to it: `#[limit(per = "tenant", at_most = 5)]`.
#[derive(Debug, Clone, PartialEq)]
#[must_use = "a limit does nothing until a worker has it: `.limit(…)`"]
pub struct Limit {
    /// Of which service; `None`: of all.
    pub service: Option<&'static str>,
    /// Of which method, by its name on the wire; `None`: of all.
    pub method: Option<&'static str>,
    /// For each value of this argument, or of a field of one: `"order.tenant"`. Methods without it are not limited.
    pub per: Option<&'static str>,
    /// How many run at a time.
    pub at_most: Option<u32>,
    /// How many begin in a second, spread evenly over it.
    pub per_second: Option<f64>,
    /// Whether the rate is that of all processes together.
    pub across_processes: bool,
}

impl Limit {
    /// Of the tasks of all services that a worker runs.
    pub fn all_services() -> Self {
        Self { service: None, method: None, per: None, at_most: None, per_second: None, across_processes: false }
    }

    /// Of the tasks of one service, by its stub.
    pub fn service<S: ServiceStub>() -> Self {
        Self { service: Some(S::NAME), ..Self::all_services() }
    }

    /// Of the tasks of one method, by its name on the wire.
    pub fn method<S: ServiceStub>(name: &'static str) -> Self {
        Self { method: Some(name), ..Self::service::<S>() }
    }

    /// For each value of the argument of this name, or of a field of it: `"order.tenant"`.
    pub fn per(mut self, argument: &'static str) -> Self {
        self.per = Some(argument);
        self
    }

    /// How many run at a time.
    pub fn at_most(mut self, tasks: u32) -> Self {
        self.at_most = Some(tasks);
        self
    }

    /// How many begin in a second, spread evenly over it.
    pub fn per_second(mut self, tasks: f64) -> Self {
        self.per_second = Some(tasks);
        self
    }

    /// Makes the rate that of all processes of the application together, which keep it in their store: each takes the
    /// moments at which its tasks begin from there. Their clocks are that of the store. All state the same rate, in the
    /// same words: one of a service and one of its method are two. It is in all, and not for each value of an
    /// argument. `at_most` stays that of one process.
    pub fn across_processes(mut self) -> Self {
        self.across_processes = true;
        self
    }

    /// Why no task could ever run, or what else is wrong, if that is so.
    pub fn problem(&self) -> Option<&'static str> {
        let is_rate = |rate: f64| rate.is_finite() && rate > 0.0;
        if self.at_most.is_none() && self.per_second.is_none() {
            Some("it limits nothing: add `at_most` or `per_second`")
        } else if self.at_most.is_some_and(|most| NonZeroU32::new(most).is_none()) {
            Some("`at_most` is 1 or more")
        } else if self.per_second.is_some_and(|rate| !is_rate(rate)) {
            Some("`per_second` is a number above 0")
        } else if self.across_processes && (self.per_second.is_none() || self.per.is_some()) {
            Some("`across_processes` is for `per_second` in all, and not for each value of an argument")
        } else {
            None
        }
    }
}
