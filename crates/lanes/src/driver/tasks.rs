use std::any::Any;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures::FutureExt;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::report::Report;
use crate::core::{LaneId, Start};
use crate::meter::Meter;
use crate::{Handler, Outcome};

/// The running handlers, one for each lane. Dropping this drops them.
#[derive(Debug)]
pub(super) struct Tasks {
    meter: Meter,
    /// By index of the lane. Of a lane at most one runs.
    handles: Vec<Option<JoinHandle<()>>>,
}

impl Tasks {
    pub(super) fn new(meter: Meter) -> Self {
        Self { meter, handles: Vec::new() }
    }

    pub(super) fn run<H: Handler>(
        &mut self,
        Start { lane, batch, given_up }: Start,
        handler: Arc<H>,
        report: mpsc::UnboundedSender<Report>,
    ) {
        let meter = self.meter.clone();
        // Handlers are large. Tokio would copy this one several times on its way into its task, and again when it ends.
        let task = tokio::spawn(Box::pin(async move {
            let begun = meter.begin();
            // The handler is not used again by this task, and is asked to stand on its own feet.
            let run = async {
                match given_up {
                    None => handler.handle(batch).await,
                    Some(reason) => handler.give_up(batch, reason).await,
                }
            };
            let outcome = AssertUnwindSafe(run).catch_unwind().await;
            let outcome = outcome.unwrap_or_else(|panic| Outcome::retry(format!("panicked: {}", text(&*panic))));
            meter.ended(begun, &outcome);
            // Without a receiver the lanes are gone, and the message will come again.
            let _ = report.send(Report::Finished { lane, outcome });
        }));
        let index = lane.index();
        if self.handles.len() <= index {
            self.handles.resize_with(index + 1, || None);
        }
        self.handles[index] = Some(task);
    }

    pub(super) fn ended(&mut self, lane: LaneId) {
        if let Some(handle) = self.handles.get_mut(lane.index()) {
            *handle = None;
        }
    }

    pub(super) fn abort(&mut self) {
        self.handles.drain(..).flatten().for_each(|handle| handle.abort());
    }
}

impl Drop for Tasks {
    fn drop(&mut self) {
        self.abort();
    }
}

fn text(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("without a message")
}
