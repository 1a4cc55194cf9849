//! Tests of workflows that never come to rest, or that wait for each other: each fails with the reason.

use std::time::Duration;

use partitura::testing::TestEnv;
use partitura::{Cx, days, millis};

use crate::booths::{Booth, take};
use crate::support::{Oops, TextService, TextStub, Texts};
use crate::testing::failure;

/// Goes on without an end and without waiting for time.
#[derive(Debug, Default)]
struct Restless;

#[partitura::workflow]
impl Restless {
    #[run]
    async fn run(cx: Cx<Self>, how: String) -> Result<(), Oops> {
        loop {
            match how.as_str() {
                "by steps" => cx.step("look", async { Ok::<_, Oops>(()) }).await?,
                "by tasks" => drop(cx.service::<TextStub>().dot(String::new()).await?),
                _ => cx.sleep(Duration::ZERO).await?,
            }
        }
    }
}

#[test]
fn a_workflow_that_goes_on_without_waiting_fails_the_test_after_some_real_time() {
    let env = |how: &str| {
        let env = TestEnv::new().service(TextService(Texts::default())).workflow::<Restless>();
        (env.give_up_after(millis(300)), how.to_owned())
    };
    for how in ["by steps", "by tasks", "by timers"] {
        let awaited = failure(async move || {
            let (env, how) = env(how);
            env.start::<Restless>("r", how).await.result().await
        });
        assert!(awaited.contains("workflow Restless/r goes on and on: it took"), "{how}: {awaited}");
        let advanced = failure(async move || {
            let (env, how) = env(how);
            env.start::<Restless>("r", how).await;
            env.advance(days(1)).await;
        });
        assert!(advanced.contains("workflow Restless/r goes on and on: it took"), "{how}: {advanced}");
    }
}

/// Awaits another, which awaits it.
#[derive(Debug, Default)]
struct Hen;

#[partitura::workflow]
impl Hen {
    #[run]
    async fn run(cx: Cx<Self>) -> Result<(), Oops> {
        cx.child::<Egg>("egg").use_existing().run(()).await.map_err(|error| Oops::Task(error.to_string()))
    }
}

#[derive(Debug, Default)]
struct Egg;

#[partitura::workflow]
impl Egg {
    #[run]
    async fn run(cx: Cx<Self>) -> Result<(), Oops> {
        cx.child::<Hen>("hen").use_existing().run(()).await.map_err(|error| Oops::Task(error.to_string()))
    }
}

#[test]
fn instances_that_await_each_other_fail_the_test() {
    let reason = failure(async || {
        let env = TestEnv::new().workflow::<Hen>().workflow::<Egg>();
        env.start::<Hen>("hen", ()).await.result().await
    });
    assert!(reason.contains("workflow Hen/hen will not end"), "{reason}");
    assert!(reason.contains("its child Egg/egg, which waits for its child Hen/hen"), "{reason}");
}

#[test]
fn a_start_with_an_update_that_will_not_be_answered_fails_the_test() {
    let reason = failure(async || {
        let env = TestEnv::new().workflow::<Booth>();
        env.client().await.workflow::<Booth>("d").start(true).with_update(take("a")).await
    });
    assert!(reason.contains("the service Text is not registered"), "{reason}");
}
