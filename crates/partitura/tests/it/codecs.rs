//! An application's own codec: payloads are nowhere in clear, and are read where the codec is.

use std::error::Error;
use std::future::IntoFuture;
use std::path::Path;
use std::time::Duration;

use partitura::events::{CloudEvent, TaskEvent};
use partitura::history::EventKind;
use partitura::{
    ClientError, Cx, Destination, Partitura, PayloadCodec, Retry, RunningWorker, TaskContext, TaskError, WorkflowError,
    millis,
};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

use crate::support::{Oops, eventually, soon};

/// The text that must be readable nowhere.
const SECRET: &str = "attack at dawn";

/// Hides nothing from a person who looks twice. It is for tests.
#[derive(Debug, Clone, Copy)]
struct Xor {
    name: &'static str,
    key: u8,
}

const FIRST: Xor = Xor { name: "xor/1", key: 0x5a };
const SECOND: Xor = Xor { name: "xor/2", key: 0xa5 };

impl PayloadCodec for Xor {
    fn name(&self) -> &str {
        self.name
    }

    fn encode(&self, json: &[u8]) -> Vec<u8> {
        json.iter().map(|byte| byte ^ self.key).collect()
    }

    fn decode(&self, bytes: &[u8]) -> Result<Vec<u8>, Box<dyn Error + Send + Sync>> {
        Ok(self.encode(bytes))
    }
}

#[partitura::service]
trait Couriers {
    /// Gives back what it is told, and says so in a heartbeat.
    async fn carry(&self, text: String) -> Result<String, Oops>;
    /// Fails, and becomes a dead letter.
    #[task(retry = Retry::fixed(millis(1)).max_attempts(2), retry_if = Lost::is_transient)]
    async fn lose(&self, text: String) -> Result<(), Lost>;
}

/// Its text, which is not encoded, does not tell what was lost.
#[derive(Debug, Serialize, Deserialize, thiserror::Error)]
#[error("it is lost")]
struct Lost(String);

impl Lost {
    fn is_transient(&self) -> bool {
        true
    }
}

struct Horse;

impl Couriers for Horse {
    async fn carry(&self, text: String) -> Result<String, Oops> {
        TaskContext::current().expect("a task").heartbeat(&text).expect("text");
        Ok(text)
    }

    async fn lose(&self, text: String) -> Result<(), Lost> {
        Err(Lost(text))
    }
}

/// Gives back what it is told.
#[derive(Debug, Default)]
struct Echo;

#[partitura::workflow]
impl Echo {
    #[run]
    async fn run(cx: Cx<Self>, text: String) -> Result<String, Oops> {
        cx.service::<CouriersStub>().carry(text).await?;
        Err(Oops::No(cx.id().to_owned()))
    }
}

/// Passes a text through everything that has a payload; then waits until it is released.
#[derive(Debug, Default)]
struct Campaign {
    told: Vec<String>,
    released: bool,
}

#[partitura::workflow]
impl Campaign {
    #[run]
    async fn run(cx: Cx<Self>, (text, again): (String, bool)) -> Result<String, Oops> {
        let couriers = cx.service::<CouriersStub>();
        let carried = couriers.carry(text).await?;
        let noted = cx.step("note", async move { Ok::<_, Oops>(carried) }).await;
        let noted = noted.map_err(|error| Oops::Task(error.to_string()))?;
        if !matches!(couriers.lose(noted.clone()).await, Err(TaskError::Failed(Lost(text))) if text == noted) {
            return Err(Oops::Task("nothing is lost".to_owned()));
        }
        let _ = cx.child::<Echo>(format!("{}-child", cx.id())).start(noted.clone()).await;
        cx.until(|campaign: &Campaign| campaign.told.len() > 1).await?;
        if again {
            return cx.continue_as_new((noted, false)).await;
        }
        cx.until(|campaign: &Campaign| campaign.released).await?;
        Ok(noted)
    }

    #[signal]
    fn tell(&mut self, text: String) {
        self.told.push(text);
    }

    #[update]
    fn order(&mut self, text: String) -> String {
        self.told.push(text.clone());
        text
    }

    #[query]
    fn told(&self) -> Vec<String> {
        self.told.clone()
    }

    #[signal]
    fn release(&mut self) {
        self.released = true;
    }
}

async fn connect(directory: &Path, codec: Option<Xor>) -> Partitura {
    let url = format!("embedded:{}", directory.join("broker").display());
    let connect = partitura::connect(url).with(move |settings| match codec {
        Some(codec) => settings.codec(codec),
        None => settings,
    });
    connect.await.expect("a broker")
}

async fn running(partitura: &Partitura) -> RunningWorker {
    let worker = partitura.worker().service(CouriersService(Horse)).workflow::<Campaign>().workflow::<Echo>();
    worker.try_elsewhere(Duration::ZERO).start().await.expect("a worker")
}

/// Sends the secret through an instance until it is to be released.
async fn campaign(partitura: &Partitura) {
    let campaign = partitura.client().workflow::<Campaign>("c");
    campaign.start((SECRET.to_owned(), true)).await.expect("started");
    for run in 0..2 {
        campaign.signal(CampaignSignal::tell(SECRET.to_owned())).await.expect("sent");
        assert_eq!(
            soon(campaign.update(CampaignUpdate::order(SECRET.to_owned())).into_future()).await.expect("ordered"),
            SECRET
        );
        eventually(|| async {
            let history = campaign.history().await.expect("a history");
            let is_child = |kind: &EventKind| matches!(kind, EventKind::ChildFailed { .. });
            let runs = partitura.client().instance("Campaign", "c").runs().await.expect("runs").len();
            (runs == 2 && (run == 0 || history.iter().any(|event| is_child(&event.kind)))).then_some(())
        })
        .await;
    }
    assert_eq!(soon(campaign.query(CampaignQuery::told())).await.expect("told"), [SECRET, SECRET]);
}

/// Whether the secret is anywhere in the files of the broker, which is the store as well.
fn is_written(directory: &Path) -> bool {
    let mut directories = vec![directory.to_owned()];
    while let Some(directory) = directories.pop() {
        for entry in std::fs::read_dir(directory).expect("a directory") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                directories.push(path);
            } else {
                let bytes = std::fs::read(path).expect("a file");
                if bytes.windows(SECRET.len()).any(|window| window == SECRET.as_bytes()) {
                    return true;
                }
            }
        }
    }
    false
}

#[tokio::test]
async fn an_encoded_payload_is_nowhere_in_clear() {
    for (codec, is_in_clear) in [(Some(FIRST), false), (None, true)] {
        let directory = tempfile::tempdir().expect("a directory");
        let partitura = connect(directory.path(), codec).await;
        let events = partitura.events().workflow::<Campaign>("audit").await.expect("a subscription");
        let tasks = partitura.events().tasks::<CouriersStub>("audit").await.expect("a subscription");
        let worker = running(&partitura).await;
        campaign(&partitura).await;

        let couriers = Destination::Service("Couriers".to_owned());
        let letters = partitura.dead_letters(&couriers).expect("a name").list(10).await.expect("a list");
        assert_eq!(letters.len(), 2);
        // The text of an error is not encoded; its value is.
        assert!(letters.iter().all(|letter| letter.reason.contains("gave up")));

        let handle = partitura.client().workflow::<Campaign>("c");
        handle.signal(CampaignSignal::release()).await.expect("sent");
        assert_eq!(soon(handle.result()).await.expect("a result"), SECRET);
        let failed = soon(partitura.client().workflow::<Echo>("c-child").result()).await;
        assert!(matches!(&failed, Err(WorkflowError::Failed(Oops::No(id))) if id == "c-child"), "{failed:?}");

        let (heard, mut hearing) = mpsc::unbounded_channel();
        let results = heard.clone();
        let of_workflow = events.process(move |event: CloudEvent<EventKind>| {
            let heard = heard.clone();
            async move {
                match &event.data {
                    EventKind::WorkflowCompleted { result } => heard.send(result.decode::<String>()),
                    _ => Ok(()),
                }
            }
        });
        let listening = tokio::spawn(of_workflow.run_until(std::future::pending::<()>()));
        assert_eq!(soon(hearing.recv()).await.expect("an end").expect("text"), SECRET);
        listening.abort();
        let of_tasks = tasks.process(move |event: CloudEvent<TaskEvent>| {
            let results = results.clone();
            async move { event.data.result.map_or(Ok(()), |result| results.send(result.decode::<String>())) }
        });
        let listening = tokio::spawn(of_tasks.run_until(std::future::pending::<()>()));
        assert_eq!(soon(hearing.recv()).await.expect("a result").expect("text"), SECRET);
        listening.abort();
        worker.stop().await.expect("stopped");
        partitura.close().await.expect("closed");
        assert_eq!(is_written(directory.path()), is_in_clear, "{codec:?}");
    }
}

#[tokio::test]
async fn a_history_of_a_former_codec_goes_on_under_the_next_one() {
    let directory = tempfile::tempdir().expect("a directory");
    // It begins without any.
    for (codec, former) in [(None, vec![]), (Some(FIRST), vec![]), (Some(SECOND), vec![FIRST])] {
        let url = format!("embedded:{}", directory.path().join("broker").display());
        let connect = partitura::connect(url).with(move |settings| {
            let settings = former.into_iter().fold(settings, |settings, codec| settings.former_codec(codec));
            match codec {
                Some(codec) => settings.codec(codec),
                None => settings,
            }
        });
        let partitura = connect.await.expect("a broker");
        let worker = running(&partitura).await;
        let handle = partitura.client().workflow::<Campaign>("c");
        handle.start((SECRET.to_owned(), false)).await.expect("started");
        handle.signal(CampaignSignal::tell(SECRET.to_owned())).await.expect("sent");
        eventually(|| async {
            let told = handle.query(CampaignQuery::told()).await.ok()?.len();
            let waits = handle.describe().await.ok()?.waits_for;
            let tasks = handle.history().await.ok()?;
            let is_child = |kind: &EventKind| matches!(kind, EventKind::ChildFailed { .. });
            (told > 0 && waits > 0 && tasks.iter().any(|event| is_child(&event.kind))).then_some(())
        })
        .await;
        if codec.is_some_and(|codec| codec.name == SECOND.name) {
            assert_eq!(handle.query(CampaignQuery::told()).await.expect("told"), [SECRET; 3]);
            handle.signal(CampaignSignal::release()).await.expect("sent");
            assert_eq!(soon(handle.result()).await.expect("a result"), SECRET);
        }
        worker.stop().await.expect("stopped");
        partitura.close().await.expect("closed");
    }
}

#[tokio::test]
async fn an_instance_whose_codec_is_missing_stops_and_goes_on_where_it_is() {
    let directory = tempfile::tempdir().expect("a directory");
    let partitura = connect(directory.path(), Some(FIRST)).await;
    let worker = running(&partitura).await;
    campaign(&partitura).await;
    worker.stop().await.expect("stopped");
    partitura.close().await.expect("closed");

    let partitura = connect(directory.path(), None).await;
    let worker = running(&partitura).await;
    let client = partitura.client();
    let handle = client.workflow::<Campaign>("c");
    let query = soon(handle.query(CampaignQuery::told())).await;
    assert!(matches!(&query, Err(ClientError::Refused(why)) if why.contains("\"xor/1\"")), "{query:?}");
    handle.signal(CampaignSignal::release()).await.expect("sent");
    match soon(handle.result()).await {
        Err(WorkflowError::Stopped { reason }) => {
            assert!(reason.contains("encoded by the codec \"xor/1\", which this process does not have"), "{reason}");
        }
        other => panic!("{other:?}"),
    }
    // The stored instance is seen, without its payloads.
    let page = client.instance("Campaign", "c").last_events(100).await.expect("a history");
    let shown = page.events.iter().find_map(|event| match &event.kind {
        EventKind::WorkflowStarted(started) => Some(&started.input),
        _ => None,
    });
    assert!(shown.and_then(|input| input.unreadable()).is_some_and(|why| why.contains("\"xor/1\"")), "{shown:?}");
    worker.stop().await.expect("stopped");
    partitura.close().await.expect("closed");

    let partitura = connect(directory.path(), Some(FIRST)).await;
    let worker = running(&partitura).await;
    assert_eq!(soon(partitura.client().workflow::<Campaign>("c").result_through_stops()).await.expect("it"), SECRET);
    worker.stop().await.expect("stopped");
    partitura.close().await.expect("closed");
}

#[tokio::test]
async fn a_payload_that_looks_encoded_arrives_as_it_was_sent() {
    for codec in [None, Some(FIRST)] {
        let directory = tempfile::tempdir().expect("a directory");
        let partitura = connect(directory.path(), codec).await;
        let worker = running(&partitura).await;
        let handle = partitura.client().workflow::<Mirror>("m");
        let mirrors = partitura.worker().workflow::<Mirror>().start().await.expect("a worker");
        let input: serde_json::Value =
            serde_json::from_str(r#"{"partitura.codec":"xor/1","data":"AAAA"}"#).expect("JSON");
        handle.start(input.clone()).await.expect("started");
        assert_eq!(soon(handle.result()).await.expect("a result"), input, "{codec:?}");
        mirrors.stop().await.expect("stopped");
        worker.stop().await.expect("stopped");
        partitura.close().await.expect("closed");
    }
}

/// Gives back what it is given.
#[derive(Debug, Default)]
struct Mirror;

#[partitura::workflow]
impl Mirror {
    #[run]
    async fn run(_cx: Cx<Self>, value: serde_json::Value) -> Result<serde_json::Value, partitura::Cancelled> {
        Ok(value)
    }
}

#[tokio::test]
async fn codecs_of_one_name_are_refused() {
    let connect = partitura::connect("memory:").with(|settings| settings.codec(FIRST).former_codec(FIRST));
    let error = connect.await.expect_err("one name");
    assert!(error.to_string().contains("two codecs have the name \"xor/1\""), "{error}");
}
