use std::sync::Arc;
use std::time::Duration;

use partitura::{Client, Cx, TaskError, join_all};
use serde::{Deserialize, Serialize};

use super::diary::Diary;
use crate::problem::Problem;

/// How many of each workflow.
const EACH: usize = 4;
/// The refusal of a journey.
const REFUSED: &str = "fully booked";

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Unable(String);

impl<E: std::fmt::Display> From<TaskError<E>> for Unable {
    fn from(error: TaskError<E>) -> Self {
        match error {
            TaskError::Failed(error) => Self(error.to_string()),
            other => Self(other.to_string()),
        }
    }
}

#[partitura::service]
pub(crate) trait Crew {
    /// Takes as long as a task takes.
    async fn work(&self, name: String) -> Result<(), Unable>;
    /// Takes a moment, and fails.
    async fn refuse(&self, name: String) -> Result<(), Unable>;
}

/// Notes each call in the diary.
#[derive(Debug)]
pub(crate) struct Worker {
    pub(crate) diary: Arc<Diary>,
    pub(crate) task: Duration,
}

impl Crew for Worker {
    async fn work(&self, name: String) -> Result<(), Unable> {
        self.diary.note(&name).map_err(|error| Unable(error.to_string()))?;
        tokio::time::sleep(self.task).await;
        Ok(())
    }

    async fn refuse(&self, name: String) -> Result<(), Unable> {
        self.diary.note(&name).map_err(|error| Unable(error.to_string()))?;
        Err(Unable(REFUSED.to_owned()))
    }
}

/// A step, which takes a fifth of what a task takes.
async fn look(cx: &Cx<impl Send + 'static>, name: &str) -> Result<(), Unable> {
    let name = format!("{}/{name}", cx.id());
    let code = async move {
        let Some((diary, task)) = super::diary::of_process() else { return Err("no diary".to_owned()) };
        diary.note(&name).map_err(|error| error.to_string())?;
        tokio::time::sleep(task / 5).await;
        Ok::<_, String>(())
    };
    cx.step("look", code).await.map_err(|error| Unable(error.to_string()))
}

/// One after the other.
#[derive(Debug, Default)]
pub(crate) struct Chain;

#[partitura::workflow]
impl Chain {
    #[run]
    async fn run(cx: Cx<Self>, _: ()) -> Result<(), Unable> {
        let hands = cx.service::<CrewStub>();
        for number in 0..4 {
            hands.work(format!("{}/{number}", cx.id())).await?;
            look(&cx, &format!("look {number}")).await?;
        }
        Ok(())
    }
}

/// At once, twice.
#[derive(Debug, Default)]
pub(crate) struct Fan;

#[partitura::workflow]
impl Fan {
    #[run]
    async fn run(cx: Cx<Self>, _: ()) -> Result<(), Unable> {
        let hands = cx.service::<CrewStub>();
        for round in ["first", "second", "third"] {
            let all = (0..3).map(|number| hands.work(format!("{}/{round} {number}", cx.id())));
            for done in join_all(all).await {
                done?;
            }
            look(&cx, round).await?;
        }
        Ok(())
    }
}

/// There, and back again.
#[derive(Debug, Default)]
pub(crate) struct Return;

#[partitura::workflow]
impl Return {
    #[run]
    async fn run(cx: Cx<Self>, _: ()) -> Result<(), Unable> {
        let hands = cx.service::<CrewStub>();
        let mut saga = cx.saga();
        for number in 0..2 {
            hands.work(format!("{}/{number}", cx.id())).await?;
            saga.on_failure(hands.work(format!("{}/undo {number}", cx.id())));
        }
        hands.refuse(format!("{}/refused", cx.id())).await?;
        Ok(())
    }
}

/// One instance.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Piece {
    kind: Kind,
    pub(crate) number: usize,
}

#[derive(Debug, Clone, Copy)]
enum Kind {
    Chain,
    Fan,
    Return,
}

impl Piece {
    pub(crate) fn all() -> Vec<Self> {
        let kinds = [Kind::Chain, Kind::Fan, Kind::Return];
        kinds.into_iter().flat_map(|kind| (0..EACH).map(move |number| Self { kind, number })).collect()
    }

    fn id(&self) -> String {
        format!("{:?} {}", self.kind, self.number)
    }

    /// All that is to be called.
    pub(crate) fn calls(&self) -> Vec<String> {
        let names: Vec<String> = match self.kind {
            Kind::Chain => (0..4).flat_map(|number| [format!("{number}"), format!("look {number}")]).collect(),
            Kind::Fan => {
                let round =
                    |round: &str| (0..3).map(|number| format!("{round} {number}")).chain([round.to_owned()]).collect();
                ["first", "second", "third"].into_iter().flat_map::<Vec<_>, _>(round).collect()
            }
            Kind::Return => ["0", "1", "refused", "undo 1", "undo 0"].map(str::to_owned).to_vec(),
        };
        names.into_iter().map(|name| format!("{}/{name}", self.id())).collect()
    }

    pub(crate) async fn start(&self, client: &Client) -> Result<(), Problem> {
        match self.kind {
            Kind::Chain => client.workflow::<Chain>(self.id()).start(()).await?,
            Kind::Fan => client.workflow::<Fan>(self.id()).start(()).await?,
            Kind::Return => client.workflow::<Return>(self.id()).start(()).await?,
        };
        Ok(())
    }

    /// Waits for its end, which is as its workflow says.
    pub(crate) async fn ends_well(&self, client: &Client) -> Result<(), Problem> {
        let wrong = |outcome: String| Err(format!("{}: {outcome}", self.id()).into());
        match self.kind {
            Kind::Chain => client.workflow::<Chain>(self.id()).result().await?,
            Kind::Fan => client.workflow::<Fan>(self.id()).result().await?,
            Kind::Return => match client.workflow::<Return>(self.id()).result().await {
                Err(partitura::WorkflowError::Failed(Unable(reason))) if reason == REFUSED => {}
                outcome => return wrong(format!("{outcome:?}")),
            },
        }
        Ok(())
    }
}
