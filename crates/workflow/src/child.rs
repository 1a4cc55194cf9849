use std::fmt;
use std::future::Future;
use std::marker::PhantomData;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use crate::core::{Core, Leaf, Resolution, SlotKind};
use crate::{ChildError, EventKind, Payload, PayloadError, Workflow};

/// A workflow `W` to be run under this one, by its id. See [`Cx::child`](crate::Cx::child).
#[must_use = "a child does nothing until it is run"]
pub struct Child<W> {
    core: Arc<Core>,
    id: String,
    workflow: PhantomData<fn() -> W>,
}

impl<W: Workflow> Child<W> {
    pub(crate) fn new(core: Arc<Core>, id: String) -> Self {
        Self { core, id, workflow: PhantomData }
    }

    /// Runs it: a lazy future of its outcome.
    pub fn run(self, input: W::Input) -> ChildRun<W> {
        let request = Some(Request { id: self.id, input: Payload::encode(&input) });
        ChildRun { leaf: Leaf::claim(&self.core), request, workflow: PhantomData }
    }

    /// Starts it now, to be awaited later.
    pub fn start(self, input: W::Input) -> ChildHandle<W> {
        self.run(input).start()
    }

    /// Starts it now and lets it go: this workflow neither awaits it nor cancels it.
    ///
    /// # Panics
    /// When the input cannot be encoded.
    pub fn detach(self, input: W::Input) {
        let input = match Payload::encode(&input) {
            Ok(input) => input,
            Err(error) => panic!("the input of {}/{}: {error}", W::NAME, self.id),
        };
        let mut state = self.core.enter();
        let seq = state.claim_done();
        let workflow = W::NAME.to_owned();
        state.issue(EventKind::ChildStarted { seq, workflow, id: self.id, input, detached: true });
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
    input: Result<Payload, PayloadError>,
}

impl<W: Workflow> ChildRun<W> {
    /// Starts the child now, to be awaited later. Dropping the handle does not cancel the child.
    pub fn start(mut self) -> ChildHandle<W> {
        self.issue();
        self.leaf.keep();
        ChildHandle(self)
    }

    fn issue(&mut self) {
        let Some(Request { id, input: Ok(input) }) = self.request.take_if(|request| request.input.is_ok()) else {
            return;
        };
        let workflow = W::NAME.to_owned();
        self.leaf.issue(SlotKind::Child, |seq, _| EventKind::ChildStarted {
            seq,
            workflow,
            id,
            input,
            detached: false,
        });
    }
}

impl<W: Workflow> Future for ChildRun<W> {
    type Output = Result<W::Output, ChildError<W::Error>>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.issue();
        if let Some(Request { id, input: Err(error) }) = &self.request {
            return Poll::Ready(Err(ChildError::Unknown(format!("{}/{id}: {error}", W::NAME))));
        }
        Poll::Ready(match ready!(self.leaf.poll(cx)) {
            Resolution::Value(payload) => payload.decode().map_err(|error| ChildError::Unknown(error.to_string())),
            Resolution::Failed(failure) => Err((*failure).into()),
            Resolution::Fired | Resolution::Cancelled => Err(ChildError::Cancelled),
        })
    }
}

impl<W> fmt::Debug for ChildRun<W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ChildRun").field(&self.leaf).finish()
    }
}

/// A child that was started. Awaiting it gives its outcome. Dropping it leaves the child running, until this workflow ends: what is
/// open then is cancelled, unless it was [detached](ChildHandle::detach).
#[must_use = "drop it explicitly if the outcome does not matter"]
#[derive(Debug)]
pub struct ChildHandle<W>(ChildRun<W>);

impl<W: Workflow> ChildHandle<W> {
    /// Asks for the child's cancellation. The handle resolves with [`ChildError::Cancelled`], unless it has its outcome already.
    pub fn cancel(&self) {
        self.0.leaf.cancel(SlotKind::Child);
    }

    /// Lets the child outlive this workflow, which from now on neither awaits nor cancels it.
    ///
    /// # Panics
    /// When the input could not be encoded.
    pub fn detach(self) {
        if let Some(Request { id, input: Err(error) }) = &self.0.request {
            panic!("the input of {}/{id}: {error}", W::NAME);
        }
        self.0.leaf.detach();
    }
}

impl<W: Workflow> Future for ChildHandle<W> {
    type Output = Result<W::Output, ChildError<W::Error>>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.0).poll(cx)
    }
}
