//! Events for anybody who wants to know: CloudEvents 1.0 in JSON, on the event topics.

use std::borrow::Cow;
use std::sync::Arc;

use bytes::Bytes;
use partitura_broker::{Broker, Message, Timestamp, TopicName};
use partitura_workflow::{Event, EventKind, Failure, Payload};
use serde::{Deserialize, Serialize};

use crate::wire::names::InstanceKey;
use crate::wire::shorten::{shorten_failure, shortened};
use crate::wire::{Payloads, TaskRequest};

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
    /// An extension attribute: with its payloads the event is too large for the broker, so they are left out (`null`),
    /// and long texts are cut. An instance's history has all of it.
    #[serde(default, rename = "partituratruncated", skip_serializing_if = "std::ops::Not::not")]
    pub truncated: bool,
    /// The event.
    pub data: T,
}

/// An event of a task: the data of the events of a service.
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
    /// The result of the method.
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
    pub(crate) name: Address,
    broker: Arc<dyn Broker>,
    wanted: bool,
}

/// Where events are published, and how large they may be there.
#[derive(Debug, Clone)]
pub(crate) struct Address {
    topic: TopicName,
    limit: usize,
    payloads: Payloads,
}

impl EventTopic {
    pub(crate) fn new(broker: &Arc<dyn Broker>, payloads: &Payloads, name: TopicName, wanted: bool) -> Self {
        let (limit, payloads) = (broker.capabilities().limits.payload, payloads.clone());
        Self { name: Address { topic: name, limit, payloads }, broker: broker.clone(), wanted }
    }

    /// Whether an event is worth building.
    pub(crate) fn is_heard(&self) -> bool {
        self.wanted && self.broker.has_subscribers(&self.name.topic)
    }
}

/// An event that is too large is published without its payloads: no event may keep a turn from being committed.
fn message<T: Serialize>(address: &Address, mut event: CloudEvent<T>, shorten: impl FnOnce(&mut T)) -> Message {
    let key = Bytes::copy_from_slice(event.subject.as_bytes());
    let mut payload = address.payloads.encode(&event);
    if payload.len() > address.limit {
        event.truncated = true;
        shorten(&mut event.data);
        payload = address.payloads.encode(&event);
    }
    Message::new(address.topic.clone(), event.id, payload)
        .key(key)
        .header("content-type", "application/cloudevents+json")
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
        truncated: false,
        data,
    }
}

/// The event of one entry of a history. `index` counts inside the turn.
pub(crate) fn of_workflow(
    topic: &Address,
    key: &InstanceKey,
    (run, turn, index): (&str, u32, usize),
    event: &Event,
) -> Message {
    let kind = format!("partitura.workflow.{}", name_of(&event.kind));
    let source = format!("/workflows/{}", key.workflow);
    let id = format!("{run}.{turn}.{index}");
    let envelope = envelope(id, source, kind, key.to_string(), event.at, Cow::Borrowed(&event.kind));
    message(topic, envelope, |kind| *kind = Cow::Owned(shortened(kind)))
}

/// The event of a task's attempt; `what` is `started`, `completed`, `failed` or `retried`.
pub(crate) fn of_task(topic: &Address, request: &TaskRequest, what: &str, now: Timestamp, data: TaskEvent) -> Message {
    let source = format!("/services/{}", request.service);
    let id = format!("{}.{what}", request.message_id());
    let subject = format!("{}/{}", request.workflow, request.id);
    let at = now.as_millis();
    let envelope = envelope(id, source, format!("partitura.task.{what}"), subject, at, data);
    message(topic, envelope, |data| {
        data.result = None;
        data.failure.iter_mut().for_each(shorten_failure);
    })
}

fn name_of(kind: &EventKind) -> &'static str {
    match kind {
        EventKind::WorkflowStarted(_) => "WorkflowStarted",
        EventKind::SignalReceived { .. } => "SignalReceived",
        EventKind::UpdateReceived { .. } => "UpdateReceived",
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
        EventKind::WorkflowPaused { .. } => "WorkflowPaused",
        EventKind::Intervened { .. } => "Intervened",
        EventKind::TaskScheduled { .. } => "TaskScheduled",
        EventKind::TaskCancelRequested { .. } => "TaskCancelRequested",
        EventKind::Detached { .. } => "Detached",
        EventKind::TimerStarted { .. } => "TimerStarted",
        EventKind::TimerCancelled { .. } => "TimerCancelled",
        EventKind::ChildStarted { .. } => "ChildStarted",
        EventKind::ChildCancelRequested { .. } => "ChildCancelRequested",
        EventKind::StepScheduled { .. } => "StepScheduled",
        EventKind::SignalSent { .. } => "SignalSent",
        EventKind::UpdateCompleted { .. } => "UpdateCompleted",
        EventKind::UpdateFailed { .. } => "UpdateFailed",
        EventKind::EndRequested { .. } => "EndRequested",
        EventKind::SendRefused { .. } => "SendRefused",
        EventKind::VersionMarked { .. } => "VersionMarked",
        EventKind::AttributeSet { .. } => "AttributeSet",
        EventKind::WorkflowCompleted { .. } => "WorkflowCompleted",
        EventKind::WorkflowFailed { .. } => "WorkflowFailed",
        EventKind::WorkflowCancelled { .. } => "WorkflowCancelled",
        EventKind::WorkflowContinued { .. } => "WorkflowContinued",
        EventKind::WorkflowRetried { .. } => "WorkflowRetried",
    }
}
