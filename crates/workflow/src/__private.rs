//! Names for generated code. Not for people; no promise is made about it.
#![allow(missing_docs)]

pub use futures::FutureExt;
pub use futures::future::BoxFuture;
pub use serde;

pub use crate::args::{DecodeArgs, EncodeArgs};
pub use crate::batch::{Answers, BatchOptions, batched, call_batch};
pub use crate::service::one_by_one;
pub use crate::update::answer;
pub use crate::workflow::unknown_update;
pub use crate::{
    Answer, Caller, Cx, Failure, HandlerFuture, Limit, MethodInfo, Never, OwnErrors, Payload, PayloadError, Query,
    QueryError, Retry, Service, ServiceStub, Signal, Task, TaskFailure, TaskOptions, Transient, Update, UpdateRefusal,
    Workflow,
};

/// `Display` where the error has it, else `Debug`, else its type: chosen by auto-ref on
/// `(&&&Describe(&error)).describe()`.
pub struct Describe<'a, E>(pub &'a E);

pub trait DescribeByDisplay {
    fn describe(&self) -> String;
}

impl<E: std::fmt::Display> DescribeByDisplay for &&Describe<'_, E> {
    fn describe(&self) -> String {
        self.0.to_string()
    }
}

pub trait DescribeByDebug {
    fn describe(&self) -> String;
}

impl<E: std::fmt::Debug> DescribeByDebug for &Describe<'_, E> {
    fn describe(&self) -> String {
        format!("{:?}", self.0)
    }
}

pub trait DescribeByType {
    fn describe(&self) -> String;
}

impl<E> DescribeByType for Describe<'_, E> {
    fn describe(&self) -> String {
        std::any::type_name::<E>().to_owned()
    }
}

/// The judgement of an error's type about it, if there is any: chosen by auto-ref on
/// `(&&Verdict(&error)).is_transient()`.
pub struct Verdict<'a, E>(pub &'a E);

pub trait VerdictOfType {
    fn is_transient(&self) -> Option<bool>;
}

impl<E: Transient> VerdictOfType for &Verdict<'_, E> {
    fn is_transient(&self) -> Option<bool> {
        Some(self.0.is_transient())
    }
}

pub trait NoVerdict {
    fn is_transient(&self) -> Option<bool>;
}

impl<E> NoVerdict for Verdict<'_, E> {
    fn is_transient(&self) -> Option<bool> {
        None
    }
}

/// Gives the judgement of a predicate about an error. It gives a closure the type of its argument.
pub fn verdict<E>(error: &E, predicate: impl FnOnce(&E) -> bool) -> bool {
    predicate(error)
}

/// Values that can be sent in a message and read again. It exists for its diagnostic.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot travel over the broker",
    label = "cannot be written to a message and read again",
    note = "derive `Serialize` and `Deserialize` for it, and let it be `Send` and without borrowed parts",
    note = "for an error type of another crate write `String`, or an enum of your own with what its receiver wants to know"
)]
pub trait Travels {}

#[diagnostic::do_not_recommend]
impl<T: serde::Serialize + serde::de::DeserializeOwned + Send + 'static> Travels for T {}

/// Asserts that a type can be sent and read again.
pub fn travels<T: Travels>() {}

/// Tells a `Result` under another name, which a macro cannot: the inherent constant comes first.
pub struct Shape<T>(std::marker::PhantomData<T>);

pub trait NotAResult {
    const IS_RESULT: bool = false;
}

impl<T> NotAResult for Shape<T> {}

impl<T, E> Shape<Result<T, E>> {
    pub const IS_RESULT: bool = true;
}
