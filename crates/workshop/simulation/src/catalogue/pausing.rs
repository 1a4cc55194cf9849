//! An operator who pauses workflows, the service and its methods, and resumes them.

use std::time::Duration;

use partitura::{Client, Pausable};
use tokio::time::sleep;

use crate::service::PlayerStub;
use crate::world::World;

/// Pauses something now and then, and resumes it after a while, until the faults of the world end.
pub(crate) async fn pauser(world: World, client: Client) {
    loop {
        let (rest, lasts, what) = {
            let mut state = world.lock();
            let Some(interval) = state.plan.pauses.filter(|_| state.chaos) else { return };
            let workflows: Vec<&str> = state.workflows.iter().copied().collect();
            let (player, workflow) = (Pausable::service::<PlayerStub>(), state.random.pick(&workflows).to_owned());
            let what = [Pausable::Workflow(workflow), player, Pausable::method::<PlayerStub>("play")];
            let which = state.random.below(what.len() as u64) as usize;
            let rest = state.random.between(1, 2 * interval);
            (rest, state.random.between(1, 4_000), what[which].clone())
        };
        sleep(Duration::from_millis(rest)).await;
        let paused = client.pause(&what, "a look at it").await.map_err(|error| error.to_string());
        world.lock().note("pauser", format_args!("pauses {what}: {paused:?}"));
        sleep(Duration::from_millis(lasts)).await;
        // It may be paused though the answer was lost.
        while let Err(error) = client.resume(&what).await {
            world.lock().note("pauser", format_args!("resumes {what} again: {error}"));
            sleep(Duration::from_millis(200)).await;
        }
        world.lock().note("pauser", format_args!("has resumed {what}"));
    }
}
