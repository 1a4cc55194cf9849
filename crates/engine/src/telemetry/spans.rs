//! The spans of the engine, by OpenTelemetry's conventions for messaging: `{operation} {destination}`. None has a
//! payload.
//!
//! A span is of the target `partitura`, at the level INFO. Nothing is emitted while a history is replayed.

use tracing::field::Empty;
use tracing::{Dispatch, Span, dispatcher};

/// A client sends the start of an instance.
pub(crate) fn send(topic: &str, workflow: &str, id: &str, message_id: &str) -> Span {
    tracing::info_span!(
        target: "partitura",
        "send",
        otel.name = %format_args!("send {topic}"),
        otel.kind = "producer",
        messaging.operation.name = "send",
        messaging.operation.type = "send",
        messaging.destination.name = topic,
        messaging.message.id = message_id,
        partitura.workflow = workflow,
        partitura.id = id,
    )
}

/// A turn of an instance: from the moment at which its code goes on until the commit.
pub(crate) fn turn(topic: &str, (workflow, id, run): (&str, &str, &str), partition: u32, messages: usize) -> Span {
    tracing::info_span!(
        target: "partitura",
        "process",
        otel.name = %format_args!("process {topic}"),
        otel.kind = "consumer",
        messaging.operation.name = "process",
        messaging.operation.type = "process",
        messaging.destination.name = topic,
        messaging.destination.partition.id = partition,
        messaging.consumer.group.name = "workers",
        messaging.batch.message_count = messages,
        partitura.workflow = workflow,
        partitura.id = id,
        partitura.run = run,
        error.type = Empty,
    )
}

/// An attempt of a task.
pub(crate) fn task(topic: &str, (service, method): (&str, &str), attempt: u32, message_id: &str) -> Span {
    tracing::info_span!(
        target: "partitura",
        "process",
        otel.name = %format_args!("process {topic}"),
        otel.kind = "consumer",
        otel.status_code = Empty,
        messaging.operation.name = "process",
        messaging.operation.type = "process",
        messaging.destination.name = topic,
        messaging.consumer.group.name = "workers",
        messaging.message.id = message_id,
        partitura.service = service,
        partitura.method = method,
        partitura.attempt = attempt,
        error.type = Empty,
    )
}

/// An attempt has failed.
pub(crate) fn failed(span: &Span, error: &'static str) {
    span.record("error.type", error);
    span.record("otel.status_code", "ERROR");
}

/// Runs code that has run before: what it logs was logged then.
pub(crate) fn silently<T>(code: impl FnOnce() -> T) -> T {
    dispatcher::with_default(&Dispatch::none(), code)
}
