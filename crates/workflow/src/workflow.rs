use std::borrow::Cow;
use std::fmt;
use std::future::Future;
use std::marker::PhantomData;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::{Answer, Cx, HandlerFuture, Payload, PayloadError, QueryError, Retry, UpdateRefusal};

/// A business process, written as plain code. Implemented by `#[workflow]`, seldom by hand.
///
/// The value itself is the instance's state: what signals change, conditions wait for and queries read.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a workflow",
    label = "has no `#[workflow]`",
    note = "write `#[workflow] impl {Self} {{ #[run] async fn run(cx: Cx<Self>, …) -> Result<…, …> {{ … }} }}`, and derive `Default` \
            for `{Self}`"
)]
pub trait Workflow: Default + Send + 'static {
    /// The name under which instances are started and found. It must not change while instances live.
    const NAME: &'static str;
    /// Which version of the workflow of this name it is. An instance keeps that with which it was started, and a worker
    /// may run several.
    const VERSION: u32 = 1;

    /// The argument of `run`; `()` when it has none.
    type Input: Serialize + DeserializeOwned + Send + 'static;
    /// The result of `run` when all went well.
    type Output: Serialize + DeserializeOwned + Send + 'static;
    /// The error of `run`.
    type Error: Serialize + DeserializeOwned + Send + 'static;

    /// The process, from its first line to its last.
    ///
    /// It must be deterministic: time, randomness, ids and everything awaited come from `cx`.
    fn run(cx: Cx<Self>, input: Self::Input) -> impl Future<Output = Result<Self::Output, Self::Error>> + Send;

    /// Handles a signal. `false`: there is no handler of that name, the signal goes to the channel of the name.
    ///
    /// # Errors
    /// When the payload does not fit the handler's arguments; nothing was changed.
    fn signal(&mut self, name: &str, payload: &Payload) -> Result<bool, PayloadError> {
        let _ = (name, payload);
        Ok(false)
    }

    /// Begins the handler of a signal that may wait. `None`: there is no such handler of that name, see
    /// [`signal`](Self::signal).
    ///
    /// # Errors
    /// When the payload does not fit the handler's arguments; nothing was begun.
    fn begin_signal(cx: &Cx<Self>, name: &str, payload: &Payload) -> Result<Option<HandlerFuture>, PayloadError> {
        let _ = (cx, name, payload);
        Ok(None)
    }

    /// Begins the handler of an update that may wait, without asking its validator. `None`: there is no such handler of
    /// that name, see [`update`](Self::update).
    ///
    /// # Errors
    /// When the arguments do not fit; nothing was begun.
    fn begin_update(cx: &Cx<Self>, name: &str, args: &Payload) -> Result<Option<HandlerFuture>, PayloadError> {
        let _ = (cx, name, args);
        Ok(None)
    }

    /// Looks at an update before it is recorded.
    ///
    /// # Errors
    /// When there is no such update, the arguments do not fit, or its validator refuses it.
    fn check_update(&self, name: &str, args: &Payload) -> Result<(), UpdateRefusal> {
        let _ = args;
        Err(unknown_update::<Self>(name))
    }

    /// Applies an update, without asking its validator.
    ///
    /// # Errors
    /// When there is no such update, or the arguments do not fit; nothing was changed.
    fn update(&mut self, name: &str, args: &Payload) -> Result<Answer, UpdateRefusal> {
        let _ = args;
        Err(unknown_update::<Self>(name))
    }

    /// Answers a query. It must not change anything, which `&self` makes hard to get wrong.
    ///
    /// # Errors
    /// When there is no such query, or the arguments do not fit.
    fn query(&self, name: &str, args: &Payload) -> Result<Payload, QueryError> {
        let _ = args;
        Err(QueryError::Unknown {
            workflow: Self::NAME.to_owned(),
            query: name.to_owned(),
            known: Self::queries().iter().map(|&name| name.to_owned()).collect(),
        })
    }

    /// When a run that fails is tried again, unless the start says otherwise. `None`: not at all.
    fn retry() -> Option<Retry> {
        None
    }

    /// Whether a run that failed with this error is tried again, where there is a policy for that.
    fn is_retried(error: &Self::Error) -> bool {
        let _ = error;
        true
    }

    /// Describes an error, for people.
    fn describe(error: &Self::Error) -> String;

    /// The names of the signals that have handlers.
    fn signals() -> &'static [&'static str] {
        &[]
    }

    /// The names of the updates.
    fn updates() -> &'static [&'static str] {
        &[]
    }

    /// The names of the queries.
    fn queries() -> &'static [&'static str] {
        &[]
    }
}

/// The refusal of an update without a handler.
pub fn unknown_update<W: Workflow>(name: &str) -> UpdateRefusal {
    UpdateRefusal::Unknown {
        workflow: W::NAME.to_owned(),
        update: name.to_owned(),
        known: W::updates().iter().map(|&name| name.to_owned()).collect(),
    }
}

/// A signal to a workflow `W`: a name and arguments, ready to be sent.
///
/// `#[workflow]` generates a constructor for every handler (`CheckoutSignal::packed()`); [`Signal::to_channel`] makes
/// one for a channel.
pub struct Signal<W> {
    name: Cow<'static, str>,
    payload: Result<Payload, PayloadError>,
    workflow: PhantomData<fn() -> W>,
}

impl<W> Signal<W> {
    /// A signal that the workflow takes from `cx.channel(name)`.
    pub fn to_channel<T: Serialize + DeserializeOwned>(name: impl Into<Cow<'static, str>>, value: &T) -> Self {
        Self::new(name, Payload::encode(value))
    }

    #[doc(hidden)]
    pub fn new(name: impl Into<Cow<'static, str>>, payload: Result<Payload, PayloadError>) -> Self {
        Self { name: name.into(), payload, workflow: PhantomData }
    }

    /// The signal's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The name and the encoded arguments.
    ///
    /// # Errors
    /// When the arguments could not be encoded.
    pub fn into_parts(self) -> Result<(String, Payload), PayloadError> {
        Ok((self.name.into_owned(), self.payload?))
    }
}

impl<W> fmt::Debug for Signal<W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Signal").field("name", &self.name).field("payload", &self.payload).finish()
    }
}

/// A query to a workflow `W` that is answered with an `R`. `#[workflow]` generates the constructors
/// (`CheckoutQuery::is_packed()`).
pub struct Query<W, R> {
    name: Cow<'static, str>,
    args: Result<Payload, PayloadError>,
    types: PhantomData<fn() -> (W, R)>,
}

impl<W, R> Query<W, R> {
    #[doc(hidden)]
    pub fn new(name: impl Into<Cow<'static, str>>, args: Result<Payload, PayloadError>) -> Self {
        Self { name: name.into(), args, types: PhantomData }
    }

    /// The query's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The name and the encoded arguments.
    ///
    /// # Errors
    /// When the arguments could not be encoded.
    pub fn into_parts(self) -> Result<(String, Payload), PayloadError> {
        Ok((self.name.into_owned(), self.args?))
    }
}

impl<W, R> fmt::Debug for Query<W, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Query").field("name", &self.name).field("args", &self.args).finish()
    }
}
