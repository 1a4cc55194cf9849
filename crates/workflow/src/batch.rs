//! Methods that take many calls at once.

use std::future::Future;
use std::time::Duration;

use serde::de::DeserializeOwned;

use crate::args::DecodeArgs;
use crate::{Payload, TaskFailure};

/// How the calls of a method are gathered that takes many at once, as its `#[batch(…)]` says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchOptions {
    /// How many calls it takes at most.
    pub max: usize,
    /// How long the first call waits for others.
    pub within: Duration,
    /// Only calls with the same value of this argument, or of a field of it, are gathered.
    pub per: Option<&'static str>,
}

/// The results of the calls of a batch, in their order.
pub type Answers = Vec<Result<Payload, TaskFailure>>;

/// Reads the argument of a call that is one of many.
///
/// # Errors
/// When it does not fit.
pub fn batched<A: DeserializeOwned>(what: &str, argument: &'static str, args: &Payload) -> Result<A, TaskFailure> {
    let read = DecodeArgs::new(args).and_then(|mut args| args.take(argument));
    read.map_err(|error| TaskFailure::unknown(format!("{what}: {error}")))
}

/// Calls a method with the arguments that could be read, and puts its results in the places of their calls.
///
/// # Panics
/// When it does not return one result for each: nobody knows then whose they are.
pub async fn call_batch<A, R, F: Future<Output = Vec<R>>>(
    what: &str,
    calls: Vec<Result<A, TaskFailure>>,
    method: impl FnOnce(Vec<A>) -> F,
    answer: impl Fn(R) -> Result<Payload, TaskFailure>,
) -> Answers {
    let mut arguments = Vec::with_capacity(calls.len());
    let unread: Vec<Option<TaskFailure>> =
        calls.into_iter().map(|call| call.map(|argument| arguments.push(argument)).err()).collect();
    let called = arguments.len();
    let results = if called == 0 { Vec::new() } else { method(arguments).await };
    let returned = results.len();
    assert!(
        called == returned,
        "{what} took a batch of {called} and returned {returned} results: it returns one for each, in the same order"
    );
    let mut results = results.into_iter();
    unread.into_iter().filter_map(|unread| unread.map(Err).or_else(|| results.next().map(&answer))).collect()
}
