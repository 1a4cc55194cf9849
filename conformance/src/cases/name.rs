//! Names: ours, which are derived, and those of others, which are no addresses.

use partitura_broker::{InboxAddress, MAX_NAME, Message, SubscriptionName, TopicName, Topology};
use partitura_lanes::{Outcome, SubscriptionTopics};

use crate::case::case;
use crate::client::{A_MOMENT, Queue, by_key, ids};
use crate::lanes::LaneQueue;
use crate::stop::ensure;
use crate::{Case, CaseResult, Env, Stop};

pub(super) const CASES: &[Case] = &[
    case!(
        "name.derived",
        One,
        [],
        "whatever two subscriptions and their topics are called, up to the longest names, they share no dead letters",
        derived
    ),
    case!(
        "inbox.forged",
        One,
        [],
        "an address that is no inbox leads nowhere: no queue, subject or topic that the broker knows, and no error",
        forged
    ),
    case!("inbox.secret", One, [], "the addresses of inboxes cannot be guessed from one another", secret),
];

async fn derived(env: &Env) -> CaseResult {
    let (client, name) = (env.connect().await?, &env.namespace);
    let longest = |end: char| {
        let begin = format!("{name}.");
        format!("{begin}{}{end}", "x".repeat(MAX_NAME - 1 - begin.len()))
    };
    // Joined by dots, the first two pairs are the same.
    let pairs = [
        (format!("{name}.a"), format!("{name}.b.{name}.c")),
        (format!("{name}.a.{name}.b"), format!("{name}.c")),
        (longest('a'), longest('a')),
        (longest('b'), longest('a')),
    ];
    let mut all = Vec::new();
    for (number, (topic, subscription)) in pairs.into_iter().enumerate() {
        let (topic, subscription) = (named(TopicName::new(topic))?, named(SubscriptionName::new(subscription))?);
        let queue = Queue { topic, subscription, ordering: by_key(1) };
        let source = SubscriptionTopics::new(queue.topic.clone(), queue.subscription.clone(), queue.ordering);
        let lanes = LaneQueue { queue, source };
        client.declare(&lanes.source.declare_queue(Topology::new(), true)?).await?;
        let running = lanes.run(env, &client, LaneQueue::options(), |_, _| async { Outcome::dead("poison") }).await?;
        client.publish(vec![lanes.queue.message("k", number)]).await?;
        all.push((lanes, running, format!("k-{number}")));
    }
    for (lanes, running, expected) in all {
        let letters = lanes.dead_letters(env, &client)?;
        let buried = async {
            loop {
                let found: Vec<_> = letters.list(10).await?.iter().map(|letter| letter.id().to_string()).collect();
                if !found.is_empty() {
                    return Ok::<_, Stop>(found);
                }
                tokio::time::sleep(A_MOMENT).await;
            }
        };
        let found = env.within("a dead letter", buried).await??;
        ensure!(found == [expected.as_str()], "{expected} was given up there, and {found:?} are listed");
        running.stop().await?;
    }
    Ok(())
}

fn named<N>(name: Result<N, partitura_broker::InvalidName>) -> Result<N, Stop> {
    name.map_err(|error| Stop::new(error.to_string()))
}

async fn forged(env: &Env) -> CaseResult {
    let (queue, client) = (env.queue("orders", by_key(1)), env.connect().await?);
    client.declare(&queue.topology()).await?;
    let (mut member, mut inbox) = (client.join(queue.options()).await?, client.broker().inbox().await?);
    let genuine = inbox.address().clone();
    let (topic, subscription) = (queue.topic.to_string(), queue.subscription.to_string());
    let mut addresses = env.harness.places(&queue.topic, &queue.subscription);
    addresses.extend([
        topic.clone(),
        subscription,
        format!("{topic}.0"),
        format!("0/{topic}"),
        format!("{}/../{topic}", genuine.as_str()),
    ]);
    // Names that look like those of an inbox.
    let separators = genuine.as_str().match_indices(|c: char| !c.is_ascii_alphanumeric());
    addresses.extend(separators.map(|(at, found)| format!("{}{topic}", &genuine.as_str()[..at + found.len()])));
    addresses.extend(["", "*", "#", ">", "\0", " "].map(str::to_owned));
    addresses.push("a".repeat(10_000));
    let producer = client.producer().await?;
    for (number, address) in addresses.into_iter().enumerate() {
        let message = Message::new(queue.topic.clone(), format!("forged-{number}"), address.clone()).key("k");
        let sent = producer.reply(vec![(InboxAddress::new(address.clone()), message)]).await;
        ensure!(sent.is_ok(), "{address:?} is an error: {sent:?}");
    }
    producer.reply(vec![(genuine, queue.message("k", 1))]).await?;
    let got = env.within("a reply to the inbox", inbox.next()).await??;
    ensure!(got.id.as_str() == "k-1", "k-1 was sent to the inbox, {:?} came", got.id);
    client.publish(queue.messages("k", [0])).await?;
    let got = member.drain(1).await?;
    ensure!(ids(&got) == ["k-0"], "k-0 was published, {:?} came", ids(&got));
    // A reply is not confirmed: it may be slower than a message that was published after it.
    let more = member.next_within(10 * A_MOMENT).await?;
    ensure!(more.is_none(), "nothing else was published, and this came: {more:?}");
    Ok(())
}

async fn secret(env: &Env) -> CaseResult {
    /// The least number of characters in which addresses of inboxes differ. Each has one of sixteen values or more.
    const DIFFERING: usize = 24;
    let client = env.connect().await?;
    let mut inboxes = Vec::new();
    for _ in 0..16 {
        inboxes.push(client.broker().inbox().await?);
    }
    let addresses: Vec<&str> = inboxes.iter().map(|inbox| inbox.address().as_str()).collect();
    let differs =
        |at: &usize| addresses.iter().any(|address| address.as_bytes().get(*at) != addresses[0].as_bytes().get(*at));
    let longest = addresses.iter().map(|address| address.len()).max().unwrap_or_default();
    let differing = (0..longest).filter(differs).count();
    ensure!(differing >= DIFFERING, "only {differing} characters differ: {:?} and {:?}", addresses[0], addresses[1]);
    Ok(())
}
