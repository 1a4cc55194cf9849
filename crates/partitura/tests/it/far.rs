//! Moments beyond the horizon of any broker, in virtual time.

use std::time::Duration;

use partitura::testing::TestEnv;
use partitura::{Cx, Never, Status, days, select};

#[derive(Debug, Default)]
struct Waits {
    called: bool,
}

#[partitura::workflow]
impl Waits {
    #[run]
    async fn run(cx: Cx<Self>, how_long: Option<u64>) -> Result<String, Never> {
        Ok(select! {
            _ = cx.sleep(how_long.map_or(Duration::MAX, days)) => "slept",
            _ = cx.sleep_until("9999-12-01T00:00:00Z".parse().expect("a date")) => "the year 9999",
            _ = cx.until(|waits: &Waits| waits.called) => "called",
        }
        .to_owned())
    }

    #[signal]
    fn call(&mut self) {
        self.called = true;
    }
}

#[tokio::test]
async fn a_century_is_waited_for_in_stages_and_to_the_millisecond() {
    let env = TestEnv::new().workflow::<Waits>();
    let begun = env.now();
    let waits = env.start::<Waits>("w-1", Some(36_500)).await;
    env.advance(days(36_499)).await;
    assert_eq!(waits.describe().await.expect("an answer").status, Status::Running);
    assert_eq!(waits.result().await.expect("a result"), "slept");
    let took = env.now().since(begun);
    assert!((days(36_500)..days(36_500) + Duration::from_secs(1)).contains(&took), "{took:?}");
}

#[tokio::test]
async fn for_ever_ends_with_a_signal_only() {
    let env = TestEnv::new().workflow::<Waits>();
    let waits = env.start::<Waits>("w-1", None).await;
    env.advance(days(20_000)).await;
    assert_eq!(waits.describe().await.expect("an answer").status, Status::Running);
    waits.signal(WaitsSignal::call()).await.expect("sent");
    assert_eq!(waits.result().await.expect("a result"), "called");
}
