//! What happened, for anybody who wants to know: CloudEvents 1.0 in JSON, on the event topics.

use std::sync::Arc;

use bytes::Bytes;
use partitura_broker::{Broker, Message, Timestamp, TopicName};
use partitura_workflow::{Event, EventKind, Failure, Payload};
use serde::{Deserialize, Serialize};

use crate::names::InstanceKey;
use crate::wire::{self, TaskRequest};

/// A CloudEvent, as it is published on `workflow.NAME.events` and `service.NAME.events`.
///
/// Source: the CloudEvents 1.0.2 specification, JSON event format in structured mode.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct CloudEvent<T> {
    /// `1.0`.
    pub specversion: String,
    /// Unique, and the same when the event is published again.
    pub id: String,
    /// `/workflows/NAME` or `/services/NAME`.
    pub source: String,
    /// `partitura.workflow.TaskScheduled`, `partitura.task.completed`, …
    #[serde(rename = "type")]
    pub kind: String,
    /// `WORKFLOW/ID` of the instance concerned.
    pub subject: String,
    /// RFC 3339, in UTC.
    pub time: String,
    /// `application/json`.
    pub datacontenttype: String,
    /// What happened.
    pub data: T,
}

/// What happened to a task: the data of the events of a service.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct TaskEvent {
    /// The service's name.
    pub service: String,
    /// The method's name.
    pub method: String,
    /// Stable over all attempts.
    pub idempotency_key: String,
    /// From 1.
    pub attempt: u32,
    /// What the method returned.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result: Option<Payload>,
    /// How the attempt failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<Failure>,
    /// When it is tried again, in milliseconds since the Unix epoch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_at: Option<u64>,
}

/// The event topic of a workflow or service, and whether events are wanted there.
#[derive(Debug, Clone)]
pub(crate) struct EventTopic {
    pub(crate) name: TopicName,
    broker: Arc<dyn Broker>,
    wanted: bool,
}

impl EventTopic {
    pub(crate) fn new(broker: &Arc<dyn Broker>, name: TopicName, wanted: bool) -> Self {
        Self { name, broker: broker.clone(), wanted }
    }

    /// Whether an event is worth building.
    pub(crate) fn is_heard(&self) -> bool {
        self.wanted && self.broker.has_audience(&self.name)
    }
}

fn message<T: Serialize>(topic: &TopicName, event: CloudEvent<T>) -> Message {
    let key = Bytes::copy_from_slice(event.subject.as_bytes());
    let payload = wire::encode(&event);
    Message::new(topic.clone(), event.id, payload).key(key).header("content-type", "application/cloudevents+json")
}

fn envelope<T>(id: String, source: String, kind: String, subject: String, at: u64, data: T) -> CloudEvent<T> {
    let time = i64::try_from(at).ok().and_then(|at| jiff::Timestamp::from_millisecond(at).ok());
    CloudEvent {
        specversion: "1.0".into(),
        id,
        source,
        kind,
        subject,
        time: time.map(|time| time.to_string()).unwrap_or_default(),
        datacontenttype: "application/json".into(),
        data,
    }
}

/// The event of one entry of a history. `index` counts inside the turn.
pub(crate) fn of_workflow(
    topic: &TopicName,
    key: &InstanceKey,
    (run, turn, index): (&str, u32, usize),
    event: &Event,
) -> Message {
    let kind = format!("partitura.workflow.{}", name_of(&event.kind));
    let source = format!("/workflows/{}", key.workflow);
    let id = format!("{run}.{turn}.{index}");
    message(topic, envelope(id, source, kind, key.to_string(), event.at, &event.kind))
}

/// The event of a task's attempt; `what` is `started`, `completed`, `failed` or `retried`.
pub(crate) fn of_task(
    topic: &TopicName,
    request: &TaskRequest,
    what: &str,
    now: Timestamp,
    data: TaskEvent,
) -> Message {
    let source = format!("/services/{}", request.service);
    let id = format!("{}.{what}", request.message_id());
    let subject = format!("{}/{}", request.workflow, request.id);
    let at = now.as_millis();
    message(topic, envelope(id, source, format!("partitura.task.{what}"), subject, at, data))
}

fn name_of(kind: &EventKind) -> &'static str {
    match kind {
        EventKind::WorkflowStarted(_) => "WorkflowStarted",
        EventKind::SignalReceived { .. } => "SignalReceived",
        EventKind::CancelRequested { .. } => "CancelRequested",
        EventKind::TaskCompleted { .. } => "TaskCompleted",
        EventKind::TaskFailed { .. } => "TaskFailed",
        EventKind::TaskHeartbeat { .. } => "TaskHeartbeat",
        EventKind::TimerFired { .. } => "TimerFired",
        EventKind::ChildCompleted { .. } => "ChildCompleted",
        EventKind::ChildFailed { .. } => "ChildFailed",
        EventKind::StepCompleted { .. } => "StepCompleted",
        EventKind::StepFailed { .. } => "StepFailed",
        EventKind::WorkflowStopped { .. } => "WorkflowStopped",
        EventKind::WorkflowResumed { .. } => "WorkflowResumed",
        EventKind::TaskScheduled { .. } => "TaskScheduled",
        EventKind::TaskCancelRequested { .. } => "TaskCancelRequested",
        EventKind::Detached { .. } => "Detached",
        EventKind::TimerStarted { .. } => "TimerStarted",
        EventKind::TimerCancelled { .. } => "TimerCancelled",
        EventKind::ChildStarted { .. } => "ChildStarted",
        EventKind::ChildCancelRequested { .. } => "ChildCancelRequested",
        EventKind::StepScheduled { .. } => "StepScheduled",
        EventKind::SignalSent { .. } => "SignalSent",
        EventKind::VersionMarked { .. } => "VersionMarked",
        EventKind::WorkflowCompleted { .. } => "WorkflowCompleted",
        EventKind::WorkflowFailed { .. } => "WorkflowFailed",
        EventKind::WorkflowCancelled { .. } => "WorkflowCancelled",
    }
}
