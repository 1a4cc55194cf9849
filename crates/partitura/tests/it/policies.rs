//! Errors that are tried again, and the limit of a method for which nothing is stated.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use partitura::testing::TestEnv;
use partitura::{Cx, Retry, TaskContext, TaskError, Transient, days, hours, minutes, seconds};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

#[derive(Debug, PartialEq, Serialize, Deserialize, thiserror::Error)]
enum Weather {
    #[error("there is fog")]
    Fog,
    #[error("there is a storm")]
    Storm,
}

impl Transient for Weather {
    fn is_transient(&self) -> bool {
        matches!(self, Self::Fog)
    }
}

#[partitura::service]
trait Ferry {
    /// Its type says which of its errors pass.
    async fn cross(&self, error: Weather) -> Result<u32, Weather>;
    /// Nothing says which of its errors pass.
    async fn moor(&self) -> Result<u32, String>;
    /// Hangs.
    async fn drift(&self) -> Result<u32, Weather>;
    /// Takes five hours.
    #[task(no_timeout)]
    async fn circle(&self) -> Result<u32, Weather>;
    /// Leaves the result to others.
    async fn anchor(&self) -> Result<u32, Weather>;
}

#[derive(Debug, Clone, Default)]
struct Boat(Arc<AtomicU32>);

impl Boat {
    fn count(&self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

impl Ferry for Boat {
    async fn cross(&self, error: Weather) -> Result<u32, Weather> {
        self.count();
        Err(error)
    }

    async fn moor(&self) -> Result<u32, String> {
        self.count();
        Err("the quay is taken".to_owned())
    }

    async fn drift(&self) -> Result<u32, Weather> {
        self.count();
        std::future::pending().await
    }

    async fn circle(&self) -> Result<u32, Weather> {
        self.count();
        tokio::time::sleep(hours(5)).await;
        Ok(5)
    }

    async fn anchor(&self) -> Result<u32, Weather> {
        self.count();
        TaskContext::current().expect("a task").delegate().await
    }
}

/// Makes one call, and says how it ended.
#[derive(Debug, Default)]
struct Voyage;

#[partitura::workflow]
impl Voyage {
    #[run]
    async fn run(cx: Cx<Self>, call: String) -> Result<String, TaskError<Weather>> {
        let ferry = cx.service::<FerryStub>();
        let thrice = Retry::fixed(seconds(1)).max_attempts(3);
        Ok(match call.as_str() {
            "fog" => format!("{:?}", ferry.cross(Weather::Fog).await),
            "fog, thrice" => format!("{:?}", ferry.cross(Weather::Fog).retry(thrice).await),
            "storm, thrice" => format!("{:?}", ferry.cross(Weather::Storm).retry(thrice).retry_errors().await),
            "moor" => format!("{:?}", ferry.moor().await),
            "moor, thrice" => format!("{:?}", ferry.moor().retry(thrice).await),
            "moor, errors as well" => format!("{:?}", ferry.moor().retry(thrice).retry_errors().await),
            "drift" => format!("{:?}", ferry.drift().retry(thrice).await),
            "circle" => format!("{:?}", ferry.circle().retry(thrice).await),
            _ => {
                let anchored = ferry.anchor().start();
                cx.sleep(days(7)).await?;
                anchored.cancel();
                format!("{:?}", anchored.await)
            }
        })
    }
}

/// A harbour with one boat.
struct Harbour {
    env: TestEnv,
    boat: Boat,
}

impl Harbour {
    fn new() -> Self {
        let boat = Boat::default();
        Self { env: TestEnv::new().service(FerryService(boat.clone())).workflow::<Voyage>(), boat }
    }

    /// Gives the outcome of a call, and the number of its attempts.
    async fn voyage(&self, call: &str) -> (String, u32) {
        self.boat.0.store(0, Ordering::SeqCst);
        let said = self.env.start::<Voyage>(call, call.to_owned()).await.result().await.expect("a result");
        (said, self.boat.0.load(Ordering::SeqCst))
    }
}

#[tokio::test]
async fn a_policy_says_when_and_the_service_says_which_of_its_errors_are_tried_again() {
    let harbour = Harbour::new();
    for (call, said, calls) in [
        ("fog", "Err(Failed(Fog))", 10),
        ("fog, thrice", "Err(Failed(Fog))", 3),
        ("storm, thrice", "Err(Failed(Storm))", 1),
        ("moor", "Err(Failed(\"the quay is taken\"))", 1),
        ("moor, thrice", "Err(Failed(\"the quay is taken\"))", 1),
        ("moor, errors as well", "Err(Failed(\"the quay is taken\"))", 3),
    ] {
        assert_eq!(harbour.voyage(call).await, (said.to_owned(), calls), "{call}");
    }
}

#[tokio::test]
async fn a_method_that_hangs_is_called_again_after_an_hour_unless_it_says_that_it_takes_longer() {
    let harbour = Harbour::new();
    let began = Instant::now();
    assert_eq!(harbour.voyage("drift").await, ("Err(TimedOut)".to_owned(), 3));
    assert!((hours(3)..hours(3) + minutes(1)).contains(&began.elapsed()), "{:?}", began.elapsed());
    assert_eq!(harbour.voyage("circle").await, ("Ok(5)".to_owned(), 1));
    assert_eq!(harbour.voyage("anchor").await, ("Err(Cancelled)".to_owned(), 1), "others may take longer, too");
}
