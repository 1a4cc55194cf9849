//! The wait of a task for room under the limits of its worker.

use std::sync::atomic::Ordering;
use std::time::Duration;

use partitura_lanes::Outcome;
use tokio::time::sleep;

use super::call::Call;
use super::limits::{LONGEST, Permit, Turn};
use super::pulse::ASK;
use super::rates::Moment;
use super::runner::TaskRunner;
use crate::messaging::mailbox::Line;
use crate::shutdown::until;
use crate::wire::TaskRequest;
use crate::wire::ids::random;

/// A task that may begin.
pub(super) struct Admitted {
    pub(super) permit: Option<Permit>,
    /// It has waited for the end of a pause: its workflow may not want it any more.
    pub(super) was_paused: bool,
}

/// How often it is looked whether the broker has taken a copy.
const LOOK: Duration = Duration::from_millis(100);

impl TaskRunner {
    /// Waits until neither the service nor the method is paused, and then for room. `Err`: the task is to go back to
    /// the broker, for so long.
    pub(super) async fn admit(&self, request: &TaskRequest, line: &mut Line) -> Result<Admitted, Duration> {
        let was_paused = self.until_resumed(request, line).await?;
        let permit = self.room(request, line).await?;
        self.moments(request, line).await?;
        Ok(Admitted { permit, was_paused })
    }

    /// Waits for its moments under the rates that all processes keep together.
    async fn moments(&self, request: &TaskRequest, line: &mut Line) -> Result<(), Duration> {
        let Some((rates, named)) = self.limits.shared(self.service.name(), &request.method) else { return Ok(()) };
        for (name, per_second) in named {
            let wait = match rates.take(&name, per_second).await {
                Ok(Moment::In(wait)) => wait,
                Ok(Moment::Later(wait)) => return Err(wait.mul_f64(1.0 + 0.5 * random(&*self.ids))),
                Err(error) => {
                    tracing::warn!(%error, "asking the store again when a task of a rate across processes may begin");
                    return Err(ASK);
                }
            };
            tokio::select! {
                biased;
                () = until(self.shutdown.clone()) => return Err(Duration::ZERO),
                () = sleep(wait) => {}
                never = self.answer_askers(line) => match never {},
            }
        }
        Ok(())
    }

    async fn room(&self, request: &TaskRequest, line: &mut Line) -> Result<Option<Permit>, Duration> {
        let permit = match self.limits.enter(self.service.name(), &request.method, &request.args) {
            Turn::Now(permit) => return Ok(permit),
            // Not all at the same moment.
            Turn::Back(wait) => return Err(wait.mul_f64(1.0 - 0.5 * random(&*self.ids))),
            Turn::Wait(permit) => permit,
        };
        tokio::select! {
            biased;
            permit = permit => permit.map(Some).map_err(|_| ASK),
            () = until(self.shutdown.clone()) => Err(Duration::ZERO),
            () = sleep(LONGEST) => Err(ASK),
            never = self.answer_askers(line) => match never {},
        }
    }

    /// Sends the call back to the broker, to come again after a wait, here or elsewhere.
    pub(super) async fn put_back(&self, call: &Call, wait: Duration) -> Outcome {
        // Its time with this delivery is over, and a copy is being sent in its place.
        while !call.has_token() {
            if call.is_let_go.load(Ordering::Relaxed) {
                return Outcome::Done;
            }
            sleep(LOOK).await;
        }
        let copies = call.request.copies + 1;
        let request = TaskRequest { copies, ..(*call.request).clone() };
        self.replace(call, self.later(call, &request, self.clock.now_rounded_up() + wait)).await
    }
}
