use std::time::Duration;

use partitura_broker::{ConsumerOptions, ErrorKind, Event, Message, ProducerOptions, Topology};

use crate::case::case;
use crate::client::{Client, Queue, by_key, ids, now};
use crate::stop::ensure;
use crate::{Case, CaseResult, Env, check};

pub(super) const CASES: &[Case] = &[
    case!(
        "inbox.reply",
        One,
        [],
        "a reply reaches the inbox it is addressed to and no other; an address that is gone is not an error",
        inbox
    ),
    case!("shutdown.handoff_time", One, [], "a consumer that closes hands everything over at once", handoff_time),
    case!(
        "close.closed",
        One,
        [],
        "after close every call answers Closed, waiting calls are told, and closing twice is harmless",
        closed
    ),
    case!("cancel.safe", One, [], "dropping a pending next or publish loses nothing and reorders nothing", cancel),
    case!("cap.honest", One, [], "declared capabilities are there, and others are not", honest),
];

async fn inbox(env: &Env) -> CaseResult {
    let client = env.connect().await?;
    let producer = client.producer().await?;
    let (mut mine, mut yours, gone) =
        (client.broker().inbox().await?, client.broker().inbox().await?, client.broker().inbox().await?);
    let absent = gone.address().clone();
    drop(gone);
    let topic = env.orders().topic;
    let reply = |text: &str| Message::new(topic.clone(), text, text.to_owned()).header("h", "v").key("k");
    // The address is text, and travels with the request.
    let to = |address: &partitura_broker::InboxAddress| partitura_broker::InboxAddress::new(address.as_str());
    let replies = vec![
        (to(yours.address()), reply("yours")),
        (absent.clone(), reply("without-receiver")),
        (to(mine.address()), reply("mine-1")),
        (to(mine.address()), reply("mine-2")),
    ];
    producer.reply(replies).await?;
    for expected in ["mine-1", "mine-2"] {
        let got = env.within("a reply", mine.next()).await??;
        let as_sent = Message { topic: got.topic.clone(), ..reply(expected) };
        ensure!(got == as_sent, "{as_sent:?} was expected, {got:?} came");
    }
    let got = env.within("a reply", yours.next()).await??;
    ensure!(got.id.as_str() == "yours", "yours was expected, {:?} came", got.id);
    producer.reply(vec![(absent, reply("without-receiver"))]).await?;
    Ok(())
}

async fn handoff_time(env: &Env) -> CaseResult {
    let (queue, client) = (env.orders(), env.connect().await?);
    client.declare(&queue.topology()).await?;
    client.publish(queue.spread(20, 5)).await?;
    let mut first = client.join(queue.options()).await?;
    let held = first.take(100).await?;
    first.settle(&held[..50]);
    first.close().await?;
    let began = tokio::time::Instant::now();
    let mut second = client.join(queue.options()).await?;
    let rest = second.drain(50).await?;
    let took = began.elapsed();
    // Far below any session time-out, and far above the usual time.
    ensure!(took < env.time_limit / 3, "the successor waited {took:?}");
    // The settled messages were settled before the hand-over, also without a flush.
    let expected: std::collections::HashSet<&str> = ids(&held[50..]).into_iter().collect();
    ensure!(ids(&rest).into_iter().all(|id| expected.contains(id)), "a settled message comes again: {:?}", ids(&rest));
    Ok(())
}

async fn closed(env: &Env) -> CaseResult {
    let (queue, client) = (env.orders(), env.connect().await?);
    client.declare(&queue.topology()).await?;
    let producer = client.producer().await?;
    producer.publish(queue.messages("k", [0])).await.remove(0)?;
    let (mut member, mut waiting) = (client.join(queue.options()).await?, client.broker().inbox().await?);
    let held = member.take(1).await?;
    let told = async {
        loop {
            match member.consumer().next().await {
                Err(error) => return error.kind(),
                Ok(event) => ensure_quiet(&event),
            }
        }
    };
    let all = async { tokio::join!(client.broker().close(), told, waiting.next()) };
    let (closed, told, inbox) = env.within("the waiting calls to be told of the close", all).await?;
    closed?;
    ensure!(told == ErrorKind::Closed, "a consumer that waited was told {told:?}");
    let inbox = inbox.err().map(|error| error.kind());
    ensure!(inbox == Some(ErrorKind::Closed), "an inbox that waited was told {inbox:?}");

    let broker = client.broker();
    broker.close().await?;
    let kinds = [
        ("publish", producer.publish(queue.messages("k", [1])).await.remove(0).err()),
        ("declare", broker.declare(&queue.topology()).await.err()),
        ("producer", broker.producer(ProducerOptions::default()).await.err()),
        ("consumer", broker.consumer(queue.options()).await.err()),
        ("inbox", broker.inbox().await.err()),
    ];
    for (call, error) in kinds {
        let kind = error.map(|error| error.kind());
        ensure!(kind == Some(ErrorKind::Closed), "{call} after close: {kind:?}");
    }
    // Must neither panic nor hang.
    member.settle(&held);
    Ok(())
}

fn ensure_quiet(event: &Event) {
    debug_assert!(!matches!(event, Event::Deliveries(_)), "there is one message only");
}

async fn cancel(env: &Env) -> CaseResult {
    const EACH: usize = 300;
    let (queue, client) = (env.queue("orders", by_key(2)), env.connect().await?);
    client.declare(&queue.topology()).await?;
    let publisher = client.clone();
    let (batch, end) = (queue.messages("k", 0..EACH), queue.message("k", EACH));
    // The publisher gives up on many of its calls after a few microseconds, and goes on with the next message.
    let publishing = tokio::spawn(async move {
        let producer = publisher.producer().await?;
        for (i, message) in batch.into_iter().enumerate() {
            let limit = Duration::from_micros(i as u64 * 37 % 500);
            let _given_up = tokio::time::timeout(limit, producer.publish(vec![message])).await;
        }
        publisher.publish(vec![end]).await.map(drop)
    });
    // The consumer gives up waiting again and again.
    let (mut member, mut last, mut round) = (client.join(queue.options()).await?, false, 0);
    let began = tokio::time::Instant::now();
    while !last {
        round += 1;
        if let Some(Event::Deliveries(got)) = member.next_within(Duration::from_micros(round * 53 % 700)).await? {
            member.settle(&got);
            last = ids(&got).contains(&format!("k-{EACH}").as_str());
        }
        ensure!(began.elapsed() < env.time_limit, "the last message did not come");
        tokio::task::yield_now().await;
    }
    publishing.await.map_err(|error| error.to_string())??;
    // The contract's checks find wrong orders, and messages that come twice in a term.
    check::in_order(&env.history())?;
    Ok(check::nothing_lost(&env.history())?)
}

/// Cancelling is answered where it is declared, and refused where it is not.
async fn cancels_as_declared(client: &Client, queue: &Queue, declared: bool) -> CaseResult {
    let delayed = queue.message("k", 0).not_before(now() + Duration::from_secs(3_600)).delayed();
    let answers = client.producer().await?.cancel(delayed.into_iter().collect()).await;
    let kinds: Vec<_> = answers.into_iter().map(|answer| answer.map_err(|error| error.kind())).collect();
    let expected = if declared { Ok(false) } else { Err(ErrorKind::Unsupported) };
    ensure!(kinds == [expected], "to cancel a message that was never there gives {kinds:?}, declared: {declared}");
    Ok(())
}

async fn honest(env: &Env) -> CaseResult {
    let client = env.connect().await?;
    let (capabilities, least) = (env.capabilities(), partitura_broker::Limits::default());
    ensure!(!capabilities.broker.is_empty(), "the broker has no name");
    let limits = capabilities.limits;
    ensure!(
        limits.payload >= least.payload
            && limits.key >= least.key
            && limits.headers >= least.headers
            && limits.header_bytes >= least.header_bytes,
        "{limits:?} are below the limits that every broker has, {least:?}"
    );
    let there = client.broker().transactions().is_some();
    ensure!(
        there == capabilities.supports.transactions,
        "transactions: {there}, declared: {:?}",
        capabilities.supports
    );
    ensure!(capabilities == client.broker().capabilities(), "the capabilities are not constant");
    // A request that contradicts the contract is refused as such, not as something else, and not done.
    let (queue, none) = (env.orders(), Topology::new().queue(env.orders().topic, by_key(0)));
    let kind = client.broker().declare(&none).await.err().map(|error| error.kind());
    ensure!(kind == Some(ErrorKind::InvalidArgument), "no partitions: {kind:?}");
    client.declare(&queue.topology()).await?;
    cancels_as_declared(&client, &queue, capabilities.supports.cancellation).await?;
    let empty = ConsumerOptions::new(queue.subscription.clone(), []);
    let kind = client.broker().consumer(empty).await.err().map(|error| error.kind());
    ensure!(kind == Some(ErrorKind::InvalidArgument), "a consumer of no topic: {kind:?}");
    Ok(())
}
