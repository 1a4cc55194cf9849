//! Instances that are found by what they say of themselves now, by when they ended, and by their numbers.

use partitura::jiff::{SignedDuration, Timestamp};
use partitura::{Attribute, Client, Cx, Instances, Order, ReceiveError, Signal, StatusKind, millis};

use crate::schedules::Beat;
use crate::stage::Stage;
use crate::support::{Waits, eventually, soon};

/// Says where it is, whether it is late, and when it is due. It is delivered late, and somewhere else.
#[derive(Debug, Default)]
struct Parcel;

#[partitura::workflow]
impl Parcel {
    #[run]
    async fn run(cx: Cx<Self>, due: Timestamp) -> Result<(), ReceiveError> {
        cx.set_attribute("place", "depot");
        cx.set_attribute("late", false);
        cx.set_attribute("due", due);
        let moves = cx.channel::<String>("move");
        cx.set_attribute("place", moves.recv().await?);
        cx.set_attribute("late", true);
        cx.remove_attribute("due");
        moves.recv().await.map(drop)
    }
}

async fn ids(instances: Instances) -> Vec<String> {
    soon(instances.first(100)).await.expect("found").into_iter().map(|summary| summary.id).collect()
}

pub(crate) async fn instances_are_found_by_what_their_attributes_are_now(stage: Stage) {
    let partitura = stage.application().await;
    let worker = partitura.worker().workflow::<Parcel>().start().await.expect("a worker");
    let client = partitura.client();
    let due: Timestamp = "2026-12-24T18:00:00Z".parse().expect("a time");
    for id in ["one", "other"] {
        soon(client.workflow::<Parcel>(id).start(due).confirmed()).await.expect("started");
    }
    let with = |name: &str, value: Attribute| ids(client.instances().attribute(name, value));
    assert_eq!(with("due", due.into()).await, ["other", "one"]);
    assert_eq!(with("late", false.into()).await, ["other", "one"]);
    let one = client.workflow::<Parcel>("one");
    soon(one.signal(Signal::to_channel("move", &"door".to_owned())).confirmed().into_future()).await.expect("recorded");
    assert_eq!(with("place", "door".into()).await, ["one"]);
    assert_eq!(with("place", "depot".into()).await, ["other"]);
    assert_eq!(with("late", true.into()).await, ["one"]);
    assert_eq!(with("due", due.into()).await, ["other"]);
    let summary = soon(client.instance("Parcel", "one").summary()).await.expect("known");
    assert_eq!((summary.attributes.len(), summary.attributes.get("late")), (2, Some(&Attribute::Bool(true))));
    worker.stop().await.expect("stopped");
}

/// Runs some to their ends, one after the other.
async fn beats(client: &Client, ids: [&str; 3]) {
    for id in ids {
        let beat = client.workflow::<Beat>(id);
        beat.start(1).await.expect("started");
        assert_eq!(soon(beat.result()).await.expect("a result"), 1);
        // Not two in one millisecond, by which they are ordered.
        tokio::time::sleep(millis(2)).await;
    }
}

pub(crate) async fn instances_are_found_by_the_time_of_their_end(stage: Stage) {
    let partitura = stage.application().await;
    let worker = partitura.worker().workflow::<Beat>().workflow::<Waits>().start().await.expect("a worker");
    let client = partitura.client();
    soon(client.workflow::<Waits>("open").start(()).confirmed()).await.expect("started");
    beats(&client, ["c", "a", "b"]).await;
    let all = || client.instances();
    let closed = eventually(async || {
        let found = all().ordered(Order::Closed).first(9).await.ok()?;
        (found.len() == 3).then_some(found)
    })
    .await;
    assert_eq!(closed.iter().map(|summary| &*summary.id).collect::<Vec<_>>(), ["b", "a", "c"]);
    let at = |millis: Option<u64>| Timestamp::from_millisecond(millis.expect("it ended").try_into().expect("small"));
    let [last, _, first] = [0, 1, 2].map(|index| at(closed[index].closed_at).expect("a time"));
    let after = last + SignedDuration::from_millis(1);
    assert_eq!(ids(all().closed_from(last)).await.first().map(String::as_str), Some("b"));
    assert_eq!(ids(all().closed_from(first).closed_before(after)).await, ["b", "a", "c"]);
    assert_eq!(ids(all().closed_before(first)).await, [""; 0]);
    assert_eq!(ids(all().closed_from(after)).await, [""; 0]);
    worker.stop().await.expect("stopped");
}

pub(crate) async fn workflows_and_their_instances_are_counted_and_indexed_anew(stage: Stage) {
    let partitura = stage.application().await;
    let worker = partitura.worker().workflow::<Beat>().workflow::<Waits>().start().await.expect("a worker");
    let client = partitura.client();
    beats(&client, ["a", "b", "c"]).await;
    soon(client.workflow::<Waits>("open").start(()).confirmed()).await.expect("started");
    let workflows = soon(client.instances().workflows()).await.expect("read");
    assert_eq!(workflows, ["Beat", "Waits"]);
    let counted = async || {
        let tally = soon(client.instances().tally(&workflows, 100)).await.expect("counted");
        let of = |workflow: usize, status| {
            let place = StatusKind::ALL.iter().position(|other| *other == status).expect("one of all");
            tally[workflow][place].counted
        };
        (of(0, StatusKind::Completed), of(0, StatusKind::Running), of(1, StatusKind::Running))
    };
    assert_eq!(counted().await, (3, 0, 1));
    assert_eq!(soon(client.instances().reindex()).await.expect("written"), 4);
    assert_eq!(counted().await, (3, 0, 1));
    worker.stop().await.expect("stopped");
}
