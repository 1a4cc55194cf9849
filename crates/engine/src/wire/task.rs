//! A task on its way to a worker.

use partitura_broker::{Message, TopicName};
use partitura_workflow::{Event, EventKind, Payload, TaskOptions, TraceContext};
use serde::{Deserialize, Serialize};

use crate::telemetry::propagator::carry;
use crate::wire::names::InstanceKey;
use crate::wire::token::TaskToken;
use crate::wire::{Payloads, ReplyTo};

/// A task for a worker of a service.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct TaskRequest {
    pub(crate) workflow: String,
    pub(crate) id: String,
    pub(crate) run: String,
    pub(crate) seq: u32,
    pub(crate) service: String,
    pub(crate) method: String,
    pub(crate) args: Payload,
    #[serde(default, skip_serializing_if = "TaskOptions::is_default")]
    pub(crate) options: TaskOptions,
    /// From 1.
    pub(crate) attempt: u32,
    /// When the workflow asked for it, in milliseconds since the Unix epoch.
    pub(crate) scheduled_at: u64,
    /// The details of the last heartbeat of an earlier attempt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) heartbeat: Option<Payload>,
    /// It outlives its workflow: it is wanted whatever becomes of that.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) detached: bool,
    /// The inbox at which a worker without a store may ask for the time: that of the worker that scheduled the task.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) time_at: Option<String>,
    /// The process that ran this attempt when this copy of it was sent. The copy is for the case that it does not any
    /// more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) holder: Option<ReplyTo>,
    /// When the attempt begins, in milliseconds since the Unix epoch, if that is later than the broker can delay it: it
    /// is sent on until then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) begins_at: Option<u64>,
    /// How many copies of the attempt were sent before this one.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub(crate) copies: u32,
    /// Where it stands in a trace: all its attempts at the same place.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) trace: Option<TraceContext>,
}

fn is_zero(number: &u32) -> bool {
    *number == 0
}

impl TaskRequest {
    /// The first attempt of a task that was scheduled; `None` of any other event.
    pub(crate) fn first(key: &InstanceKey, run: &str, event: &Event) -> Option<Self> {
        let EventKind::TaskScheduled { seq, service, method, args, options } = &event.kind else { return None };
        Some(Self {
            workflow: key.workflow.to_string(),
            id: key.id.to_string(),
            run: run.to_owned(),
            seq: *seq,
            service: service.clone(),
            method: method.clone(),
            args: args.clone(),
            options: options.clone(),
            attempt: 1,
            scheduled_at: event.at,
            heartbeat: None,
            detached: false,
            time_at: None,
            holder: None,
            begins_at: None,
            copies: 0,
            trace: None,
        })
    }

    /// Whether the owner of its instance is told that an attempt begins.
    pub(crate) fn is_announced(&self) -> bool {
        self.options.heartbeat_timeout.is_some() || self.options.start_timeout.is_some()
    }

    /// The same for every attempt: what an outside system deduplicates by.
    pub(crate) fn idempotency_key(&self) -> String {
        format!("{}.{}", self.run, self.seq)
    }

    /// By which this attempt is completed from outside.
    pub(crate) fn token(&self) -> TaskToken {
        let (workflow, id, run) = (self.workflow.clone(), self.id.clone(), self.run.clone());
        TaskToken { workflow, id, run, seq: self.seq, attempt: self.attempt }
    }

    /// The message that carries this attempt.
    pub(crate) fn message(&self, payloads: &Payloads, topic: TopicName) -> Message {
        let mut message = Message::new(topic, self.message_id(), payloads.encode(self));
        carry(&mut message, self.trace.as_ref());
        message
    }

    /// The id of the message that carries this attempt.
    pub(crate) fn message_id(&self) -> String {
        format!("{}.{}.{}", self.run, self.seq, self.attempt)
    }
}
