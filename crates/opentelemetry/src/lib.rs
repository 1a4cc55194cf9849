//! Links Partitura's spans to OpenTelemetry: a trace goes on in other processes, after retries, restarts and months.
//!
//! The program sets up `tracing-opentelemetry` as it does for its other spans, and gives [`Link`] to its connections:
//!
//! ```no_run
//! # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use std::sync::Arc;
//!
//! let partitura =
//!     partitura::connect("nats://localhost").with(|builder| builder.propagator(Arc::new(partitura_opentelemetry::Link))).await?;
//! # Ok(()) }
//! ```
//!
//! The spans and their fields are told in the guide *Operating*.

use opentelemetry::trace::{SpanContext, SpanId, TraceContextExt, TraceFlags, TraceId, TraceState};
use partitura_engine::Propagator;
use partitura_workflow::TraceContext;
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt;

/// The link to OpenTelemetry, for [`Builder::propagator`](partitura_engine::Builder::propagator).
#[derive(Debug, Clone, Copy, Default)]
pub struct Link;

impl Propagator for Link {
    fn context_of(&self, span: &Span) -> Option<TraceContext> {
        let context = span.context();
        let place = context.span().span_context().clone();
        let (trace, id, flags) = (place.trace_id(), place.span_id(), place.trace_flags().to_u8());
        let state = place.trace_state().header();
        place.is_valid().then(|| TraceContext::parse(&format!("00-{trace}-{id}-{flags:02x}"), Some(&state)))?
    }

    fn set_parent(&self, span: &Span, parent: &TraceContext) {
        // A span that no layer of OpenTelemetry listens to has no parent.
        let _ =
            read(parent).map(|parent| span.set_parent(opentelemetry::Context::new().with_remote_span_context(parent)));
    }

    fn add_link(&self, span: &Span, to: &TraceContext) {
        if let Some(to) = read(to) {
            span.add_link(to);
        }
    }
}

/// The context as OpenTelemetry has it.
fn read(context: &TraceContext) -> Option<SpanContext> {
    let mut fields = context.parent().split('-').skip(1);
    let trace = TraceId::from_hex(fields.next()?).ok()?;
    let span = SpanId::from_hex(fields.next()?).ok()?;
    let flags = u8::from_str_radix(fields.next()?, 16).ok()?;
    let state = context.state().and_then(|state| state.parse::<TraceState>().ok()).unwrap_or_default();
    Some(SpanContext::new(trace, span, TraceFlags::new(flags), true, state))
}
