use std::collections::{HashMap, HashSet, hash_map::Entry};
use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use partitura_broker::{
    Clock, Error, ErrorKind, InboxAddress, Message, Ordering, Partition, Producer, ProducerOptions, Receipt, Result,
    SystemClock, TopicKind, TopicName, partition_of, telemetry,
};
use sqlx::PgConnection;
use tokio::sync::{Mutex, Semaphore};
use tokio::time::timeout;
use tracing::Instrument;

use crate::error;
use crate::inbox;
use crate::session::{Answer, Session};
use crate::template::{Core, SYSTEM};
use crate::{notices, topology, wire};

/// How much goes into one statement, unless a single message is larger.
const MOST_MESSAGES: usize = 1_000;
const MOST_BYTES: usize = 4 << 20;

/// Publishes over one session, which all producers of a broker share: what was asked for first is stored first.
pub(crate) struct TemplateProducer {
    core: Arc<Core>,
    options: ProducerOptions,
    window: Semaphore,
}

impl TemplateProducer {
    pub(crate) fn new(core: Arc<Core>, options: ProducerOptions) -> Self {
        let window = Semaphore::new(options.window.get().min(Semaphore::MAX_PERMITS));
        Self { core, options, window }
    }

    /// Publishes messages that are within the limits: one result for each, in order.
    async fn store(&self, messages: Vec<Message>) -> Result<Vec<Result<Receipt>>> {
        // A batch larger than the window has it for itself. Both queues are served in turn, so calls keep their order.
        let share = messages.len().min(self.options.window.get());
        let share = u32::try_from(share).unwrap_or(u32::MAX);
        let _window = self.window.acquire_many(share).await.map_err(|_| error::closed("publish"))?;
        let session = self.core.publishing("publish").await?;
        let answers: Vec<_> = in_parts(messages).into_iter().map(|part| self.ask(&session, part)).collect();
        let waiting = async {
            let mut results = Vec::new();
            for (count, answer) in answers {
                match answer.arrive().await {
                    Ok(done) => results.extend(done),
                    Err(error) => results.extend(refused(&unknown(error), count)),
                }
            }
            results
        };
        timeout(self.options.confirm_within, waiting).await.map_err(|_| unknown(error::silent("publish")))
    }

    fn ask(&self, session: &Session, part: Vec<Message>) -> (usize, Answer<Vec<Result<Receipt>>>) {
        let (count, core) = (part.len(), self.core.clone());
        let topics: HashSet<String> = part.iter().map(|message| message.topic.to_string()).collect();
        let answer = session.ask("publish", |connection| Box::pin(insert(connection, core, part)));
        ring(session, topics);
        (count, answer)
    }
}

/// Says that there is something to read. By itself, since a transaction that says something keeps others from committing at the
/// same time. If it gets lost, readers look after a while.
fn ring(session: &Session, topics: HashSet<String>) {
    let ringing = session.ask("ring", |connection| {
        Box::pin(async move {
            for topic in topics {
                notices::say(connection, &notices::ring(&topic), "").await?;
            }
            Ok(())
        })
    });
    // Nobody waits for it.
    drop(ringing);
}

/// It may have been carried out, and whoever publishes again has to know.
fn unknown(error: Error) -> Error {
    if !matches!(error.kind(), ErrorKind::Disconnected | ErrorKind::Timeout) {
        return error;
    }
    let message = "the connection broke before the confirm came; publish again under the same id";
    Error::new(ErrorKind::OutcomeUnknown, "publish", message).because(error)
}

fn refused(error: &Error, count: usize) -> impl Iterator<Item = Result<Receipt>> {
    std::iter::repeat_with(|| Err(error.duplicate())).take(count)
}

fn in_parts(messages: Vec<Message>) -> Vec<Vec<Message>> {
    let (mut parts, mut bytes) = (Vec::<Vec<Message>>::new(), 0);
    for message in messages {
        bytes += message.size();
        match parts.last_mut() {
            Some(part) if part.len() < MOST_MESSAGES && bytes <= MOST_BYTES => part.push(message),
            _ => {
                bytes = message.size();
                parts.push(vec![message]);
            }
        }
    }
    parts
}

/// Stores those messages whose topics exist, all at once.
async fn insert(
    connection: &mut PgConnection,
    core: Arc<Core>,
    part: Vec<Message>,
) -> sqlx::Result<Vec<Result<Receipt>>> {
    let mut places = Vec::with_capacity(part.len());
    for message in &part {
        places.push(core.topics.place(connection, message).await?);
    }
    let rows: Vec<_> = part
        .iter()
        .zip(&places)
        .filter_map(|(message, place)| Some((message.topic.as_str(), *place.as_ref().ok()?, message)))
        .collect();
    if !rows.is_empty() {
        wire::publish(connection, &rows).await?;
    }
    Ok(places.into_iter().map(|place| place.map(|partition| Receipt { partition })).collect())
}

/// How the topics are ordered that were published to. That is fixed, so it is asked for once.
#[derive(Debug, Default)]
pub(crate) struct Topics(Mutex<HashMap<TopicName, Ordering>>);

impl Topics {
    /// The partition that a message belongs to; or why it cannot be published.
    async fn place(&self, connection: &mut PgConnection, message: &Message) -> sqlx::Result<Result<Partition>> {
        let ordering = match self.0.lock().await.entry(message.topic.clone()) {
            Entry::Occupied(known) => *known.get(),
            Entry::Vacant(unknown) => {
                let Some(topic) = topology::find(connection, &message.topic).await? else {
                    return Ok(Err(topology::no_topic("publish", &message.topic)));
                };
                if topic.kind == TopicKind::Queue && topology::subscriptions(connection, &topic.name).await?.is_empty()
                {
                    let text = "the queue has no subscription, so nobody would receive it; declare one";
                    return Ok(Err(Error::new(ErrorKind::NotFound, "publish", text).of(&topic.name)));
                }
                *unknown.insert(topic.ordering)
            }
        };
        // What has no key may lie anywhere.
        let key = message.key.as_deref().unwrap_or(message.id.as_str().as_bytes());
        Ok(Ok(partition_of(key, ordering.partitions())))
    }
}

#[async_trait]
impl Producer for TemplateProducer {
    async fn publish(&self, batch: Vec<Message>) -> Vec<Result<Receipt>> {
        let span = telemetry::publish_span(SYSTEM, batch.len());
        let now = SystemClock.now();
        let checked: Vec<_> =
            batch.into_iter().map(|message| self.core.capabilities.check(&message, now).map(|()| message)).collect();
        let (mut places, mut messages) = (Vec::with_capacity(checked.len()), Vec::new());
        for message in checked {
            places.push(message.map(|message| messages.push(message)));
        }
        let count = messages.len();
        let mut results = match self.store(messages).instrument(span).await {
            Ok(results) => results.into_iter(),
            Err(error) => refused(&error, count).collect::<Vec<_>>().into_iter(),
        };
        let result =
            |place: Result<()>| place.and_then(|()| results.next().unwrap_or_else(|| Err(error::closed("publish"))));
        places.into_iter().map(result).collect()
    }

    async fn reply(&self, replies: Vec<(InboxAddress, Message)>) -> Result<()> {
        let session = self.core.publishing("reply").await?;
        let addresses = replies.iter().map(|(address, _)| address.as_str().to_owned()).collect();
        let answer = session.ask("reply", |connection| Box::pin(inbox::reply(connection, replies)));
        ring(&session, addresses);
        answer.arrive().await
    }
}

impl fmt::Debug for TemplateProducer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TemplateProducer").field("options", &self.options).finish_non_exhaustive()
    }
}
