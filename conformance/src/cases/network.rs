//! Faults between a client and the broker: connections that are cut, silent, stalled or slow, and a broker that stands
//! still.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use partitura_broker::{Delivery, Event, Message, Partition, Producer, ProducerOptions};

use crate::case::case;
use crate::client::{A_MOMENT, Client, Member, Queue, by_key, credit, renamed, tokens};
use crate::stop::ensure;
use crate::{Case, CaseResult, Env, Record, Stop, check};

pub(super) const CASES: &[Case] = &[
    case!(
        "reconnect.cut",
        Three,
        [Network],
        "a connection that is cut is built anew: its unsettled messages are still its own or come again, and none is lost",
        cut
    ),
    case!(
        "reconnect.half_open",
        Three,
        [Network],
        "a connection on which nothing gets through any more is noticed in bounded time, and nothing is lost",
        half_open
    ),
    case!(
        "confirm.swallowed",
        Three,
        [Network],
        "the confirm is swallowed, then the connection cut: publishing again under the same id keeps the key's order",
        swallowed
    ),
    case!(
        "order.slow_network",
        Three,
        [Network],
        "on a slow network, with many calls under way at once, each key stays in order",
        slow_network
    ),
    case!(
        "flow.blocked_broker",
        Three,
        [Network],
        "while the broker takes nothing publishing waits or fails retryably; then settlements pass, and nothing is lost",
        blocked_broker
    ),
    case!(
        "confirm.copies",
        Three,
        [Network],
        "when an outage outlasts the time for a confirm, again and again, a message is stored no more often than it was published",
        copies
    ),
    case!(
        "reconnect.frozen",
        Three,
        [Freeze],
        "while the broker stands still with its connections open, nothing is confirmed; then each key goes on in order, and nothing is lost",
        frozen
    ),
];

const KEYS: usize = 8;

/// How long a frozen broker stands still.
const STANDSTILL: Duration = Duration::from_secs(15);

/// Messages of all keys, in the order of the rounds.
fn round(queue: &Queue, number: usize) -> Vec<Message> {
    const EACH: usize = 5;
    (0..EACH).flat_map(|i| (0..KEYS).map(move |key| queue.message(&format!("k{key}"), number * EACH + i))).collect()
}

fn marks(queue: &Queue, name: &str) -> Vec<Message> {
    queue.spread(KEYS, 1).into_iter().map(|message| renamed(message, name)).collect()
}

fn texts(messages: &[Message]) -> Vec<String> {
    messages.iter().map(|message| message.id.to_string()).collect()
}

async fn cut(env: &Env) -> CaseResult {
    let (queue, near, proxy) = (env.orders(), env.connect().await?, env.proxy().await?);
    near.declare(&queue.topology()).await?;
    let far = env.connect_through(&proxy).await?;
    let (mut reader, producer) = (Reader::join(&far, &queue).await?, far.producer().await?);
    for number in 0..3 {
        publish_at_last(env, &*producer, round(&queue, number)).await?;
        reader.until_seen(texts(&round(&queue, number))).await?;
        reader.settle(|held| held.token.slot % 3 > 0);
        proxy.cut();
        let hopeless = producer.publish(vec![queue.message("hopeless", number)]);
        let confirmed = tokio::time::timeout(10 * A_MOMENT, hopeless).await;
        ensure!(
            !confirmed.is_ok_and(|results| results[0].is_ok()),
            "a message is confirmed while the connection is cut: it does not lead through the proxy"
        );
        proxy.heal();
    }
    finish(env, &near, &queue, reader).await
}

async fn half_open(env: &Env) -> CaseResult {
    let (queue, near, proxy) = (env.orders(), env.connect().await?, env.proxy().await?);
    near.declare(&queue.topology()).await?;
    let far = env.connect_through(&proxy).await?;
    let mut hasty = ProducerOptions::default();
    hasty.confirm_within = env.time_limit / 6;
    let (mut reader, producer) = (Reader::join(&far, &queue).await?, far.broker().producer(hasty).await?);
    publish_at_last(env, &*producer, round(&queue, 0)).await?;
    reader.until_seen(texts(&round(&queue, 0))).await?;
    reader.settle(|held| held.token.slot % 3 > 0);
    // No side is told. Each has to notice it: the producer gets no answers, and the consumer no messages.
    proxy.silence();
    let before = proxy.connections();
    let batch = round(&queue, 1);
    let listening = reader.until_seen(texts(&batch));
    tokio::try_join!(publish_at_last(env, &*producer, batch), listening)?;
    ensure!(proxy.connections() > before, "messages come, and not through the proxy");
    finish(env, &near, &queue, reader).await
}

async fn swallowed(env: &Env) -> CaseResult {
    let (queue, near, proxy) = (env.queue("orders", by_key(2)), env.connect().await?, env.proxy().await?);
    near.declare(&queue.topology()).await?;
    let (producer, mut member) =
        (env.connect_through(&proxy).await?.producer().await?, near.join(queue.options()).await?);
    for number in 0..3 {
        let first = 20 * number;
        publish_at_last(env, &*producer, queue.messages("k", first..first + 10)).await?;
        proxy.deafen();
        let unconfirmed = queue.messages("k", first + 10..first + 20);
        let last = texts(&unconfirmed).pop();
        let cutting = async {
            // All of it is stored, which its publisher does not learn.
            member.drain_until(last).await?;
            proxy.cut();
            proxy.heal();
            Ok(())
        };
        tokio::try_join!(publish_at_last(env, &*producer, unconfirmed), cutting)?;
    }
    near.publish(queue.messages("k", [60])).await?;
    member.drain_until(["k-60".to_owned()]).await?;
    // That first deliveries are in order, whatever was stored twice, is part of the contract's checks.
    Ok(check::nothing_lost(&env.history())?)
}

async fn slow_network(env: &Env) -> CaseResult {
    const BATCHES: usize = 20;
    let (queue, near, proxy) = (env.orders(), env.connect().await?, env.proxy().await?);
    near.declare(&queue.topology()).await?;
    proxy.delay(A_MOMENT);
    let far = env.connect_through(&proxy).await?;
    let producer = far.producer().await?;
    let mut member = far.join(queue.options().credit(credit(100))).await?;
    // None waits for the one before.
    let publishing = futures::future::join_all((0..BATCHES).map(|number| producer.publish(round(&queue, number))));
    let confirms = async {
        for result in publishing.await.into_iter().flatten() {
            result?;
        }
        Ok::<_, Stop>(())
    };
    let expected = (0..BATCHES).flat_map(|number| texts(&round(&queue, number)));
    tokio::try_join!(confirms, member.drain_until(expected))?;
    ensure!(proxy.connections() > 0, "messages come, and not through the proxy");
    check::in_order(&env.history())?;
    check::nothing_lost(&env.history())?;
    Ok(check::each_once(&env.history())?)
}

async fn blocked_broker(env: &Env) -> CaseResult {
    let (queue, near, proxy) = (env.orders(), env.connect().await?, env.proxy().await?);
    near.declare(&queue.topology()).await?;
    let far = env.connect_through(&proxy).await?;
    let (mut reader, producer) = (Reader::join(&far, &queue).await?, far.producer().await?);
    publish_at_last(env, &*producer, round(&queue, 0)).await?;
    reader.until_seen(texts(&round(&queue, 0))).await?;
    proxy.stall();
    let waiting = async {
        // Nothing says that nothing happens.
        tokio::time::sleep(10 * A_MOMENT).await;
        env.note("settles while the broker takes nothing");
        reader.settle(|held| held.token.slot % 3 > 0);
        let confirmed = env.recorder.counts().borrow().confirmed;
        ensure!(confirmed == 5 * KEYS, "messages are confirmed while the broker takes nothing");
        proxy.heal();
        Ok(())
    };
    tokio::try_join!(publish_at_last(env, &*producer, round(&queue, 1)), waiting)?;
    reader.until_seen(texts(&round(&queue, 1))).await?;
    finish(env, &near, &queue, reader).await
}

async fn copies(env: &Env) -> CaseResult {
    const OUTAGES: u32 = 3;
    let (queue, near, proxy) = (env.orders(), env.connect().await?, env.proxy().await?);
    near.declare(&queue.topology()).await?;
    let mut hasty = ProducerOptions::default();
    hasty.confirm_within = Duration::from_secs(2);
    let waits = OUTAGES * hasty.confirm_within;
    let far = env.connect_through(&proxy).await?;
    let producer = far.broker().producer(hasty).await?;
    publish_at_last(env, &*producer, round(&queue, 0)).await?;
    // The first copy is stored, and its publisher does not learn it. Then it gives up several times.
    proxy.deafen();
    let batch = round(&queue, 1);
    let outage = async {
        tokio::time::sleep(Duration::from_millis(500)).await;
        proxy.cut();
        tokio::time::sleep(waits).await;
        proxy.heal();
        Ok(())
    };
    tokio::try_join!(publish_at_last(env, &*producer, batch), outage)?;
    let mut member = near.join(queue.options()).await?;
    member.drain_until(texts(&round(&queue, 0)).into_iter().chain(texts(&round(&queue, 1)))).await?;
    let end = marks(&queue, "end");
    near.publish(end.clone()).await?;
    member.drain_until(texts(&end)).await?;
    let history = env.history();
    let (mut sent_of, mut copies_of): (HashMap<&str, usize>, HashMap<_, usize>) = Default::default();
    for entry in history.entries() {
        match &entry.record {
            Record::Publishing { sent, .. } => *sent_of.entry(&sent.id).or_default() += 1,
            Record::Delivered(got) => {
                // A message that comes again in another term is the same copy.
                let term = (entry.process, got.consumer, got.token.partition, got.token.epoch);
                *copies_of.entry((got.message.id.as_str(), term)).or_default() += 1;
            }
            _ => {}
        }
    }
    let is_too_often = |((id, _), copies): &(&(&str, _), &usize)| *copies > sent_of.get(id).unwrap_or(&0);
    let too_often = copies_of.iter().find(is_too_often);
    ensure!(too_often.is_none(), "a message was stored more often than it was published: {too_often:?}");
    Ok(check::nothing_lost(&history)?)
}

async fn frozen(env: &Env) -> CaseResult {
    let freeze = env.harness.freeze().ok_or("the case freezes the broker and does not say that it needs to")?;
    let (queue, client) = (env.orders(), env.connect_for_slow_faults().await?);
    client.declare(&queue.topology()).await?;
    let (mut reader, producer) = (Reader::join(&client, &queue).await?, client.producer().await?);
    publish_at_last(env, &*producer, round(&queue, 0)).await?;
    reader.until_seen(texts(&round(&queue, 0))).await?;
    reader.settle(|held| held.token.slot % 3 > 0);
    freeze.freeze().await?;
    let confirmed = || env.recorder.counts().borrow().confirmed;
    let before = confirmed();
    let standing = async {
        tokio::time::sleep(STANDSTILL).await;
        let after = confirmed();
        freeze.thaw().await?;
        ensure!(after == before, "{} messages are confirmed while the broker stands still", after - before);
        Ok(())
    };
    tokio::try_join!(publish_at_last(env, &*producer, round(&queue, 1)), standing)?;
    reader.until_seen(texts(&round(&queue, 1))).await?;
    finish(env, &client, &queue, reader).await
}

/// Publishes until all messages are confirmed. Those with retryable errors are sent again, with the same ids and in the
/// same order.
async fn publish_at_last(env: &Env, producer: &dyn Producer, mut batch: Vec<Message>) -> CaseResult {
    let publishing = async {
        while !batch.is_empty() {
            let results = producer.publish(batch.clone()).await;
            let mut left = Vec::new();
            for (message, result) in batch.into_iter().zip(results) {
                match result {
                    Ok(_) => {}
                    Err(error) if error.is_retryable() => left.push(message),
                    Err(error) => return Err(error.into()),
                }
            }
            batch = left;
            if !batch.is_empty() {
                tokio::time::sleep(A_MOMENT).await;
            }
        }
        Ok(())
    };
    let answer = tokio::time::timeout(4 * env.time_limit, publishing).await;
    answer.map_err(|_| Stop::new(format!("nothing came within {:?}: confirms", 4 * env.time_limit)))?
}

/// A consumer that behaves like lanes: it holds messages until it settles them, and forgets those of lost partitions.
struct Reader {
    member: Member,
    held: Vec<Delivery>,
    seen: HashSet<String>,
}

impl Reader {
    async fn join(client: &Client, queue: &Queue) -> Result<Self, Stop> {
        Ok(Self { member: client.join(queue.options()).await?, held: Vec::new(), seen: HashSet::new() })
    }

    /// Reads until it has seen these, however often the connection breaks meanwhile.
    async fn until_seen(&mut self, ids: Vec<String>) -> CaseResult {
        while !ids.iter().all(|id| self.seen.contains(id)) {
            match self.member.next_at_last().await? {
                Event::Deliveries(got) => {
                    self.seen.extend(got.iter().map(|got| got.message.id.to_string()));
                    self.held.extend(got);
                }
                Event::Lost(partitions) => self.forget(&partitions),
                Event::Assigned(terms) => {
                    self.forget(&terms.iter().map(|term| term.partition).collect::<Vec<_>>());
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn forget(&mut self, partitions: &[Partition]) {
        self.held.retain(|held| !partitions.contains(&held.partition));
    }

    /// Settles the chosen ones of the messages that it holds.
    fn settle(&mut self, chosen: impl Fn(&Delivery) -> bool) {
        let (done, held): (Vec<_>, Vec<_>) = std::mem::take(&mut self.held).into_iter().partition(chosen);
        self.held = held;
        self.member.consumer().settle(&tokens(&done));
    }
}

/// Checks that, whatever happened, the reader in the end holds exactly its unsettled messages. It settles them and
/// leaves, and nothing is left.
async fn finish(env: &Env, near: &Client, queue: &Queue, mut reader: Reader) -> CaseResult {
    let end = marks(queue, "end");
    near.publish(end.clone()).await?;
    reader.until_seen(texts(&end)).await?;
    reader.settle(|_| true);
    reader.member.flush().await?;
    reader.member.close().await?;
    let rest = marks(queue, "rest");
    near.publish(rest.clone()).await?;
    let left = near.join(queue.options()).await?.drain_until(texts(&rest)).await?;
    // Messages with final errors were never confirmed, and may have been stored at any time.
    let settled =
        left.iter().find(|left| !["rest", "hopeless"].iter().any(|new| left.message.id.as_str().starts_with(new)));
    ensure!(settled.is_none(), "{} was settled, and comes again", settled.map_or("", |left| left.message.id.as_str()));
    Ok(check::nothing_lost(&env.history())?)
}
