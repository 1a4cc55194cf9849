//! Values arrive as they were sent, on every way that there is; what cannot is refused at once, by the name of its
//! field.

use std::collections::BTreeMap;

use partitura::testing::TestEnv;
use partitura::{ClientError, Cx, Signal, TaskError, WorkflowError};
use serde::{Deserialize, Serialize};

use crate::support::Oops;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, thiserror::Error)]
#[error("freight")]
struct Freight {
    price: f64,
    rate: f32,
    zero: f64,
    wide: u128,
    by_number: BTreeMap<i32, f64>,
    by_name: BTreeMap<String, Option<Option<u8>>>,
    manifest: Vec<u8>,
    container: Container,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type")]
enum Container {
    Empty,
    Full { seal: Vec<u8>, weight: f64, next: Box<Container> },
}

fn freight() -> Freight {
    let full = |weight, next| Container::Full { seal: (0..40).collect(), weight, next: Box::new(next) };
    Freight {
        price: 0.01 * 1.19,
        rate: 7.038531e-26,
        zero: -0.0,
        wide: u128::MAX,
        by_number: [(-1, 0.1 + 0.2), (7, f64::MIN_POSITIVE / 3.0)].into(),
        by_name: [("none".into(), None), ("some".into(), Some(Some(3)))].into(),
        manifest: (0..=255).collect(),
        container: full(0.01 * 1.19, full(-0.0, Container::Empty)),
    }
}

/// A freight of which nobody can say what it costs.
fn unpriced() -> Freight {
    Freight { price: f64::NAN, ..freight() }
}

#[partitura::service]
trait Port {
    async fn ship(&self, freight: Freight, back: Option<Freight>) -> Freight;
    async fn refuse(&self, freight: Freight) -> Result<(), Freight>;
    async fn unpriced(&self) -> Result<Freight, Oops>;
}

struct Harbour;

impl Port for Harbour {
    async fn ship(&self, freight: Freight, back: Option<Freight>) -> Freight {
        back.unwrap_or(freight)
    }

    async fn refuse(&self, freight: Freight) -> Result<(), Freight> {
        Err(freight)
    }

    async fn unpriced(&self) -> Result<Freight, Oops> {
        Ok(unpriced())
    }
}

/// Sends what it is given on every way that there is.
#[derive(Debug, Default)]
struct Voyage {
    signalled: Option<Freight>,
}

#[partitura::workflow]
impl Voyage {
    #[run]
    async fn run(cx: Cx<Self>, freight: Freight) -> Result<Vec<Freight>, Oops> {
        let port = cx.service::<PortStub>();
        let mut seen = vec![freight.clone()];
        seen.push(port.ship(freight.clone(), Some(freight.clone())).await?);
        match port.refuse(freight.clone()).await {
            Err(TaskError::Failed(back)) => seen.push(back),
            other => return Err(Oops::No(format!("{other:?}"))),
        }
        let given = freight.clone();
        seen.push(cx.step("pack", async move { Ok::<_, Oops>(given) }).await?);
        seen.push(cx.child::<Leg>("leg").run(freight).await.map_err(|error| Oops::No(error.to_string()))?);
        let channel = cx.channel::<Freight>("freights");
        seen.push(channel.recv().await.map_err(|error| Oops::No(error.to_string()))?);
        cx.until(|voyage: &Voyage| voyage.signalled.is_some()).await?;
        seen.extend(cx.state(|voyage| voyage.signalled.clone()));
        Ok(seen)
    }

    #[signal]
    fn load(&mut self, freight: Freight) {
        self.signalled = Some(freight);
    }

    #[query]
    fn compare(&self, freight: Freight) -> Option<Freight> {
        Some(freight)
    }
}

#[derive(Debug, Default)]
struct Leg;

#[partitura::workflow]
impl Leg {
    #[run]
    async fn run(_cx: Cx<Self>, freight: Freight) -> Result<Freight, Oops> {
        Ok(freight)
    }
}

/// Equal to the bit: `==` of floats takes `-0.0` for `0.0`.
fn assert_same(got: &Freight) {
    assert_eq!(format!("{got:?}"), format!("{:?}", freight()));
}

#[tokio::test]
async fn a_value_arrives_as_it_was_sent_on_every_way() {
    let env = TestEnv::new().service(PortService(Harbour)).workflow::<Voyage>().workflow::<Leg>();
    let voyage = env.start::<Voyage>("v", freight()).await;
    assert_same(&voyage.query(VoyageQuery::compare(freight())).await.expect("an answer").expect("a freight"));
    voyage.signal(Signal::to_channel("freights", &freight())).await.expect("sent");
    voyage.signal(VoyageSignal::load(freight())).await.expect("sent");
    let seen = voyage.result().await.expect("a result");
    assert_eq!(seen.len(), 7);
    seen.iter().for_each(assert_same);
    let history = voyage.history().await.expect("a history");
    let started = history.iter().find_map(|event| match &event.kind {
        partitura::history::EventKind::WorkflowStarted(started) => Some(started.input.clone()),
        _ => None,
    });
    assert_same(&started.expect("it began").decode().expect("a freight"));
}

fn assert_refused(error: &ClientError, path: &str) {
    assert!(matches!(error, ClientError::Payload(_)), "{error:?}");
    assert!(error.to_string().contains(path) && error.to_string().contains("NaN"), "{error}");
}

#[tokio::test]
async fn a_value_that_cannot_arrive_is_refused_where_it_is_sent() {
    let env = TestEnv::new().service(PortService(Harbour)).workflow::<Voyage>().workflow::<Leg>();
    let voyage = env.client().await.workflow::<Voyage>("v");
    assert_refused(&voyage.start(unpriced()).await.expect_err("refused"), "price");
    voyage.start(freight()).await.expect("started");
    assert_refused(&voyage.signal(VoyageSignal::load(unpriced())).await.expect_err("refused"), "price");
    let query = VoyageQuery::compare(unpriced());
    assert_refused(&voyage.query(query).await.expect_err("refused"), "argument `freight`");
    let to_channel = Signal::to_channel("freights", &vec![freight(), unpriced()]);
    assert_refused(&voyage.signal(to_channel).await.expect_err("refused"), "[1].price");
}

#[derive(Debug, Default)]
struct Unpriced;

#[partitura::workflow]
impl Unpriced {
    #[run]
    async fn run(cx: Cx<Self>, ask: String) -> Result<Freight, Oops> {
        let port = cx.service::<PortStub>();
        match ask.as_str() {
            "argument" => Ok(port.ship(unpriced(), None).await?),
            "result" => Ok(port.unpriced().await?),
            "step" => Ok(cx.step("unpriced", async { Ok::<_, Oops>(unpriced()) }).await?),
            "child" => {
                let child = cx.child::<Leg>("leg").run(unpriced()).await;
                child.map_err(|error| Oops::Task(error.to_string()))
            }
            _ => Ok(unpriced()),
        }
    }
}

#[tokio::test]
async fn a_value_that_cannot_arrive_fails_where_it_comes_from_with_the_name_of_its_field() {
    let env = TestEnv::new().service(PortService(Harbour)).workflow::<Unpriced>().workflow::<Leg>();
    for ask in ["argument", "result", "step", "child", "output"] {
        let unpriced = env.start::<Unpriced>(ask, ask.to_owned()).await;
        let error = match unpriced.result().await {
            Err(WorkflowError::Failed(Oops::Task(error)) | WorkflowError::Unknown(error)) => error,
            other => panic!("{ask}: {other:?}"),
        };
        assert!(error.contains("field `price`: JSON has no number NaN"), "{ask}: {error}");
    }
}
