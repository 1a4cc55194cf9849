//! A task that tells how far it is: after a crash the next attempt goes on there.

use partitura::{Cx, Partitura, Retry, TaskContext, TaskError, millis, minutes};

use crate::said::Said;

#[partitura::service]
trait Import {
    async fn rows(&self, most: u32) -> Result<String, Interrupted>;
}

#[derive(Debug, serde::Serialize, serde::Deserialize, thiserror::Error)]
#[error("the connection was lost")]
struct Interrupted;

struct Importer;

impl Import for Importer {
    async fn rows(&self, most: u32) -> Result<String, Interrupted> {
        let Some(task) = TaskContext::current() else { return Err(Interrupted) };
        let from = task.last_heartbeat::<u32>().ok().flatten().unwrap_or(0);
        for row in from..most {
            task.heartbeat(&row).map_err(|_| Interrupted)?; // cheap: it is sent now and then
            if task.attempt() == 1 && row == 3 {
                return Err(Interrupted);
            }
        }
        Ok(format!("attempt {} went on at row {from} and read {most} rows", task.attempt()))
    }
}

#[derive(Default)]
struct Nightly;

#[partitura::workflow]
impl Nightly {
    #[run]
    async fn run(cx: Cx<Self>, most: u32) -> Result<String, TaskError<Interrupted>> {
        let rows = cx.service::<ImportStub>().rows(most);
        // Without a heartbeat for a minute, the attempt is given up; the whole may take hours.
        rows.no_timeout().heartbeat_timeout(minutes(1)).retry(Retry::fixed(millis(5))).retry_errors().await
    }
}

pub(crate) async fn run(partitura: &Partitura) -> Said {
    let worker = partitura.worker().service(ImportService(Importer)).workflow::<Nightly>().start().await?;
    let nightly = partitura.client().workflow::<Nightly>("import");
    nightly.start(10).await?;
    let said = nightly.result().await?;
    worker.stop().await?;
    Ok(said)
}
