//! Completing a task from outside, by its tokens.

use partitura::{Client, ClientError, TaskToken, TokenRefusal, Workflow, WorkflowHandle, millis};
use tokio::time::sleep;

use super::deleted::is_deleted;
use crate::service::Refusal;
use crate::world::World;

/// The result that is never to be taken.
const WRONG: &str = "wrong";
/// The decision of a client about the task.
#[derive(Debug, Clone)]
pub(super) struct Decision {
    pub(super) result: Result<String, Refusal>,
    /// Lets the first attempt be given up, and tries its token then.
    pub(super) late: bool,
    /// Completes it a second time, with another result.
    pub(super) twice: bool,
}

/// Completes the task by the token of its latest attempt, until its instance has a result.
pub(super) async fn complete<W: Workflow>(
    (client, world): (&Client, &World),
    handle: &WorkflowHandle<W>,
    Decision { result, late, twice }: &Decision,
) {
    loop {
        let tokens = world.lock().audit.tokens.get(handle.id()).cloned().unwrap_or_default();
        let wrong = || WRONG.to_owned();
        let (Some(latest), [first, ..]) = (tokens.last(), &tokens[..]) else {
            if has_ended(world, handle).await {
                return;
            }
            continue;
        };
        if *late && latest.attempt() == 1 {
            if has_ended(world, handle).await {
                return;
            }
            continue;
        }
        if *late {
            // It has no effect: another attempt has taken its place.
            let _ = client.complete_task(first, &wrong()).confirmed().await;
        }
        let answer = send(client, latest, result).await;
        if is_deleted(world, handle) || is_over(answer) {
            if *twice {
                let _ = client.complete_task(latest, &wrong()).await;
            }
            return;
        }
        sleep(millis(100)).await;
    }
}

async fn send(client: &Client, token: &TaskToken, result: &Result<String, Refusal>) -> Result<(), ClientError> {
    match result {
        Ok(result) => client.complete_task(token, result).confirmed().await,
        Err(refusal) => client.fail_task(token, refusal).confirmed().await,
    }
}

/// Whether nothing more is to be sent.
fn is_over(answer: Result<(), ClientError>) -> bool {
    match answer {
        Ok(()) | Err(ClientError::Ended { .. } | ClientError::AnotherRun { .. }) => true,
        Err(ClientError::TokenRefused { reason, .. }) => !matches!(reason, TokenRefusal::Superseded { .. }),
        Err(_) => false,
    }
}

/// Whether an operator has ended the instance. It takes a while.
async fn has_ended<W: Workflow>(world: &World, handle: &WorkflowHandle<W>) -> bool {
    sleep(millis(500)).await;
    handle.describe().await.is_ok_and(|summary| summary.status.is_closed()) || is_deleted(world, handle)
}
