use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::BytesMut;
use partitura_broker::{Error, ErrorKind, Result};
use pulsar::Payload;
use pulsar::message::Codec;
use pulsar::proto::{BaseCommand, CommandSend, MessageIdData};
use tokio::io::{AsyncReadExt, AsyncWriteExt, split};
use tokio::sync::{mpsc, oneshot};
use tokio::task::AbortHandle;
use tokio::time::timeout;
use tokio_rustls::rustls::ClientConfig;
use tokio_util::codec::Decoder;

use super::command::{self, Subscribe};
use super::identity::Identity;
use super::pending::{ConsumerInput, Outcome, Pending};
use super::reader::Reader;
use super::socket::{self, Socket};
use super::writer::{ToWrite, encode, write_all};
use crate::error;
use crate::options::Host;

/// The time in which the broker answers a request.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(15);

/// One connection to one broker. Commands are written in order.
#[derive(Debug)]
pub(crate) struct Connection {
    /// Bounded by the producers' windows, the consumers' credit, and one command per request.
    outgoing: mpsc::UnboundedSender<ToWrite>,
    pending: Arc<Pending>,
    ids: AtomicU64,
    reader: AbortHandle,
    writer: AbortHandle,
}

impl Connection {
    /// Connects and authenticates.
    pub(super) async fn open(
        host: &Host,
        broker: Option<String>,
        tls: Option<&Arc<ClientConfig>>,
        identity: Arc<Identity>,
    ) -> Result<Self> {
        let token = identity.token().await?;
        let mut socket = socket::open(host, tls).await?;
        let mut received = BytesMut::new();
        let greeting = greet(&mut socket, &mut received, command::connect(token, broker));
        let answer = timeout(REQUEST_TIMEOUT, greeting).await.map_err(|_| error::timeout("connect").of(host))?;
        answer.map_err(|error| error.of(host))?;

        let (read, write) = split(socket);
        let (outgoing, commands) = mpsc::unbounded_channel();
        let pending = Arc::new(Pending::default());
        let reader =
            Reader { socket: read, received, pending: pending.clone(), outgoing: outgoing.downgrade(), identity };
        let reader = tokio::spawn(reader.run()).abort_handle();
        let writer = tokio::spawn(write_all(write, commands, pending.clone())).abort_handle();
        Ok(Self { outgoing, pending, ids: AtomicU64::new(1), reader, writer })
    }

    pub(crate) fn is_open(&self) -> bool {
        self.pending.is_open()
    }

    /// Sends a request, and waits for the answer. A refusal is an error.
    pub(crate) async fn request(
        &self,
        operation: &'static str,
        ask: impl FnOnce(u64) -> BaseCommand,
    ) -> Result<Box<BaseCommand>> {
        let id = self.next_id();
        let answer = self.pending.request(operation, id)?;
        self.command(ask(id));
        let answer = timeout(REQUEST_TIMEOUT, answer).await;
        let Ok(answer) = answer else {
            self.pending.remove(id);
            return Err(error::timeout(operation));
        };
        let answer = answer.map_err(|_| error::disconnected(operation))?;
        match &answer.error {
            Some(refusal) => Err(error::from_server(operation, refusal.error, &refusal.message)),
            None => Ok(answer),
        }
    }

    /// Sends an entry of a producer.
    pub(crate) fn publish(&self, send: CommandSend, payload: Payload) {
        self.send(ToWrite::Entry(send, Box::new(payload)));
    }

    /// Acknowledges. The broker confirms this only to a later request.
    pub(crate) fn acknowledge(&self, consumer: u64, ids: Vec<MessageIdData>) {
        self.send(ToWrite::Acknowledge(consumer, ids));
    }

    /// Sends a command that has no answer.
    pub(crate) fn command(&self, command: BaseCommand) {
        self.send(ToWrite::Command(Box::new(command)));
    }

    fn send(&self, outgoing: ToWrite) {
        // A connection that is gone has told all callers.
        let _ = self.outgoing.send(outgoing);
    }

    fn next_id(&self) -> u64 {
        self.ids.fetch_add(1, Ordering::Relaxed)
    }

    /// Subscribes. Entries go to `to` under `number`, as soon as the broker is granted some.
    pub(crate) async fn subscribe(
        self: &Arc<Self>,
        operation: &'static str,
        subscribe: &Subscribe,
        number: usize,
        to: mpsc::UnboundedSender<ConsumerInput>,
    ) -> Result<Registered> {
        let id = self.next_id();
        self.pending.consumer(operation, id, number, to)?;
        let registered = Registered { connection: self.clone(), id, kind: Kind::Consumer, closed: false };
        self.request(operation, |request| command::subscribe(request, id, subscribe)).await?;
        Ok(registered)
    }

    /// Opens a producer. Returns the name that the broker gave it, too.
    pub(crate) async fn produce(
        self: &Arc<Self>,
        operation: &'static str,
        topic: String,
        to: mpsc::UnboundedSender<Outcome>,
    ) -> Result<(Registered, String)> {
        let id = self.next_id();
        self.pending.producer(operation, id, to)?;
        let registered = Registered { connection: self.clone(), id, kind: Kind::Producer, closed: false };
        let answer = self.request(operation, |request| command::produce(request, id, topic)).await?;
        let success = answer.producer_success.ok_or_else(|| error::unexpected(operation, "no name for a producer"))?;
        Ok((registered, success.producer_name))
    }

    /// Writes all queued commands, and closes.
    pub(super) async fn close(&self) {
        let (written, done) = oneshot::channel();
        self.send(ToWrite::Close(written));
        let _ = timeout(REQUEST_TIMEOUT, done).await;
        self.pending.close();
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.reader.abort();
        self.writer.abort();
    }
}

/// A consumer or producer that the broker knows. Dropping it closes it, even if the broker has not answered yet.
#[derive(Debug)]
pub(crate) struct Registered {
    connection: Arc<Connection>,
    id: u64,
    kind: Kind,
    closed: bool,
}

#[derive(Debug, Clone, Copy)]
enum Kind {
    Consumer,
    Producer,
}

impl Registered {
    pub(crate) fn id(&self) -> u64 {
        self.id
    }

    pub(crate) fn connection(&self) -> &Connection {
        &self.connection
    }

    /// Closes it and waits until the broker has done so.
    pub(crate) async fn close(mut self, operation: &'static str) -> Result<()> {
        let closed = self.connection.request(operation, |request| self.closing(request)).await;
        self.closed = closed.is_ok();
        closed.map(drop)
    }

    fn closing(&self, request: u64) -> BaseCommand {
        match self.kind {
            Kind::Consumer => command::close_consumer(request, self.id),
            Kind::Producer => command::close_producer(request, self.id),
        }
    }
}

impl Drop for Registered {
    fn drop(&mut self) {
        self.connection.pending.remove(self.id);
        if !self.closed {
            self.connection.command(self.closing(self.connection.next_id()));
        }
    }
}

/// Authenticates, and waits until this is accepted.
async fn greet(socket: &mut dyn Socket, received: &mut BytesMut, connect: BaseCommand) -> Result<()> {
    let mut greeting = BytesMut::new();
    encode(connect, None, &mut greeting);
    socket.write_all(&greeting).await.map_err(|error| error::disconnected("connect").because(error))?;
    loop {
        if let Some(frame) = Codec.decode(received).map_err(|error| error::unexpected("connect", error))? {
            if let Some(refusal) = frame.command.error {
                return Err(error::from_server("connect", refusal.error, &refusal.message));
            }
            return match frame.command.connected {
                Some(_) => Ok(()),
                None => Err(error::unexpected("connect", "another command than CONNECTED")),
            };
        }
        match socket.read_buf(received).await {
            Ok(0) => return Err(error::disconnected("connect")),
            Ok(_) => {}
            Err(error) => return Err(error::disconnected("connect").because(error)),
        }
    }
}

/// Reads the answer to an acknowledgement.
pub(crate) fn acknowledged(answer: &BaseCommand) -> Result<()> {
    match answer.ack_response.as_ref() {
        Some(response) => match response.error {
            Some(code) => {
                let text = response.message.as_deref().unwrap_or_default();
                Err(error::from_server("settle", code, text))
            }
            None => Ok(()),
        },
        None => Err(Error::new(ErrorKind::Incompatible, "settle", "the broker does not confirm acknowledgements")),
    }
}
