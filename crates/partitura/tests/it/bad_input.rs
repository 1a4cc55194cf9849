//! Input that does not fit gets a clear error, loses nothing, and stops nobody else.

use std::sync::atomic::{AtomicBool, Ordering};

use partitura::{ClientError, Cx, Signal, Status, WorkflowError};

use crate::in_memory;
use crate::support::{Oops, Waits, WaitsSignal, eventually, soon};

#[tokio::test]
async fn an_id_that_cannot_be_used_is_refused_with_the_reason() {
    let partitura = in_memory().await;
    for id in ["", "a\0b", &"x".repeat(513)] {
        let error = partitura.client().workflow::<Waits>(id).start(()).await.expect_err("refused");
        assert!(matches!(error, ClientError::InvalidId(_)), "{error}");
        assert!(error.to_string().contains("cannot be the id"), "{error}");
    }
}

#[tokio::test]
async fn a_signal_that_does_not_fit_does_not_hold_up_the_others() {
    let partitura = in_memory().await;
    let worker = partitura
        .worker()
        .workflow::<Waits>()
        .try_elsewhere(std::time::Duration::ZERO)
        .start()
        .await
        .expect("a worker");
    let waits = partitura.client().workflow::<Waits>("w");
    waits.start(()).await.expect("started");
    waits.signal(Signal::to_channel("release", &[1, 2, 3])).await.expect("sent");
    waits.signal(WaitsSignal::release("fits".into())).await.expect("sent");
    assert_eq!(soon(waits.result()).await.expect("a result"), "fits");
    worker.stop().await.expect("stopped");
}

#[tokio::test]
async fn an_unknown_query_is_refused_and_names_those_there_are() {
    let partitura = in_memory().await;
    let worker = partitura.worker().workflow::<Waits>().start().await.expect("a worker");
    let waits = partitura.client().workflow::<Waits>("w");
    waits.start(()).await.expect("started");
    let query = partitura::Query::<Waits, bool>::new("is_relased", partitura::Payload::encode(&()));
    let error = soon(waits.query(query)).await.expect_err("refused");
    assert!(error.to_string().contains("is_released"), "{error}");
    worker.stop().await.expect("stopped");
}

/// Whether the code of [`Broken`] is repaired. One test uses it.
static REPAIRED: AtomicBool = AtomicBool::new(false);

#[derive(Debug, Default)]
struct Broken {
    released: bool,
}

#[partitura::workflow]
impl Broken {
    #[run]
    async fn run(cx: Cx<Self>) -> Result<u32, Oops> {
        cx.until(|broken: &Broken| broken.released).await?;
        assert!(REPAIRED.load(Ordering::SeqCst), "not repaired yet");
        Ok(7)
    }

    #[signal]
    fn release(&mut self) {
        self.released = true;
    }
}

#[tokio::test(start_paused = true)]
async fn an_instance_whose_code_panics_is_stopped_with_the_reason_and_goes_on_when_it_is_repaired() {
    let partitura = in_memory().await;
    let worker = partitura.worker().workflow::<Broken>().start().await.expect("a worker");
    let broken = partitura.client().workflow::<Broken>("b");
    broken.start(()).await.expect("started");
    broken.signal(BrokenSignal::release()).await.expect("sent");
    let reason = eventually(|| async {
        match broken.describe().await.ok()?.status {
            Status::Stopped { reason } => Some(reason),
            _ => None,
        }
    })
    .await;
    assert!(reason.contains("not repaired yet"), "{reason}");
    REPAIRED.store(true, Ordering::SeqCst);
    worker.stop().await.expect("stopped");
    // As after a deployment: a worker that starts tries the stopped ones.
    let worker = partitura.worker().workflow::<Broken>().start().await.expect("a worker");
    assert_eq!(soon(broken.result()).await.expect("a result"), 7);
    worker.stop().await.expect("stopped");
}

#[tokio::test]
async fn a_workflow_that_is_registered_twice_is_refused() {
    let partitura = in_memory().await;
    let twice = partitura.worker().workflow::<Waits>().workflow::<Waits>();
    let error = twice.start().await.expect_err("refused");
    assert!(error.to_string().contains("registered twice"), "{error}");
}

#[tokio::test]
async fn plain_numbers_are_taken_as_settings_and_zero_is_refused_with_what_to_write() {
    let partitura = partitura::connect("memory:").with(|settings| settings.partitions(16).cache(100)).await;
    let worker = partitura.expect("connected").worker().workflow::<Waits>().concurrency(5).start().await;
    worker.expect("a worker").stop().await.expect("stopped");

    let error = partitura::connect("memory:").with(|settings| settings.partitions(0)).await.expect_err("refused");
    assert!(error.to_string().contains(".partitions(1) or more"), "{error}");
    let error = partitura::connect("memory:").with(|settings| settings.cache(0)).await.expect_err("refused");
    assert!(error.to_string().contains(".cache(1) or more"), "{error}");
    let worker = in_memory().await.worker().workflow::<Waits>().concurrency(0);
    let error = worker.start().await.expect_err("refused");
    assert!(error.to_string().contains(".concurrency(1) or more"), "{error}");
}

#[tokio::test]
async fn a_build_id_that_is_no_name_is_refused_where_the_worker_starts() {
    let partitura = in_memory().await;
    for (build, problem) in
        [("", "is empty"), ("1.0\n", r"'\n'"), ("1\u{7f}", "control"), (&"b".repeat(256), "256 bytes")]
    {
        let error = partitura.worker().workflow::<Waits>().build_id(build).start().await.expect_err("refused");
        assert!(error.to_string().contains(problem), "{error}");
        assert!(error.to_string().contains(".build_id("), "{error}");
    }
    let worker = partitura.worker().workflow::<Waits>().build_id("v1.0 (β), of Monday").start().await;
    worker.expect("a worker").stop().await.expect("stopped");
}

#[tokio::test]
async fn a_worker_that_has_another_number_of_partitions_is_refused_and_harms_nothing() {
    let broker = std::sync::Arc::new(partitura_embedded::Embedded::memory(Default::default()).expect("a broker"));
    let two = partitura::Partitura::on(broker.clone()).partitions(2).await.expect("an engine");
    let worker = two.worker().workflow::<Waits>().start().await.expect("a worker");
    let three = partitura::Partitura::on(broker).partitions(3).await.expect("an engine");
    let error = three.worker().workflow::<Waits>().start().await.expect_err("refused");
    assert!(error.to_string().contains("partitions"), "{error}");
    let waits = two.client().workflow::<Waits>("w");
    waits.start(()).await.expect("started");
    waits.signal(WaitsSignal::release("fine".into())).await.expect("sent");
    soon(waits.result()).await.expect("a result");
    worker.stop().await.expect("stopped");
}

#[tokio::test]
async fn a_name_that_no_broker_takes_is_refused_by_the_name_that_the_user_gave() {
    let error = partitura::connect("memory:").with(|settings| settings.namespace("my app")).await.expect_err("refused");
    assert!(error.to_string().contains("\"my app\" cannot be a namespace"), "{error}");
    let long = "n".repeat(170);
    let partitura = partitura::connect("memory:").with(move |settings| settings.namespace(long)).await;
    let error = partitura.expect("connected").worker().workflow::<Waits>().start().await.expect_err("refused");
    assert!(error.to_string().contains("\"Waits\" cannot be the name of a workflow"), "{error}");
    assert!(error.to_string().contains("shorten it or the namespace"), "{error}");
}

#[tokio::test]
async fn a_url_that_names_no_broker_is_refused_without_repeating_its_secrets() {
    let error = partitura::connect("carrier-pigeon://user:secret@host").await.expect_err("refused");
    assert!(error.to_string().contains("carrier-pigeon"), "{error}");
    assert!(!error.to_string().contains("secret"), "{error}");
}

#[derive(Debug, Default)]
struct TakesNumber;

#[partitura::workflow]
impl TakesNumber {
    #[run]
    async fn run(_cx: Cx<Self>, number: u32) -> Result<u32, Oops> {
        Ok(number)
    }
}

/// The same workflow as an older client knew it.
#[derive(Debug, Default)]
struct TookText;

#[partitura::workflow(name = "TakesNumber")]
impl TookText {
    #[run]
    async fn run(_cx: Cx<Self>, text: String) -> Result<String, Oops> {
        Ok(text)
    }
}

#[tokio::test]
async fn an_input_of_another_type_fails_the_instance_with_the_reason() {
    let partitura = in_memory().await;
    let worker = partitura.worker().workflow::<TakesNumber>().try_elsewhere(std::time::Duration::ZERO);
    let worker = worker.start().await.expect("a worker");
    let old = partitura.client().workflow::<TookText>("t");
    old.start("seven".into()).await.expect("started");
    match soon(old.result()).await {
        Err(WorkflowError::Unknown(reason)) => assert!(reason.contains("TakesNumber"), "{reason}"),
        other => panic!("{other:?}"),
    }
    worker.stop().await.expect("stopped");
}

/// Overwrites what is stored of an instance, as another program might have.
async fn store_summary(partitura: &partitura::Partitura, id: &str, value: &'static str) {
    use partitura::contract::{Expect, Put, Unit};
    let key = format!("Waits\0{id}").into_bytes().into();
    let put = Put { space: "instances", key, expect: Expect::Any, value: Some(value.into()) };
    let unit = Unit { put: vec![put], ..Unit::default() };
    let transactions = partitura.broker().transactions().expect("the embedded broker has them");
    transactions.commit(vec![unit]).await.remove(0).expect("written");
}

#[tokio::test]
async fn a_history_of_a_newer_format_is_refused_and_kept() {
    let partitura = in_memory().await;
    store_summary(&partitura, "new", r#"{"format":99,"body":{"of":"another kind"}}"#).await;
    let worker = partitura.worker().workflow::<Waits>().start().await.expect("a worker");
    let error = soon(partitura.client().workflow::<Waits>("new").describe()).await.expect_err("refused");
    assert!(error.to_string().contains("written by a newer Partitura"), "{error}");
    worker.stop().await.expect("stopped");
}

#[tokio::test]
async fn a_damaged_history_is_refused_and_named() {
    let partitura = in_memory().await;
    store_summary(&partitura, "bad", "{").await;
    let worker = partitura.worker().workflow::<Waits>().start().await.expect("a worker");
    let error = soon(partitura.client().workflow::<Waits>("bad").describe()).await.expect_err("refused");
    assert!(error.to_string().contains("Waits/bad"), "{error}");
    assert!(error.to_string().contains("cannot be read"), "{error}");
    worker.stop().await.expect("stopped");
}

#[tokio::test]
async fn a_message_that_is_no_command_becomes_a_dead_letter_with_the_reason() {
    use partitura::contract::{Message, ProducerOptions, TopicName};
    use partitura::messaging::Messaging;
    let partitura = in_memory().await;
    let worker = partitura.worker().workflow::<Waits>().start().await.expect("a worker");
    let topic = TopicName::new("workflow.Waits.commands").expect("a name");
    let producer = partitura.broker().producer(ProducerOptions::default()).await.expect("a producer");
    let nonsense = Message::new(topic, "nonsense", "not JSON").key("w");
    producer.publish(vec![nonsense]).await.remove(0).expect("published");
    // The instance of the same key goes on.
    let waits = partitura.client().workflow::<Waits>("w");
    waits.start(()).await.expect("started");
    waits.signal(WaitsSignal::release("fine".into())).await.expect("sent");
    assert_eq!(soon(waits.result()).await.expect("a result"), "fine");
    let messaging = Messaging::over(partitura.broker().clone()).await.expect("messaging");
    let commands =
        messaging.queue::<()>("workflow.Waits.commands").partitions(8).subscription("workers").parking(false);
    let letters = commands.declare().await.expect("as it is").dead_letters("workers").expect("they have names");
    let letters = soon(letters.list(10)).await.expect("a list");
    assert_eq!(letters.len(), 1);
    assert!(letters[0].reason.contains("not a command"), "{}", letters[0].reason);
    worker.stop().await.expect("stopped");
}

/// A service as a newer workflow knows it; the worker runs the older one.
#[partitura::service(name = "Text")]
trait NewerText {
    async fn shout(&self, text: String) -> Result<String, Oops>;
    #[task(name = "dot")]
    async fn dot_of_number(&self, number: u32) -> Result<String, Oops>;
}

#[derive(Debug, Default)]
struct AheadOfItsServices;

#[partitura::workflow]
impl AheadOfItsServices {
    #[run]
    async fn run(cx: Cx<Self>) -> Result<Vec<String>, Oops> {
        let texts = cx.service::<NewerTextStub>();
        let unknown = texts.shout("hey".into()).await.expect_err("there is no such method");
        let unreadable = texts.dot_of_number(7).await.expect_err("it takes text");
        Ok(vec![unknown.to_string(), unreadable.to_string()])
    }
}

#[tokio::test]
async fn an_unknown_method_and_arguments_that_do_not_fit_fail_the_task_with_the_reason() {
    use crate::support::{TextService, Texts};
    let partitura = in_memory().await;
    let worker = partitura.worker().service(TextService(Texts::default())).workflow::<AheadOfItsServices>();
    let worker = worker.try_elsewhere(std::time::Duration::ZERO);
    let worker = worker.start().await.expect("a worker");
    let ahead = partitura.client().workflow::<AheadOfItsServices>("a");
    ahead.start(()).await.expect("started");
    let reasons = soon(ahead.result()).await.expect("a result");
    assert!(reasons[0].contains("shout"), "{reasons:?}");
    assert!(reasons[1].contains("text"), "{reasons:?}");
    worker.stop().await.expect("stopped");
}

#[derive(Debug, Default)]
struct AlwaysPanics;

#[partitura::workflow]
impl AlwaysPanics {
    #[run]
    async fn run(_cx: Cx<Self>) -> Result<(), Oops> {
        panic!("beyond repair")
    }
}

#[derive(Debug, Default)]
struct ParentOfPanics;

#[partitura::workflow]
impl ParentOfPanics {
    #[run]
    async fn run(cx: Cx<Self>) -> Result<String, Oops> {
        Ok(cx.child::<AlwaysPanics>("child").run(()).await.expect_err("it cannot end well").to_string())
    }
}

#[tokio::test(start_paused = true)]
async fn a_stopped_child_that_is_terminated_fails_in_its_parent() {
    let partitura = in_memory().await;
    let worker = partitura.worker().workflow::<AlwaysPanics>().workflow::<ParentOfPanics>();
    let worker = worker.start().await.expect("a worker");
    let client = partitura.client();
    let (parent, child) = (client.workflow::<ParentOfPanics>("parent"), client.workflow::<AlwaysPanics>("child"));
    parent.start(()).await.expect("started");
    eventually(|| async { matches!(child.describe().await.ok()?.status, Status::Stopped { .. }).then_some(()) }).await;
    child.terminate("give it up").await.expect("sent");
    let reason = soon(parent.result()).await.expect("a result");
    assert!(reason.contains("give it up"), "{reason}");
    worker.stop().await.expect("stopped");
}

/// Runs a child under this id.
#[derive(Debug, Default)]
struct ParentOf;

#[partitura::workflow]
impl ParentOf {
    #[run]
    async fn run(cx: Cx<Self>, id: String) -> Result<String, Oops> {
        Ok(cx.child::<Waits>(id).run(()).await.expect_err("it cannot be started").to_string())
    }
}

#[tokio::test]
async fn a_child_whose_id_cannot_be_one_fails_in_its_parent_with_the_reason() {
    let partitura = in_memory().await;
    let worker = partitura.worker().workflow::<ParentOf>().workflow::<Waits>().start().await.expect("a worker");
    for (number, id) in ["", "a\nb", &"x".repeat(513)].into_iter().enumerate() {
        let parent = partitura.client().workflow::<ParentOf>(format!("p{number}"));
        parent.start(id.to_owned()).await.expect("started");
        let reason = soon(parent.result()).await.expect("a result");
        assert!(reason.contains("cannot be the id"), "{reason}");
    }
    worker.stop().await.expect("stopped");
}
