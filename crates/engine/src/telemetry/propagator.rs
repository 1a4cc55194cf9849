//! The link between spans and a tracing system.

use std::fmt;
use std::sync::Arc;

use partitura_broker::Message;
use partitura_workflow::TraceContext;
use tracing::Span;

/// The header of a message with its place in a trace, and the one with what tracing systems add.
const PARENT: &str = "traceparent";
const STATE: &str = "tracestate";

/// Links the spans of `tracing` to a tracing system, so that a trace goes on in another process, and after months.
///
/// The engine carries contexts in the headers of messages and in the history of each instance; this gives them to
/// spans, and takes them from spans. The crate `partitura-opentelemetry` has the one for OpenTelemetry. Without one,
/// [contexts that a start is given](crate::Start::trace) are carried all the same.
///
/// All methods are called often, must return at once, and must not panic.
pub trait Propagator: fmt::Debug + Send + Sync + 'static {
    /// The context of a span, if it is part of a trace.
    fn context_of(&self, span: &Span) -> Option<TraceContext>;

    /// Makes a new span, which was not entered yet, the child of a context.
    fn set_parent(&self, span: &Span, parent: &TraceContext);

    /// Links a new span to a context that is not its parent.
    fn add_link(&self, span: &Span, to: &TraceContext);
}

/// The propagator of a connection, if it has one. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(crate) struct Propagation(Option<Arc<dyn Propagator>>);

impl Propagation {
    pub(crate) fn new(propagator: Arc<dyn Propagator>) -> Self {
        Self(Some(propagator))
    }

    /// The context of a span. `None`: it is part of no trace.
    pub(crate) fn context_of(&self, span: &Span) -> Option<TraceContext> {
        self.0.as_ref()?.context_of(span)
    }

    /// Places a new span: below `parent`, with a link to `input` if that is something else.
    pub(crate) fn place(&self, span: &Span, parent: Option<&TraceContext>, input: Option<&TraceContext>) {
        let Some(propagator) = self.0.as_ref().filter(|_| !span.is_disabled()) else { return };
        if let Some(parent) = parent.or(input) {
            propagator.set_parent(span, parent);
        }
        if let (Some(parent), Some(input)) = (parent, input)
            && parent != input
        {
            propagator.add_link(span, input);
        }
    }
}

/// The context that a message carries.
pub(crate) fn carried(message: &Message) -> Option<TraceContext> {
    TraceContext::parse(message.headers.get_str(PARENT)?, message.headers.get_str(STATE))
}

/// Has a message carry a context, in place of the one that it may carry.
pub(crate) fn carry(message: &mut Message, context: Option<&TraceContext>) {
    let Some(context) = context else { return };
    message.headers.insert(PARENT, context.parent().to_owned());
    match context.state() {
        Some(state) => message.headers.insert(STATE, state.to_owned()),
        None => message.headers.remove(STATE),
    }
}
