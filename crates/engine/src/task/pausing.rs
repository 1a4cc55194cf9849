//! The wait of a task whose service or method is paused.

use std::time::Duration;

use tokio::time::sleep;

use super::runner::TaskRunner;
use crate::messaging::mailbox::Line;
use crate::shutdown::until;
use crate::storage::pauses::{Breadth, HEEDED_WITHIN};
use crate::wire::TaskRequest;
use crate::wire::ids::random;

/// After how long a task of a paused method comes again for which there is no place here. Not all come at once.
const AWAY: Duration = Duration::from_secs(60);

impl TaskRunner {
    /// Waits until neither the service nor the method is paused. Whether that took any time; `Err`: the task is to go
    /// back to the broker, for so long.
    ///
    /// All tasks of a paused service that this worker has got wait here: the others stay with the broker. Tasks of a
    /// paused method take up at most half of the places, and go back beyond that, so that other methods go on.
    pub(super) async fn until_resumed(&self, request: &TaskRequest, line: &mut Line) -> Result<bool, Duration> {
        let mut place = None;
        let mut was_paused = false;
        loop {
            match self.pauses.of_task(self.service.name(), &request.method).await {
                None => return Ok(was_paused),
                Some(Breadth::Service) => place = None,
                Some(Breadth::Method) if place.is_some() => {}
                Some(Breadth::Method) => match self.0.paused.try_acquire() {
                    Ok(permit) => place = Some(permit),
                    Err(_) => return Err(AWAY.mul_f64(1.0 - 0.5 * random(&*self.ids))),
                },
            }
            was_paused = true;
            tokio::select! {
                biased;
                () = until(self.shutdown.clone()) => return Err(Duration::ZERO),
                () = sleep(HEEDED_WITHIN) => {}
                never = self.answer_askers(line) => match never {},
            }
        }
    }
}
