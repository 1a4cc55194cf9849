//! Schedules, on a real clock.

use partitura::{ActionEnd, Cancelled, ClientError, Cx, Filter, Status, seconds};

use crate::stage::Stage;
use crate::support::{eventually, soon};

/// Ends at once.
#[derive(Debug, Default)]
pub(crate) struct Beat;

#[partitura::workflow]
impl Beat {
    #[run]
    async fn run(_cx: Cx<Self>, beat: u32) -> Result<u32, Cancelled> {
        Ok(beat)
    }
}

pub(crate) async fn a_schedule_starts_each_time_once_up_to_its_limit(stage: Stage) {
    let partitura = stage.application().await;
    let worker = partitura.worker().workflow::<Beat>().schedules().start().await.expect("a worker");
    let (client, second) = (partitura.client(), partitura.client().schedule("second"));
    second.every(seconds(1)).at_most(2).tag("beat").start::<Beat>(7).await.expect("started");
    let found = eventually(async || {
        let found = second.describe().await.ok()?;
        (found.recent.len() == 2).then_some(found)
    })
    .await;
    assert_eq!((found.started, found.remaining, found.running.len()), (2, Some(0), 0));
    assert!(found.recent.iter().all(|start| start.end == Some(ActionEnd::Completed)), "{found:?}");
    let beats = soon(client.list::<Beat>(Filter::first(9).tag("beat"))).await.expect("listed");
    assert_eq!(beats.len(), 2);
    for (beat, start) in beats.iter().zip(&found.recent) {
        assert_eq!((&beat.id, &beat.status), (&start.id, &Status::Completed));
        assert_eq!(start.nominal.expect("a time").as_millisecond() % 1_000, 0);
    }
    soon(second.delete()).await.expect("deleted");
    assert!(matches!(soon(second.describe()).await, Err(ClientError::NotFound { .. })));
    worker.stop().await.expect("stopped");
}

pub(crate) async fn a_paused_schedule_goes_on_in_another_worker(stage: Stage) {
    let partitura = stage.application().await;
    let run = async || partitura.worker().workflow::<Beat>().schedules().start().await.expect("a worker");
    let (first, rare) = (run().await, partitura.client().schedule("rare"));
    rare.cron("0 0 29 2 *").time_zone("Europe/Berlin").start::<Beat>(7).await.expect("started");
    soon(rare.pause("the data centre moves")).await.expect("taken");
    first.stop().await.expect("stopped");
    let second = run().await;
    let paused = eventually(async || rare.describe().await.ok().filter(|found| found.paused.is_some())).await;
    assert_eq!((paused.paused.as_deref(), paused.next.len()), (Some("the data centre moves"), 0));
    soon(rare.trigger()).await.expect("taken");
    soon(rare.resume()).await.expect("taken");
    let found = eventually(async || {
        let found = rare.describe().await.ok()?;
        (found.recent.len() == 1 && found.next.len() == 10).then_some(found)
    })
    .await;
    assert_eq!((found.started, found.paused, found.recent[0].nominal), (1, None, None));
    second.stop().await.expect("stopped");
}
