//! Listening to a topic that lives in memory: for inboxes, and for what members tell each other.

use std::sync::Arc;
use std::time::Duration;

use partitura_adapter_kit::Backoff;
use partitura_broker::{ErrorKind, Message, Result, TopicName, telemetry};
use pulsar::proto::command_subscribe::SubType;
use tokio::sync::mpsc;
use tokio::task::AbortHandle;
use uuid::Uuid;

use crate::core::{Core, SYSTEM};
use crate::error;
use crate::mailbox::Mailbox;
use crate::names::FullName;
use crate::session::command::{self, Subscribe};
use crate::session::{Incoming, Purpose, Registered};
use crate::wire;

const OPERATION: &str = "listen";
/// How many messages the broker may send in advance.
const AHEAD: u32 = 1_000;
const AGAIN: Backoff = Backoff { first: Duration::from_millis(100), longest: Duration::from_secs(2) };

/// Hears everything from when it was made until it is dropped, save for what comes while there is no connection.
#[derive(Debug)]
pub(crate) struct Listener {
    heard: Arc<Mailbox<Result<Message>>>,
    task: AbortHandle,
}

impl Listener {
    /// Begins to listen: when this returns, everything from now on is heard. Messages are given `topic` as theirs.
    pub(crate) async fn new(core: &Arc<Core>, name: FullName, topic: TopicName) -> Result<Self> {
        let ear = Ear { core: core.clone(), name, topic };
        let open = ear.open().await?;
        let heard = Arc::new(Mailbox::default());
        let task = tokio::spawn(ear.listen(open, heard.clone())).abort_handle();
        Ok(Self { heard, task })
    }

    /// Waits for the next; an error says that some may have been missed. `Closed` is the end.
    pub(crate) async fn next(&self) -> Result<Message> {
        self.heard.take().await.unwrap_or_else(|| Err(error::closed(OPERATION)))
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.task.abort();
    }
}

struct Ear {
    core: Arc<Core>,
    name: FullName,
    topic: TopicName,
}

type Open = (Registered, mpsc::UnboundedReceiver<(usize, Incoming)>);

impl Ear {
    async fn open(&self) -> Result<Open> {
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
                self.core.catalog.admin().create_volatile(OPERATION, &self.name).await?;
                connection.subscribe(OPERATION, &subscribe, 0, to).await?
            }
            subscribed => subscribed?,
        };
        registered.connection().command(command::flow(registered.id(), AHEAD));
        Ok((registered, incoming))
    }

    async fn listen(self, mut open: Open, heard: Arc<Mailbox<Result<Message>>>) {
        loop {
            let lost = self.hear(&mut open, &heard).await;
            let mut attempt = 0;
            let mut failure = lost;
            open = loop {
                if failure.kind() == ErrorKind::Closed || self.core.cluster.check(OPERATION).is_err() {
                    return heard.close();
                }
                attempt += 1;
                telemetry::reconnecting(SYSTEM, &failure, attempt);
                heard.put(Err(failure));
                tokio::time::sleep(AGAIN.delay(attempt, u64::MAX)).await;
                match self.open().await {
                    Ok(open) => break open,
                    Err(error) => failure = error,
                }
            };
        }
    }

    /// Listens until the connection is lost.
    async fn hear(&self, open: &mut Open, heard: &Mailbox<Result<Message>>) -> partitura_broker::Error {
        let (registered, incoming) = open;
        let mut since_grant = 0;
        loop {
            let Some((_, Incoming::Entry(entry, payload))) = incoming.recv().await else {
                return error::disconnected(OPERATION);
            };
            since_grant += wire::batch_size(&payload).unwrap_or(1);
            if since_grant >= AHEAD / 2 {
                registered.connection().command(command::flow(registered.id(), since_grant));
                since_grant = 0;
            }
            match wire::messages(&self.topic, &entry.message_id, *payload) {
                Ok(messages) => messages.into_iter().for_each(|message| heard.put(Ok(message))),
                // Somebody else's: not for us.
                Err(error) => tracing::debug!(%error, "a message that cannot be read was dropped"),
            }
        }
    }
}
