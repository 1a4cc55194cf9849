use std::fmt;
use std::future::Future;
use std::marker::PhantomData;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::core::{Core, Leaf, Resolution, SlotKind};
use crate::{ChildError, EventKind, FailureKind, ParentEnd, Payload, PayloadError, Retry, SendError, Workflow};

/// A workflow `W` to be run under this one, by its id. See [`Cx::child`](crate::Cx::child).
///
/// ```
/// # use partitura_workflow::{ChildError, Cx, ParentEnd, Workflow};
/// # async fn example<W, C: Workflow<Input = ()>>(cx: Cx<W>) -> Result<C::Output, ChildError<C::Error>> {
/// cx.child::<C>("delivery-42").tags(["express"]).on_parent_end(ParentEnd::Abandon).run(()).await
/// # }
/// ```
#[must_use = "a child does nothing until it is run"]
pub struct Child<W> {
    core: Arc<Core>,
    id: String,
    options: Options,
    workflow: PhantomData<fn() -> W>,
}

#[derive(Debug, Default)]
struct Options {
    tags: Vec<String>,
    replace: bool,
    use_existing: bool,
    on_parent_end: ParentEnd,
    retry: Option<Retry>,
}

impl<W: Workflow> Child<W> {
    pub(crate) fn new(core: Arc<Core>, id: String) -> Self {
        Self { core, id, options: Options::default(), workflow: PhantomData }
    }

    /// Labels to find the child by.
    pub fn tags<T: Into<String>>(mut self, tags: impl IntoIterator<Item = T>) -> Self {
        self.options.tags.extend(tags.into_iter().map(Into::into));
        self
    }

    /// Where an instance of the child's id exists already, ends it and starts anew; else the child fails with
    /// [`ChildError::Unknown`]. A child that an earlier run of this workflow's id has left is replaced in any case.
    pub fn replace_existing(mut self) -> Self {
        (self.options.replace, self.options.use_existing) = (true, false);
        self
    }

    /// Where an instance of the child's id exists already, running or ended, awaits the outcome of that one, whatever
    /// its input was. It is nobody's child by that: neither the end of this workflow nor its cancellation reaches an
    /// instance that it did not start. Up to 1,000 workflows may await one instance like this; the child of others
    /// fails with [`ChildError::Unknown`].
    pub fn use_existing(mut self) -> Self {
        (self.options.replace, self.options.use_existing) = (false, true);
        self
    }

    /// Sets the fate of the child when this workflow ends before it. [`ParentEnd::Cancel`] unless set.
    pub fn on_parent_end(mut self, policy: ParentEnd) -> Self {
        self.options.on_parent_end = policy;
        self
    }

    /// Tries the child again when it fails: this workflow gets the outcome of its last attempt. The policy of its
    /// `#[workflow]` unless set.
    pub fn retry(mut self, retry: Retry) -> Self {
        self.options.retry = Some(retry);
        self
    }

    /// Runs it: a lazy future of its outcome.
    pub fn run(self, input: W::Input) -> ChildRun<W> {
        let Self { core, id, options, .. } = self;
        let input = encode(&core, &id, &input);
        let request = Some(Request { id, input, options });
        ChildRun { leaf: Leaf::claim(&core), request, workflow: PhantomData }
    }

    /// Starts it now, to be awaited later.
    pub fn start(self, input: W::Input) -> ChildHandle<W> {
        self.run(input).start()
    }

    /// Starts it now and lets it go: this workflow neither awaits it nor cancels it.
    ///
    /// # Errors
    /// [`SendError`] at once, when the id cannot be that of an instance, or the input cannot be encoded or is too large
    /// for a message of the broker.
    pub fn detach(self, input: W::Input) -> Result<(), SendError> {
        let Self { core, id, options, .. } = self;
        let input = encode(&core, &id, &input)?;
        let what = format!("the input of {}/{id}", W::NAME);
        let send = |seq| started::<W>(seq, id, input, options, true);
        Ok(core.send(send).map_err(|too_large| PayloadError::too_large(what, too_large))?)
    }
}

fn encode<T: Serialize + DeserializeOwned>(core: &Core, id: &str, input: &T) -> Result<Payload, SendError> {
    core.check_id(id)?;
    Ok(Payload::encode(input)?)
}

fn started<W: Workflow>(seq: u32, id: String, input: Payload, options: Options, detached: bool) -> EventKind {
    let (workflow, Options { tags, replace, use_existing, on_parent_end, retry }) = (W::NAME.to_owned(), options);
    let end_channel = None;
    EventKind::ChildStarted {
        seq,
        workflow,
        id,
        input,
        detached,
        tags,
        replace,
        use_existing,
        on_parent_end,
        end_channel,
        retry,
    }
}

impl<W> fmt::Debug for Child<W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Child").field(&self.id).finish()
    }
}

/// The run of a child workflow: a lazy future of its outcome. Dropped before it has it, it cancels the child.
///
/// # Errors
/// Resolves to a [`ChildError`].
#[must_use = "a child does nothing until it is awaited or started"]
pub struct ChildRun<W> {
    leaf: Leaf,
    request: Option<Request>,
    workflow: PhantomData<fn() -> W>,
}

struct Request {
    id: String,
    input: Result<Payload, SendError>,
    options: Options,
}

impl<W: Workflow> ChildRun<W> {
    /// Starts the child now, to be awaited later. Dropping the handle does not cancel the child.
    pub fn start(mut self) -> ChildHandle<W> {
        self.issue();
        self.leaf.keep();
        ChildHandle(self)
    }

    fn issue(&mut self) {
        let Some(Request { id, input: Ok(input), options }) = self.request.take_if(|request| request.input.is_ok())
        else {
            return;
        };
        self.leaf.issue(SlotKind::Child, |seq, _| started::<W>(seq, id, input, options, false));
    }
}

impl<W: Workflow> Future for ChildRun<W> {
    type Output = Result<W::Output, ChildError<W::Error>>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.issue();
        if let Some(Request { id, input: Err(error), .. }) = &self.request {
            return Poll::Ready(Err(ChildError::Unknown(format!("{}/{id}: {error}", W::NAME))));
        }
        Poll::Ready(match ready!(self.leaf.poll(cx)) {
            Resolution::Value(payload) => {
                payload.decode().map_err(|error| ChildError::Unknown(self.leaf.unread(error.to_string())))
            }
            Resolution::Failed(failure) => {
                let is_typed = failure.kind == FailureKind::Application;
                Err(match (is_typed, (*failure).into()) {
                    (true, ChildError::Unknown(problem)) => ChildError::Unknown(self.leaf.unread(problem)),
                    (_, error) => error,
                })
            }
            Resolution::Fired | Resolution::Cancelled => Err(ChildError::Cancelled),
        })
    }
}

impl<W> fmt::Debug for ChildRun<W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ChildRun").field(&self.leaf).finish()
    }
}

/// A child that was started. Awaiting it gives its outcome. Dropping it leaves the child running, until this workflow
/// ends: what is open then is cancelled, unless it was [detached](ChildHandle::detach).
#[must_use = "drop it explicitly if the outcome does not matter"]
#[derive(Debug)]
pub struct ChildHandle<W>(ChildRun<W>);

impl<W: Workflow> ChildHandle<W> {
    /// Asks for the child's cancellation. The handle resolves with [`ChildError::Cancelled`], unless it has its outcome
    /// already.
    pub fn cancel(&self) {
        self.0.leaf.cancel(SlotKind::Child);
    }

    /// Lets the child outlive this workflow, which from now on neither awaits nor cancels it.
    ///
    /// # Errors
    /// [`SendError`] when the child was never started: its id cannot be that of an instance, or its input could not be
    /// encoded.
    pub fn detach(mut self) -> Result<(), SendError> {
        if let Some(Request { input: Err(error), .. }) = self.0.request.take() {
            return Err(error);
        }
        self.0.leaf.detach();
        Ok(())
    }
}

impl<W: Workflow> Future for ChildHandle<W> {
    type Output = Result<W::Output, ChildError<W::Error>>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.0).poll(cx)
    }
}
