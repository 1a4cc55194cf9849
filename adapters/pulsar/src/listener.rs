//! Receiving a topic that is not stored: for inboxes, and for the heartbeats of members.

use std::sync::Arc;
use std::time::Duration;

use partitura_adapter_kit::Backoff;
use partitura_broker::{Error, ErrorKind, Message, Result, TopicName, telemetry};
use pulsar::proto::command_subscribe::SubType;
use tokio::sync::mpsc;
use tokio::task::AbortHandle;
use uuid::Uuid;

use crate::client::command::{self, Subscribe};
use crate::client::{ConsumerInput, Incoming, Purpose, Registered};
use crate::core::{Core, SYSTEM};
use crate::error;
use crate::mailbox::Mailbox;
use crate::names::FullName;
use crate::wire;

const OPERATION: &str = "listen";
/// The number of messages that the broker may send in advance.
const AHEAD: u32 = 1_000;
const AGAIN: Backoff = Backoff { first: Duration::from_millis(100), longest: Duration::from_secs(2) };

/// Receives all messages from when it was made until it is dropped, except those that come while there is no
/// connection.
#[derive(Debug)]
pub(crate) struct Listener {
    received: Arc<Mailbox<Result<Message>>>,
    task: AbortHandle,
}

impl Listener {
    /// Begins to receive: when this returns, no later message is missed. The messages get `topic` as theirs.
    pub(crate) async fn new(core: &Arc<Core>, name: FullName, topic: TopicName) -> Result<Self> {
        let receiver = Receiver { core: core.clone(), name, topic };
        let open = receiver.open().await?;
        let received = Arc::new(Mailbox::default());
        let task = tokio::spawn(receiver.run(open, received.clone())).abort_handle();
        Ok(Self { received, task })
    }

    /// Waits for the next message. An error says that some may have been missed; `Closed` is the end.
    pub(crate) async fn next(&self) -> Result<Message> {
        self.received.take().await.unwrap_or_else(|| Err(error::closed(OPERATION)))
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.task.abort();
    }
}

struct Receiver {
    core: Arc<Core>,
    name: FullName,
    topic: TopicName,
}

/// A consumer of Pulsar's.
struct OpenConsumer {
    registered: Registered,
    incoming: mpsc::UnboundedReceiver<ConsumerInput>,
}

impl Receiver {
    async fn open(&self) -> Result<OpenConsumer> {
        let connection = self.core.cluster.serving(OPERATION, &self.name, Purpose::Consume).await?;
        let subscribe = Subscribe {
            topic: self.name.to_string(),
            subscription: Uuid::now_v7().to_string(),
            kind: SubType::Exclusive,
            durable: false,
            create: true,
        };
        let (to, incoming) = mpsc::unbounded_channel();
        let registered = match connection.subscribe(OPERATION, &subscribe, 0, to.clone()).await {
            // The broker may not create topics by itself.
            Err(error) if error.kind() == ErrorKind::NotFound => {
                self.core.topics.admin().create_volatile(OPERATION, &self.name).await?;
                connection.subscribe(OPERATION, &subscribe, 0, to).await?
            }
            subscribed => subscribed?,
        };
        registered.connection().command(command::flow(registered.id(), AHEAD));
        Ok(OpenConsumer { registered, incoming })
    }

    async fn run(self, mut open: OpenConsumer, to: Arc<Mailbox<Result<Message>>>) {
        loop {
            let lost = self.receive(&mut open, &to).await;
            let mut attempt = 0;
            let mut failure = lost;
            open = loop {
                if failure.kind() == ErrorKind::Closed || self.core.cluster.check(OPERATION).is_err() {
                    return to.close();
                }
                attempt += 1;
                telemetry::reconnecting(SYSTEM, &failure, attempt);
                to.put(Err(failure));
                tokio::time::sleep(AGAIN.delay(attempt, u64::MAX)).await;
                match self.open().await {
                    Ok(open) => break open,
                    Err(error) => failure = error,
                }
            };
        }
    }

    /// Receives until the connection is lost.
    async fn receive(&self, open: &mut OpenConsumer, to: &Mailbox<Result<Message>>) -> Error {
        let OpenConsumer { registered, incoming } = open;
        let mut since_grant = 0;
        loop {
            let Some(ConsumerInput { incoming: Incoming::Entry(entry, payload), .. }) = incoming.recv().await else {
                return error::disconnected(OPERATION);
            };
            since_grant += wire::batch_size(&payload).unwrap_or(1);
            if since_grant >= AHEAD / 2 {
                registered.connection().command(command::flow(registered.id(), since_grant));
                since_grant = 0;
            }
            match wire::messages(&self.topic, &entry.message_id, *payload) {
                Ok(messages) => messages.into_iter().for_each(|received| to.put(Ok(received.message))),
                // Another program wrote it.
                Err(error) => tracing::debug!(%error, "dropping a message that cannot be read"),
            }
        }
    }
}
