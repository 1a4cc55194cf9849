//! The macros of Partitura: `#[service]`, `#[workflow]` and `select!`.
//!
//! Use them through the `partitura` crate, which the generated code names.

mod attributes;
mod batch;
mod errors;
mod gathered;
mod handler;
mod limit;
mod method;
mod retries;
mod select;
mod service;
mod signature;
mod types;
mod workflow;

use proc_macro::TokenStream;

/// Makes a trait of async methods a service.
///
/// The trait can then be implemented with plain `async fn`s, whose futures are `Send`. For a trait `Payments` two types
/// are generated:
/// * `PaymentsStub`, which workflows call: `cx.service::<PaymentsStub>().charge(…).await`; every method returns a lazy
///   `Task<T, E>`.
/// * `PaymentsService<T>(pub T)`, which a worker runs: it wraps an implementation of the trait.
///
/// Methods take `&self` and owned, serializable arguments, and return `Result<T, E>` or a plain `T`. Arguments travel
/// by name: adding an `Option` is compatible in both directions, reordering too, renaming is not. `Result<T, E>` is
/// written out: an alias hides the error's type.
///
/// `#[service(name = "payments")]` fixes the name on the wire; it is the trait's otherwise. The names of topics contain
/// it, so it has 1 to 128 of the characters `A–Z a–z 0–9 . _ -`. On methods, whose names must differ:
///
/// ```text
/// #[task(
///     name = "charge",                                  // on the wire
///     retry = Retry::exponential().max_attempts(5),     // when, and how often
///     retry_if = |error| error.is_passing(),            // which of the method's own errors; a path as well
///     timeout = minutes(1), overall_timeout = days(1), start_timeout = hours(1), heartbeat_timeout = seconds(30),
/// )]
/// async fn charge(&self, order: OrderId, amount: Cents) -> Result<Receipt, Declined>;
/// ```
///
/// `#[limit(at_most = 20)]`, `#[limit(per = "tenant", at_most = 5)]` and `#[limit(per_second = 10)]`, on a method or on
/// the trait, limit the tasks that a worker runs at a time or begins in a second. `per` names an argument, or a field
/// of one (`"order.tenant"`), and each value of it has a limit of its own. Several may stand on one method.
///
/// `#[batch(max = 100, within_ms = 20)] async fn index(&self, docs: Vec<Doc>) -> Vec<Result<(), IndexError>>` takes
/// many calls at once. Callers bring one `Doc` each, and each gets its own result. The worker calls the method when
/// `max` calls have come, or when the first of them has waited for `within_ms`. With `per = "docs.tenant"` only calls
/// with the same value of that field are together.
///
/// `retry_if` is asked in the worker, which has the error. Without it the error's type is, if it is `Transient`;
/// `retry_errors` has the other errors tried again, too. Without any of them they are answers and final. `no_timeout`
/// takes away the default time-out.
#[proc_macro_attribute]
pub fn service(attributes: TokenStream, item: TokenStream) -> TokenStream {
    service::expand(attributes.into(), item.into()).into()
}

/// Makes an `impl` block a workflow.
///
/// * `#[run] async fn run(cx: Cx<Self>, input: I) -> Result<T, E>`: the process. Exactly one; the input may be left
///   out.
/// * `#[signal] fn packed(&mut self, …)`: changes the state when a signal of that name comes.
/// * `#[update] fn add(&mut self, …) -> Result<T, E>`, or a plain `T`: changes the state and answers.
/// * `#[signal] async fn packed(cx: Cx<Self>, …)` and `#[update] async fn add(cx: Cx<Self>, …) -> Result<T, E>`: the
///   same, and may wait. They run beside `run`.
/// * `#[query] fn is_packed(&self, …) -> R`: answers without changing anything.
///
/// The methods are not changed, so that unit tests can call them. For a type `Checkout` (which is `Default`, the state
/// of a new instance) the constructors `CheckoutSignal::packed(…)`, `CheckoutUpdate::add(…)` and
/// `CheckoutQuery::is_packed(…)` are generated for senders.
///
/// `#[update(validate = Self::may_add)]` names a method `fn may_add(&self, …) -> Result<(), E>` that gets the arguments
/// of the update by reference, and refuses it before anything is recorded. `E` is the error of the update.
///
/// `#[workflow(name = "checkout")]` fixes the name on the wire, it is the type's otherwise; `#[signal(name = "…")]`,
/// `#[update(name = "…")]` and `#[query(name = "…")]` do it for theirs.
///
/// `#[workflow(name = "checkout", version = 2)]` is another version of that workflow: a worker may run both, instances
/// keep the one with which they were started, and new ones get the highest.
///
/// `#[workflow(retry = Retry::exponential().max_attempts(5), retry_if = |error| error.is_passing())]` tries an instance
/// again whose `run` fails, unless its start has another policy. Without `retry_if` the error's type says which errors
/// are passing, if it is `Transient`; without that, all are tried again.
#[proc_macro_attribute]
pub fn workflow(attributes: TokenStream, item: TokenStream) -> TokenStream {
    workflow::expand(attributes.into(), item.into()).into()
}

/// Awaits several futures and takes the first that is ready; the others are dropped, which cancels what they began:
/// their tasks, timers and children. To keep a future running, or to await it again, start it before and await it by
/// `&mut`:
///
/// ```text
/// let mut charge = payments.charge(order, cents).start();     // a handle: not cancelled when it loses
/// let in_time = select! {
///     receipt = &mut charge => receipt?,
///     _ = cx.sleep(days(3)) => return saga.fail(CheckoutError::TooLate).await,
/// };
/// ```
///
/// Branches are always polled from top to bottom: if two are ready at once the upper one wins, in the first run and in
/// every replay. The futures need be neither fused nor `Unpin`. A pattern must match every output of its future.
#[proc_macro]
pub fn select(branches: TokenStream) -> TokenStream {
    select::expand(branches.into()).into()
}
