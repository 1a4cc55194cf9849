use partitura_broker::{ErrorKind, Topology};

use crate::case::case;
use crate::stop::ensure;
use crate::{Case, CaseResult, Env};

pub(super) const CASES: &[Case] = &[
    case!(
        "admin.verify_only",
        One,
        [],
        "verifying only, what is missing is NotFound, and nothing is created",
        verify_only
    ),
    case!("admin.idempotent", One, [], "declaring again, and by two at once, is harmless", idempotent),
];

async fn verify_only(env: &Env) -> CaseResult {
    let (queue, client) = (env.orders(), env.connect().await?);
    let verify = queue.topology().verify_only();
    for _ in 0..2 {
        let kind = client.broker().declare(&verify).await.err().map(|error| error.kind());
        ensure!(kind == Some(ErrorKind::NotFound), "NotFound was expected, {kind:?} came");
    }
    let kind = client.try_publish(queue.messages("k", [0])).await?.remove(0).err().map(|error| error.kind());
    ensure!(kind == Some(ErrorKind::NotFound), "publishing to a topic that does not exist: {kind:?}");
    let kind = client.broker().consumer(queue.options()).await.err().map(|error| error.kind());
    ensure!(kind == Some(ErrorKind::NotFound), "consuming a topic that does not exist: {kind:?}");

    client.declare(&queue.topology()).await?;
    client.declare(&verify).await?;
    let without: Topology = Topology::new().queue(env.queue("others", queue.ordering).topic, queue.ordering);
    let both = Topology { topics: [queue.topology().topics, without.topics.clone()].concat(), ..queue.topology() };
    let kind = client.broker().declare(&both.verify_only()).await.err().map(|error| error.kind());
    ensure!(kind == Some(ErrorKind::NotFound), "one of two topics is missing: {kind:?}");
    Ok(())
}

async fn idempotent(env: &Env) -> CaseResult {
    let (queue, client) = (env.orders(), env.connect().await?);
    let topology = queue.topology();
    let (first, second) = tokio::join!(client.declare(&topology), client.declare(&topology));
    first.and(second)?;
    client.publish(queue.messages("k", 0..2)).await?;
    let mut member = client.join(queue.options()).await?;
    client.declare(&topology).await?;
    let held = member.take(2).await?;
    client.declare(&topology).await?;
    member.settle(&held);
    client.publish(queue.messages("k", 2..4)).await?;
    member.drain(2).await?;
    Ok(crate::check::nothing_lost(&env.history())?)
}
