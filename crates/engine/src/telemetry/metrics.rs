//! The metrics of the engine. Without the feature `metrics` there are none: these functions are empty.
//!
//! Labels are names of workflows, services and methods, and words of a short list. An id is never a label.
#![cfg_attr(not(feature = "metrics"), allow(dead_code, unused_variables))]

use std::sync::Arc;
use std::time::Duration;
#[cfg(feature = "metrics")]
use std::time::Instant;

#[cfg(feature = "metrics")]
use ::metrics::{counter, gauge, histogram};
use partitura_workflow::FailureKind;

/// Measures how long something takes. Without the feature `metrics` it asks no clock.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Stopwatch {
    #[cfg(feature = "metrics")]
    since: Instant,
}

impl Stopwatch {
    pub(crate) fn start() -> Self {
        Self {
            #[cfg(feature = "metrics")]
            since: Instant::now(),
        }
    }

    #[cfg(feature = "metrics")]
    fn seconds(self) -> f64 {
        self.since.elapsed().as_secs_f64()
    }
}

/// A part of a turn.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Phase {
    /// Reads the instance, and replays it.
    Load,
    /// Applies the commands, with what was loaded for them.
    Advance,
    /// Writes and sends.
    Commit,
}

/// A part of a turn is over.
pub(crate) fn turn(phase: Phase, watch: Stopwatch) {
    #[cfg(feature = "metrics")]
    {
        let phase = match phase {
            Phase::Load => "load",
            Phase::Advance => "advance",
            Phase::Commit => "commit",
        };
        histogram!("partitura_turn_duration_seconds", "phase" => phase).record(watch.seconds());
    }
}

/// A history was replayed.
pub(crate) fn replayed(events: usize, watch: Stopwatch) {
    #[cfg(feature = "metrics")]
    {
        histogram!("partitura_replay_duration_seconds").record(watch.seconds());
        histogram!("partitura_replay_events").record(events as f64);
    }
}

/// A turn found its instance in memory, or did not.
pub(crate) fn cache(is_hit: bool) {
    #[cfg(feature = "metrics")]
    if is_hit {
        counter!("partitura_cache_hits_total").increment(1);
    } else {
        counter!("partitura_cache_misses_total").increment(1);
    }
}

/// The store, or the broker's transaction, has answered to a commit.
pub(crate) fn committed(is_ok: bool, watch: Stopwatch) {
    #[cfg(feature = "metrics")]
    histogram!("partitura_store_commit_seconds", "outcome" => if is_ok { "ok" } else { "error" })
        .record(watch.seconds());
}

/// Counts the instances that a turn has started, stopped and ended: without a result where there is a failure.
pub(crate) fn instances(
    workflow: &Arc<str>,
    (started, stopped): (u64, u64),
    ends: impl Iterator<Item = Option<FailureKind>>,
) {
    #[cfg(feature = "metrics")]
    {
        if started > 0 {
            counter!("partitura_instances_started_total", "workflow" => workflow.clone()).increment(started);
        }
        if stopped > 0 {
            counter!("partitura_instances_stopped_total", "workflow" => workflow.clone()).increment(stopped);
        }
        for failure in ends {
            let outcome = match failure {
                None => "completed",
                Some(FailureKind::Cancelled) => "cancelled",
                Some(FailureKind::Terminated) => "terminated",
                Some(FailureKind::TimedOut) => "timed_out",
                Some(_) => "failed",
            };
            counter!("partitura_instances_closed_total", "workflow" => workflow.clone(), "outcome" => outcome)
                .increment(1);
        }
    }
}

/// An attempt of a task begins, so long after it could.
pub(crate) fn task_begins((service, method): (&str, &str), waited: Duration) {
    #[cfg(feature = "metrics")]
    histogram!(
        "partitura_task_schedule_to_start_seconds",
        "service" => service.to_owned(),
        "method" => method.to_owned()
    )
    .record(waited.as_secs_f64());
}

/// An attempt of a task has ended.
pub(crate) fn task_ran((service, method): (&str, &str), outcome: &'static str, watch: Stopwatch) {
    #[cfg(feature = "metrics")]
    histogram!(
        "partitura_task_run_seconds",
        "service" => service.to_owned(),
        "method" => method.to_owned(),
        "outcome" => outcome
    )
    .record(watch.seconds());
}

/// A task has no attempt left.
pub(crate) fn task_died(topic: &str) {
    #[cfg(feature = "metrics")]
    counter!(
        "partitura_dead_letters_total",
        "messaging_destination_name" => topic.to_owned(),
        "reason" => "attempts"
    )
    .increment(1);
}

/// A timer fires, so long after its moment.
pub(crate) fn timer_fires(late: Duration) {
    #[cfg(feature = "metrics")]
    histogram!("partitura_timer_lateness_seconds").record(late.as_secs_f64());
}

/// The clock of this machine was compared with that of the deployment, which is so much later.
pub(crate) fn clock_compared(offset_ms: i64) {
    #[cfg(feature = "metrics")]
    gauge!("partitura_clock_offset_seconds").set(offset_ms as f64 / 1_000.0);
}
