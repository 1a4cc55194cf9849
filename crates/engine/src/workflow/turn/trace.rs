//! The place of a turn in a trace.

use partitura_broker::Delivery;
use partitura_workflow::TraceContext;
use tracing::Span;

use crate::telemetry::propagator;

/// The span of a turn, once there is one, and what it was begun by.
#[derive(Debug, Default)]
pub(crate) struct TurnTrace {
    span: Option<Span>,
    /// The context of the first message.
    input: Option<TraceContext>,
    partition: u32,
    messages: usize,
}

impl TurnTrace {
    /// The turn is about these messages.
    pub(crate) fn from_deliveries(deliveries: &[Delivery]) -> Self {
        let first = deliveries.first();
        Self {
            span: None,
            input: first.and_then(|delivery| propagator::carried(&delivery.message)),
            partition: first.map_or(0, |delivery| delivery.partition.0),
            messages: deliveries.len(),
        }
    }

    /// The context of the first message.
    pub(super) fn input(&self) -> Option<&TraceContext> {
        self.input.as_ref()
    }

    pub(super) fn partition(&self) -> u32 {
        self.partition
    }

    /// How many messages the turn is about.
    pub(super) fn messages(&self) -> usize {
        self.messages
    }

    /// The span, if it has begun.
    pub(super) fn begun(&self) -> Option<Span> {
        self.span.clone()
    }

    pub(super) fn begin(&mut self, span: Span) {
        self.span = Some(span);
    }

    /// The span, if something has happened in the turn.
    pub(crate) fn span(&self) -> Span {
        self.span.clone().unwrap_or_else(Span::none)
    }
}
