//! Gives a turn its place in a trace.

use partitura_workflow::TraceContext;
use tracing::Span;

use super::Turn;
use crate::telemetry::spans;
use crate::workflow::instance::Instance;

impl Turn<'_> {
    /// The span of the turn. It begins when the instance is loaded: a replay is no part of it.
    pub(super) fn span(&mut self) -> Span {
        if let Some(span) = self.trace.begun() {
            return span;
        }
        let started = match &self.instance {
            Instance::Live(live) => live.execution.started().trace.clone(),
            _ => None,
        };
        self.span_below(started.as_ref())
    }

    /// As [`span`](Self::span), of an instance whose start has this context.
    pub(super) fn span_below(&mut self, started: Option<&TraceContext>) -> Span {
        if let Some(span) = self.trace.begun() {
            return span;
        }
        let run = self.summary().map(|summary| summary.run.as_str()).unwrap_or_default();
        let (key, topic) = (self.key, self.context.topics.commands.as_str());
        let span = spans::turn(topic, (&key.workflow, &key.id, run), self.trace.partition(), self.trace.messages());
        self.context.propagation.place(&span, started, self.trace.input());
        self.trace.begin(span.clone());
        span
    }

    /// The context that the turn's messages carry: that of its span, else that of the instance's start, else that of
    /// its input.
    pub(super) fn outgoing(&mut self) -> Option<TraceContext> {
        let span = self.span();
        let started = match &self.instance {
            Instance::Live(live) => live.execution.started().trace.as_ref(),
            _ => None,
        };
        let carried = started.or(self.trace.input());
        self.context.propagation.context_of(&span).or_else(|| carried.cloned())
    }
}
