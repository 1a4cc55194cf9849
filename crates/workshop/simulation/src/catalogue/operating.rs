//! An operator who looks after instances, and ends one now and then.

use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use partitura::{Client, ClientError, Filter, Workflow};
use tokio::time::sleep;

use crate::world::World;

/// The reason with which an operator ends an instance.
pub(crate) const CLOSED: &str = "the operator has closed it";

/// An operator's action on an instance.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Order {
    Resume,
    Describe,
    History,
    Terminate,
    Delete,
    /// Delete all that have ended of the workflow.
    Purge,
}

/// The actions; the last two are those of an operator who deletes.
const ORDERS: &[Order] =
    &[Order::Resume, Order::Describe, Order::History, Order::Terminate, Order::Delete, Order::Purge];

/// Acts on one instance.
pub(crate) type Operate = Arc<dyn Fn(Client, Order) -> BoxFuture<'static, Result<(), ClientError>> + Send + Sync>;

pub(super) fn operated<W: Workflow>(id: String) -> Operate {
    Arc::new(move |client, order| {
        let handle = client.workflow::<W>(id.clone());
        Box::pin(async move {
            match order {
                Order::Resume => handle.resume().await,
                Order::Describe => handle.describe().await.map(drop),
                Order::History => handle.history().await.map(drop),
                Order::Terminate => handle.terminate(CLOSED).confirmed().await,
                Order::Delete => handle.delete().confirmed().await,
                Order::Purge => client.purge::<W>(Filter::first(1_000)).await.map(drop),
            }
        })
    })
}

/// Acts on random instances of a world, until its faults end.
pub(crate) async fn operator(world: World, client: Client, instances: Vec<(String, Operate)>) {
    loop {
        let (rest, at, order) = {
            let mut state = world.lock();
            let Some(interval) = state.plan.operator.filter(|_| state.chaos) else { return };
            let orders = if state.plan.deletes { ORDERS } else { &ORDERS[..4] };
            let order = state.random.pick(orders);
            let rest = state.random.between(1, 2 * interval);
            // The first instance needs an operator if its history cannot be read.
            let is_first = state.plan.breaks_history() && state.random.coin();
            let at = if is_first { 0 } else { state.random.below(instances.len() as u64) as usize };
            (rest, at, order)
        };
        sleep(Duration::from_millis(rest)).await;
        let (id, operate) = &instances[at];
        // There may be no such instance yet, or no worker to answer.
        let done = operate(client.clone(), order).await.map_err(|error| error.to_string());
        world.lock().note("operator", format_args!("{order:?} {id}: {done:?}"));
    }
}

/// Ends what is started anew after it was deleted, once the faults have ended: its clients may be gone.
pub(crate) async fn janitor(world: World, client: Client) {
    loop {
        sleep(Duration::from_secs(1)).await;
        let left = {
            let state = world.lock();
            if state.chaos { Vec::new() } else { state.started_anew() }
        };
        for name in left {
            let done = client.instance(&name.0, &name.1).terminate(CLOSED).await.map_err(|error| error.to_string());
            world.lock().note("janitor", format_args!("ends {}/{}: {done:?}", name.0, name.1));
        }
    }
}
