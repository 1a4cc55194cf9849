//! A task that reads one queue, so that no request of a caller is ever dropped half done.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use fe2o3_amqp::link::delivery::{Delivery, DeliveryInfo};
use fe2o3_amqp::session::SessionHandle;
use fe2o3_amqp::types::messaging::{Accepted, Body, Modified};
use fe2o3_amqp::types::primitives::Value;
use fe2o3_amqp::{Receiver, Sender};
use partitura_broker::{Error, ErrorKind, Result};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, interval_at, timeout};

use crate::client::{Connector, Fields, Requests, answer, receiver, sender};
use crate::error::closed;
use crate::profile::{Flush, RENEWAL, Source};
use crate::wire::{self, Incoming, Route};

/// The limit for detaching in good order. After it, the end of the session does it.
const DETACH_TIMEOUT: Duration = Duration::from_secs(5);
const FLUSH: &str = "flush settlements";
/// The requests of Service Bus.
const RENEW: &str = "com.microsoft:renew-session-lock";
const PEEK: &str = "com.microsoft:peek-message";

/// A queue that is read.
#[derive(Debug)]
pub(crate) struct Reader {
    fetched: mpsc::UnboundedReceiver<Result<Fetched>>,
    commands: mpsc::UnboundedSender<Command>,
    connector: Arc<Connector>,
}

/// A message from a queue.
#[derive(Debug)]
pub(crate) struct Fetched {
    pub(crate) message: Incoming,
    /// The number of earlier deliveries that failed, as far as the broker knows.
    pub(crate) failures: u32,
    pub(crate) info: DeliveryInfo,
    /// Its bytes.
    pub(crate) size: usize,
}

/// How much of a queue may be in this process, unsettled.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ahead {
    /// The largest number of messages.
    pub(crate) messages: usize,
    /// The largest number of bytes, and of one message: `(all, one)`.
    pub(crate) bytes: Option<(usize, usize)>,
}

impl From<usize> for Ahead {
    fn from(messages: usize) -> Self {
        Self { messages, bytes: None }
    }
}

impl Ahead {
    /// The number of messages that the broker may send, beside those that are here and have `bytes` together.
    fn room(self, held: usize, bytes: usize) -> usize {
        let by_number = self.messages.saturating_sub(held);
        // A message that is under way may have any size.
        let by_bytes = self.bytes.map_or(usize::MAX, |(all, one)| all.saturating_sub(bytes) / one.max(1));
        by_number.min(by_bytes)
    }
}

#[derive(Debug)]
enum Command {
    Settle(Vec<DeliveryInfo>),
    Flush(oneshot::Sender<Result<()>>),
    Release(oneshot::Sender<Result<()>>),
}

/// A queue that this process has, and that gives nothing yet.
#[derive(Debug)]
pub(crate) struct Attached {
    connector: Arc<Connector>,
    session: SessionHandle<()>,
    receiver: Receiver,
    source: Source,
    ahead: Ahead,
}

impl Attached {
    /// Takes a queue.
    ///
    /// # Errors
    /// [`Busy`](ErrorKind::Busy), if it has a reader and may have only one.
    pub(crate) async fn attach(
        connector: Arc<Connector>,
        operation: &'static str,
        source: Source,
        ahead: impl Into<Ahead>,
    ) -> Result<Self> {
        let ahead = ahead.into();
        let mut session = connector.session(operation).await?;
        let receiver = receiver(&mut session, operation, source.node.clone()).await;
        let receiver = receiver.map_err(|error| error.of(&source.name))?;
        Ok(Self { connector, session, receiver, source, ahead })
    }

    /// Begins to read.
    pub(crate) fn read(self) -> Reader {
        let Self { connector, session, receiver, source, ahead } = self;
        let (give, fetched) = mpsc::unbounded_channel();
        let (commands, commanded) = mpsc::unbounded_channel();
        let task = Task {
            connector: connector.clone(),
            session,
            receiver,
            sync: None,
            held: HashMap::new(),
            held_bytes: 0,
            granted: 0,
            ahead,
            source,
            fetched: give,
        };
        tokio::spawn(task.run(commanded));
        Reader { fetched, commands, connector }
    }
}

impl Reader {
    /// Waits for messages: those that are there, at least one, `most` at most.
    ///
    /// # Cancel safety
    /// Safe.
    pub(crate) async fn next(&mut self, most: usize) -> Result<Vec<Fetched>> {
        let mut all = Vec::new();
        self.fetched.recv_many(&mut all, most).await;
        let gone = || Err(self.gone("consume"));
        if all.is_empty() {
            return gone();
        }
        // Whatever came before an error goes with the link.
        all.into_iter().collect()
    }

    /// Settles messages. Does not wait.
    pub(crate) fn settle(&self, messages: Vec<DeliveryInfo>) {
        // If the task has ended, the next call of `next` says why.
        let _ = self.commands.send(Command::Settle(messages));
    }

    /// Waits until the broker has taken every settlement so far.
    pub(crate) async fn flush(&self) -> Result<()> {
        self.command(Command::Flush).await
    }

    /// Flushes, and gives the queue back.
    pub(crate) async fn release(self) -> Result<()> {
        self.command(Command::Release).await
    }

    async fn command(&self, command: impl FnOnce(oneshot::Sender<Result<()>>) -> Command) -> Result<()> {
        let (answer, answered) = oneshot::channel();
        if self.commands.send(command(answer)).is_err() {
            return Err(self.gone(FLUSH));
        }
        answered.await.unwrap_or_else(|_| Err(self.gone(FLUSH)))
    }

    fn gone(&self, operation: &'static str) -> Error {
        if self.connector.client().is_closed() {
            return closed(operation);
        }
        Error::new(ErrorKind::Disconnected, operation, "the queue is not read any more: its link was lost")
    }
}

/// Reads until the link is lost, or the [`Reader`] dropped.
struct Task {
    connector: Arc<Connector>,
    session: SessionHandle<()>,
    receiver: Receiver,
    /// The way to learn whether everything before was handled.
    sync: Option<Sync>,
    /// The unsettled messages, by their number on the link.
    held: HashMap<u32, (DeliveryInfo, usize)>,
    /// Their bytes.
    held_bytes: usize,
    /// The number of messages that the broker may still send.
    granted: usize,
    ahead: Ahead,
    source: Source,
    fetched: mpsc::UnboundedSender<Result<Fetched>>,
}

/// The links for it.
#[derive(Debug)]
enum Sync {
    Messages(Box<Sender>),
    Requests(Box<Requests>),
}

impl Task {
    async fn run(mut self, mut commands: mpsc::UnboundedReceiver<Command>) {
        let mut renewal = interval_at(Instant::now() + RENEWAL, RENEWAL);
        let renews = matches!(self.source.flush, Flush::Request { session: Some(_), .. });
        loop {
            if let Err(error) = self.grant().await {
                let _ = self.fetched.send(Err(error));
                break;
            }
            tokio::select! {
                biased;
                command = commands.recv() => match command {
                    Some(Command::Settle(messages)) => {
                        if let Err(error) = self.settle(messages).await {
                            let _ = self.fetched.send(Err(error));
                            break;
                        }
                    }
                    Some(Command::Flush(answer)) => {
                        let _ = answer.send(self.flush().await);
                    }
                    Some(Command::Release(answer)) => {
                        let flushed = self.flush().await;
                        self.detach().await;
                        let _ = answer.send(flushed);
                        return;
                    }
                    None => break,
                },
                _ = renewal.tick(), if renews => if let Err(error) = self.flush().await {
                    let _ = self.fetched.send(Err(error));
                    break;
                },
                received = self.receiver.recv::<Body<Value>>() => match received {
                    Ok(delivery) => self.pass_on(delivery),
                    Err(error) => {
                        let _ = self.fetched.send(Err(self.connector.explain("consume", error).of(&self.source.name)));
                        break;
                    }
                },
            }
        }
        self.detach().await;
    }

    /// Lets the broker send as many messages as may be unsettled. It is told so for several of them at once.
    async fn grant(&mut self) -> Result<()> {
        let free = self.ahead.room(self.held.len(), self.held_bytes).saturating_sub(self.granted);
        if free == 0 || (self.granted > 0 && free < self.ahead.room(0, 0).div_ceil(4)) {
            return Ok(());
        }
        self.granted += free;
        let credit = u32::try_from(self.granted).unwrap_or(u32::MAX);
        self.receiver.set_credit(credit).await.map_err(|error| self.connector.explain("consume", error))
    }

    fn pass_on(&mut self, delivery: Delivery<Body<Value>>) {
        let (info, message) = delivery.into_parts();
        self.granted = self.granted.saturating_sub(1);
        let size = wire::size(&message);
        self.held.insert(info.delivery_id(), (info.clone(), size));
        self.held_bytes += size;
        let failures = message.header.as_ref().map_or(0, |header| header.delivery_count);
        // If nobody waits for it any more, the next command is that there are no more commands.
        let _ = self.fetched.send(Ok(Fetched { message, failures, info, size }));
    }

    async fn settle(&mut self, messages: Vec<DeliveryInfo>) -> Result<()> {
        for message in &messages {
            let (_, size) = self.held.remove(&message.delivery_id()).unzip();
            self.held_bytes -= size.unwrap_or(0);
        }
        let settled = self.receiver.dispose_all(messages, Accepted {}).await;
        settled.map_err(|error| self.connector.explain("settle", error).of(&self.source.name))
    }

    /// Asks something behind the settlements, in the same session. The broker answers after it has written what came
    /// before.
    async fn flush(&mut self) -> Result<()> {
        let flushed = match self.source.flush.clone() {
            Flush::Message(route) => self.send_behind(route).await,
            Flush::Request { node, session } => self.ask_behind(&node, session).await,
        };
        if flushed.is_err() {
            // An answer may still come on its links.
            self.sync = None;
        }
        flushed.map_err(|error| error.of(&self.source.name))
    }

    async fn send_behind(&mut self, route: Route) -> Result<()> {
        let sync = match &mut self.sync {
            Some(Sync::Messages(sync)) => sync,
            none => {
                let attached = sender(&mut self.session, FLUSH, Some(&route.to)).await?;
                let Sync::Messages(sync) = none.insert(Sync::Messages(Box::new(attached))) else { return Ok(()) };
                sync
            }
        };
        let to = route.to.clone();
        let sent = answer(FLUSH, sync.send(wire::brief(route, b""))).await?;
        let outcome = sent.map_err(|error| self.connector.explain(FLUSH, error))?;
        if outcome.is_accepted() {
            return Ok(());
        }
        let message = format!("the broker does not take messages to {to}: {outcome:?}; declare again");
        Err(Error::new(ErrorKind::Disconnected, FLUSH, message))
    }

    /// Renews the lock of the session. Where there is no session, looks at the first message.
    async fn ask_behind(&mut self, node: &str, session: Option<String>) -> Result<()> {
        let sync = match &mut self.sync {
            Some(Sync::Requests(sync)) => sync,
            none => {
                let opened = Requests::open(&mut self.session, FLUSH, node).await?;
                let Sync::Requests(sync) = none.insert(Sync::Requests(Box::new(opened))) else { return Ok(()) };
                sync
            }
        };
        let text = |text: &str| Value::String(text.to_owned());
        let mut arguments = Fields::default();
        let request = match session {
            Some(session) => {
                arguments.insert(text("session-id"), Value::String(session));
                RENEW
            }
            None => {
                arguments.insert(text("from-sequence-number"), Value::Long(0));
                arguments.insert(text("message-count"), Value::Int(1));
                PEEK
            }
        };
        sync.ask(&self.connector, FLUSH, request, arguments).await.map(drop)
    }

    /// Gives the queue back, with everything that is unsettled in it. The broker puts that back in order.
    async fn detach(self) {
        let Self { mut session, receiver, held, source, sync, .. } = self;
        let detaching = async {
            if source.marks && !held.is_empty() {
                let failed =
                    Modified { delivery_failed: Some(true), undeliverable_here: None, message_annotations: None };
                let _ =
                    receiver.dispose_all(held.into_values().map(|(info, _)| info).collect::<Vec<_>>(), failed).await;
            }
            let _ = receiver.close().await;
            drop(sync);
            let _ = session.end().await;
        };
        // A session that does not end goes with the connection.
        let _ = timeout(DETACH_TIMEOUT, detaching).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_broker_may_send_what_fits_by_number_and_by_bytes() {
        let by_number = Ahead::from(10);
        assert_eq!([by_number.room(4, 1 << 40), by_number.room(10, 0), by_number.room(11, 0)], [6, 0, 0]);
        let by_bytes = Ahead { messages: 10, bytes: Some((1_000, 300)) };
        assert_eq!(
            [by_bytes.room(0, 0), by_bytes.room(1, 300), by_bytes.room(1, 701), by_bytes.room(1, 2_000)],
            [3, 2, 0, 0]
        );
        assert_eq!(by_bytes.room(9, 0), 1);
    }
}
