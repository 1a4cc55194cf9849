//! A task whose result comes from outside: from a person, or from another system, hours later.

use partitura::{Cx, Never, Partitura, TaskContext, TaskError, TaskToken, hours};
use tokio::sync::mpsc;

use crate::said::Said;

#[partitura::service]
trait Approvals {
    async fn approve(&self, order: String) -> String;
}

/// Hands a token to somebody; here to the function below.
struct Manager(mpsc::UnboundedSender<TaskToken>);

impl Approvals for Manager {
    async fn approve(&self, _order: String) -> String {
        let Some(task) = TaskContext::current() else { return String::new() };
        // A mail with a link, say. If nobody listens, the time-out of the task decides.
        let _ = self.0.send(task.token());
        task.delegate().await // nothing is held meanwhile, and this process may end
    }
}

#[derive(Default)]
struct Purchase;

#[partitura::workflow]
impl Purchase {
    #[run]
    async fn run(cx: Cx<Self>, order: String) -> Result<String, TaskError<Never>> {
        let answer = cx.service::<ApprovalsStub>().approve(order).timeout(hours(48)).await?;
        Ok(format!("a person said: {answer}"))
    }
}

pub(crate) async fn run(partitura: &Partitura) -> Said {
    let (manager, mut letters) = mpsc::unbounded_channel();
    let worker = partitura.worker().service(ApprovalsService(Manager(manager))).workflow::<Purchase>().start().await?;
    let purchase = partitura.client().workflow::<Purchase>("order-42");
    purchase.start("order-42".to_owned()).await?;
    let token = letters.recv().await.ok_or("the manager has gone")?;
    partitura.client().complete_task(&token, &"yes".to_owned()).confirmed().await?;
    let said = purchase.result().await?;
    worker.stop().await?;
    Ok(said)
}
