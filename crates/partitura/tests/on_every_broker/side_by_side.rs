//! Versions of one workflow in one program.

use partitura::Cx;

use crate::stage::Stage;
use crate::support::{Oops, eventually, soon};

#[derive(Debug, Default)]
struct Pays(bool);

#[partitura::workflow(name = "Pays")]
impl Pays {
    #[run]
    async fn run(cx: Cx<Self>, moves: bool) -> Result<String, Oops> {
        let paid = cx.step("pay", async { Ok::<_, Oops>("at once".to_owned()) }).await?;
        cx.until(|pays: &Pays| pays.0).await?;
        if moves {
            return cx.continue_in_version::<PaysV2, _>(false).await;
        }
        Ok(format!("{paid} in version {}", cx.workflow_version()))
    }

    #[signal]
    fn end(&mut self) {
        self.0 = true;
    }
}

#[derive(Debug, Default)]
struct PaysV2(bool);

#[partitura::workflow(name = "Pays", version = 2)]
impl PaysV2 {
    #[run]
    async fn run(cx: Cx<Self>, _moves: bool) -> Result<String, Oops> {
        let paid = cx.step("ask", async { Ok::<_, Oops>("later".to_owned()) }).await?;
        cx.until(|pays: &PaysV2| pays.0).await?;
        Ok(format!("{paid} in version {}", cx.workflow_version()))
    }

    #[signal]
    fn end(&mut self) {
        self.0 = true;
    }
}

pub(crate) async fn instances_stay_with_their_version_and_new_ones_take_the_highest(stage: Stage) {
    let [one, other] = stage.processes(|settings| settings).await;
    let client = other.client();
    let instance = |id: &str| client.workflow::<Pays>(id);
    let begun = async |id: &str, moves| {
        instance(id).start(moves).await.expect("started");
        eventually(|| async { instance(id).history().await.ok().filter(|events| events.len() >= 3) }).await;
    };
    let before = one.worker().workflow::<Pays>().build_id("before").start().await.expect("a worker");
    for (id, moves) in [("stays", false), ("moves", true), ("waits", false)] {
        begun(id, moves).await;
    }
    before.stop().await.expect("stopped");

    // A worker without the first version holds its instances up, and says why.
    let without = other.worker().workflow::<PaysV2>().build_id("without").start().await.expect("a worker");
    instance("waits").signal(PaysSignal::end()).await.expect("sent");
    let stopped = || async { instance("waits").describe().await.ok()?.status.reason().map(str::to_owned) };
    let reason = eventually(stopped).await;
    assert!(reason.contains("version 1 of its workflow, this worker runs [2]"), "{reason}");
    without.stop().await.expect("stopped");

    let both = other.worker().workflow::<Pays>().workflow::<PaysV2>().build_id("both");
    let both = both.start().await.expect("a worker");
    begun("new", false).await;
    let living = client.versions::<Pays>().await.expect("read");
    let living: Vec<(u32, usize)> =
        living.workflows["Pays"].iter().map(|(version, living)| (*version, living.instances)).collect();
    assert!(living == [(1, 3), (2, 1)] || living == [(1, 2), (2, 1)], "{living:?}");
    for id in ["stays", "moves", "new"] {
        instance(id).signal(PaysSignal::end()).await.expect("sent");
    }
    assert_eq!(soon(instance("stays").result()).await.expect("a result"), "at once in version 1");
    assert_eq!(soon(instance("new").result()).await.expect("a result"), "later in version 2");
    assert_eq!(soon(instance("waits").result_through_stops()).await.expect("a result"), "at once in version 1");
    eventually(|| async { instance("moves").describe().await.ok().filter(|found| found.workflow_version == 2) }).await;
    instance("moves").signal(PaysSignal::end()).await.expect("sent");
    assert_eq!(soon(instance("moves").result()).await.expect("a result"), "later in version 2");
    both.stop().await.expect("stopped");
}
