//! A test of a workflow that cannot end fails with the reason and with what to write; it never hangs.

use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc;
use std::time::Duration;

use partitura::testing::TestEnv;
use partitura::{Cx, Never, Retry, TaskError, days, join, millis, minutes, select};

use crate::booths::{Booth, take};
use crate::support::{LIVENESS, Oops, TextService, TextStub, Texts, Waits, WaitsSignal};

/// The message with which a test fails. It runs on a thread of its own, so that one that never yields is noticed, too.
pub(crate) fn failure<F: Future<Output: Send + 'static>>(test: impl FnOnce() -> F + Send + 'static) -> String {
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let outcome = catch_unwind(AssertUnwindSafe(|| drop(runtime.block_on(test()))));
        let _ = sender.send(outcome.map_err(|panic| match panic.downcast::<String>() {
            Ok(message) => *message,
            Err(other) => other.downcast_ref::<&str>().copied().unwrap_or_default().to_owned(),
        }));
    });
    receiver.recv_timeout(LIVENESS).expect("it hangs").expect_err("it succeeds")
}

#[derive(Debug, Default)]
struct Panics;

#[partitura::workflow]
impl Panics {
    #[run]
    async fn run(cx: Cx<Self>, after: Duration) -> Result<(), Oops> {
        cx.sleep(after).await?;
        panic!("no such order")
    }
}

#[test]
fn a_workflow_whose_code_panics_fails_the_test_with_what_it_said() {
    for after in [Duration::ZERO, days(400)] {
        let reason = failure(async move || {
            let env = TestEnv::new().workflow::<Panics>();
            env.start::<Panics>("p", after).await.result().await
        });
        assert!(reason.contains("workflow Panics/p stopped: its code panicked: no such order"), "{reason}");
    }
}

#[test]
fn an_instance_that_stops_fails_the_test_that_awaits_another() {
    let reason = failure(async || {
        let env = TestEnv::new().workflow::<Panics>().workflow::<Waits>();
        env.start::<Panics>("p", days(1)).await;
        env.start::<Waits>("w", ()).await.result().await
    });
    assert!(reason.contains("workflow Panics/p stopped: its code panicked: no such order"), "{reason}");
}

#[derive(Debug, Default)]
struct Foreign;

#[partitura::workflow]
impl Foreign {
    #[run]
    async fn run(_cx: Cx<Self>) -> Result<(), Oops> {
        tokio::time::sleep(minutes(1)).await;
        Ok(())
    }
}

#[test]
fn a_future_that_is_not_of_the_context_fails_the_test() {
    let reason = failure(async || {
        let env = TestEnv::new().workflow::<Foreign>();
        env.start::<Foreign>("f", ()).await.result().await
    });
    assert!(reason.contains("its code waits for something that is not of its context"), "{reason}");
    assert!(reason.contains("cx.sleep for time"), "{reason}");
}

/// Calls one method of [`Text`] as it is told.
#[derive(Debug, Default)]
struct Calls;

#[partitura::workflow]
impl Calls {
    #[run]
    async fn run(cx: Cx<Self>, method: String) -> Result<String, Oops> {
        let texts = cx.service::<TextStub>();
        match &*method {
            "refuse" => Ok(texts.refuse("x".into()).retry(Retry::exponential()).retry_errors().await?),
            "refuse at once" => Ok(texts.refuse("x".into()).retry(Retry::fixed(millis(0))).retry_errors().await?),
            "panic" => Ok(texts.panic_until(u32::MAX).retry(Retry::exponential()).await?.to_string()),
            "panic 120 times" => {
                Ok(texts.panic_until(121).retry(Retry::fixed(minutes(1)).max_attempts(200)).await?.to_string())
            }
            "hang" => Ok(texts.hang().no_timeout().await.map(|()| String::new())?),
            _ => select! {
                dotted = texts.dot(method) => Ok(dotted?),
                _ = cx.sleep(days(3)) => Ok("nobody is there".into()),
            },
        }
    }
}

async fn call(env: TestEnv, method: &str) -> Result<String, partitura::WorkflowError<Oops>> {
    let env = env.workflow::<Calls>();
    env.start::<Calls>("c", method.to_owned()).await.result().await
}

#[test]
fn a_service_that_is_not_registered_fails_the_test() {
    let reason = failure(async || call(TestEnv::new(), "hang").await);
    assert!(reason.contains("the task Text.hang: the service Text is not registered; write"), "{reason}");
    assert!(
        reason.contains("`TestEnv::new().service(TextService(…))`, around an implementation of `Text`"),
        "{reason}"
    );
}

#[tokio::test]
async fn a_service_that_is_not_registered_may_be_what_is_tested() {
    assert_eq!(call(TestEnv::new(), "x").await.expect("a result"), "nobody is there");
}

#[test]
fn a_task_that_never_returns_fails_the_test() {
    let reason = failure(async || call(TestEnv::new().service(TextService(Texts::default())), "hang").await);
    assert!(reason.contains("the task Text.hang, which does not return"), "{reason}");
}

#[test]
fn a_task_that_is_tried_again_for_ever_fails_the_test() {
    for (method, last) in [("refuse", "no: x"), ("refuse at once", "no: x"), ("panic", "panicked: attempt")] {
        let reason = failure(move || {
            let env = || TestEnv::new().service(TextService(Texts::default()));
            async move { call(env(), method).await }
        });
        assert!(reason.contains("of workflow Calls/c has failed 1"), "{reason}");
        assert!(reason.contains("its retries have no end"), "{reason}");
        assert!(reason.contains(last), "{reason}");
    }
    let reason = failure(async || {
        let env = TestEnv::new().service(TextService(Texts::default())).attempts(5).workflow::<Calls>();
        env.start::<Calls>("c", "refuse".to_owned()).await;
        env.advance(days(1)).await;
    });
    assert!(reason.contains("the task Text.refuse of workflow Calls/c has failed 5 times"), "{reason}");
}

#[tokio::test]
async fn a_task_whose_retries_have_an_end_is_tried_as_often_as_it_says() {
    let env = TestEnv::new().service(TextService(Texts::default()));
    assert_eq!(call(env, "panic 120 times").await.expect("a result"), "121");
}

#[derive(Debug, Default)]
struct Parent;

#[partitura::workflow]
impl Parent {
    #[run]
    async fn run(cx: Cx<Self>) -> Result<String, Oops> {
        cx.child::<Waits>("child").run(()).await.map_err(|error| Oops::Task(error.to_string()))
    }
}

#[test]
fn a_workflow_that_is_not_registered_fails_the_test() {
    let reason = failure(async || drop(TestEnv::new().start::<Waits>("w", ()).await));
    assert!(reason.contains("write `TestEnv::new().workflow::<Waits>()`"), "{reason}");
    let reason = failure(async || drop(TestEnv::new().client().await.workflow::<Waits>("w")));
    assert!(reason.contains("write `TestEnv::new().workflow::<Waits>()`"), "{reason}");
    let reason = failure(async || {
        let env = TestEnv::new().workflow::<Parent>();
        env.start::<Parent>("p", ()).await.result().await
    });
    assert!(reason.contains("its child Waits/child: the workflow Waits is not registered"), "{reason}");
}

#[test]
fn a_signal_that_never_comes_fails_the_test_with_those_that_could() {
    let reason = failure(async || {
        let env = TestEnv::new().workflow::<Waits>();
        env.start::<Waits>("w", ()).await.result().await
    });
    assert!(reason.contains("workflow Waits/w will not end"), "{reason}");
    assert!(reason.contains("a condition on its state, which these signals may change: release"), "{reason}");
    let reason = failure(async || {
        let env = TestEnv::new().workflow::<Waits>().workflow::<Parent>();
        env.start::<Parent>("p", ()).await.result().await
    });
    assert!(reason.contains("its child Waits/child, which waits for a condition"), "{reason}");
}

#[tokio::test]
async fn a_signal_that_the_test_sends_years_later_or_from_a_thread_comes_in_time() {
    let env = TestEnv::new().workflow::<Waits>();
    let waits = env.start::<Waits>("w", ()).await;
    let (result, ()) = join!(waits.result(), async {
        env.advance(days(3_000)).await;
        waits.signal(WaitsSignal::release("late".into())).await.expect("sent");
    });
    assert_eq!(result.expect("a result"), "late");

    let waits = env.start::<Waits>("again", ()).await;
    let (sender, receiver) = tokio::sync::oneshot::channel();
    std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(100));
        sender.send("from a thread".to_owned())
    });
    let (result, ()) = join!(waits.result(), async {
        let text = receiver.await.expect("the thread's");
        waits.signal(WaitsSignal::release(text)).await.expect("sent");
    });
    assert_eq!(result.expect("a result"), "from a thread");
}

#[derive(Debug, Default)]
struct Receives;

#[partitura::workflow]
impl Receives {
    #[run]
    async fn run(cx: Cx<Self>) -> Result<u32, Oops> {
        cx.channel::<u32>("numbers").recv().await.map_err(|error| Oops::No(error.to_string()))
    }
}

#[test]
fn a_channel_that_stays_empty_fails_the_test_with_its_name() {
    let reason = failure(async || {
        let env = TestEnv::new().workflow::<Receives>();
        env.start::<Receives>("r", ()).await.result().await
    });
    assert!(reason.contains("a signal to the channel \"numbers\""), "{reason}");
}

/// Asks once a minute whether it may go on.
#[derive(Debug, Default)]
struct Polls;

#[partitura::workflow]
impl Polls {
    #[run]
    async fn run(cx: Cx<Self>) -> Result<(), TaskError<Never>> {
        while cx.service::<TextStub>().dot(String::new()).await? != "yes" {
            cx.sleep(minutes(1)).await?;
        }
        Ok(())
    }
}

#[test]
fn a_workflow_that_polls_for_ever_fails_the_test_after_some_real_time() {
    let reason = failure(async || {
        let env = TestEnv::new().service(TextService(Texts::default())).workflow::<Polls>();
        let env = env.give_up_after(Duration::from_millis(100));
        env.start::<Polls>("p", ()).await.result().await
    });
    assert!(reason.contains("workflow Polls/p goes on and on: in "), "{reason}");
    let reason = failure(async || {
        let env = TestEnv::new().service(TextService(Texts::default())).workflow::<Polls>().workflow::<Waits>();
        let env = env.give_up_after(Duration::from_millis(100));
        env.start::<Polls>("p", ()).await;
        env.start::<Waits>("w", ()).await.result().await
    });
    assert!(reason.contains("workflow Waits/w will not end"), "{reason}");
}

#[test]
fn an_update_that_will_not_be_answered_fails_the_test_with_what_its_handler_waits_for() {
    let reason = failure(async || {
        let env = TestEnv::new().workflow::<Booth>();
        env.start::<Booth>("d", true).await.update(take("a")).await
    });
    assert!(reason.contains("the service Text is not registered"), "{reason}");
}
