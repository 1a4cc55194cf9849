use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::BytesMut;
use partitura_broker::{Error, ErrorKind, Result};
use pulsar::Payload;
use pulsar::message::{Codec, Message as Frame};
use pulsar::proto::base_command::Type;
use pulsar::proto::{BaseCommand, CommandSend, MessageIdData};
use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf, split};
use tokio::sync::{mpsc, oneshot};
use tokio::task::AbortHandle;
use tokio::time::timeout;
use tokio_rustls::rustls::ClientConfig;
use tokio_util::codec::{Decoder, Encoder};

use super::command::{self, Subscribe};
use super::socket::{self, Socket};
use super::table::{Incoming, Outcome, Table};
use crate::error;
use crate::identity::Identity;
use crate::options::Host;

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(15);
/// After so long without a word from the broker it is asked for one.
const QUIET: Duration = Duration::from_secs(5);
/// After so many times [`QUIET`] without any, the connection counts as lost.
const SILENCES: u32 = 3;
/// How much is gathered before it is written.
const CHUNK: usize = 1 << 20;
/// How many commands are taken up at once.
const COMMANDS: usize = 512;

/// One connection to one broker. What is written to it is written in order.
#[derive(Debug)]
pub(crate) struct Connection {
    /// Unbounded, and yet bounded: by the producers' windows, the consumers' credit, and one per request.
    outgoing: mpsc::UnboundedSender<Outgoing>,
    table: Arc<Table>,
    ids: AtomicU64,
    reader: AbortHandle,
    writer: AbortHandle,
}

#[derive(Debug)]
enum Outgoing {
    Command(Box<BaseCommand>),
    Entry(CommandSend, Box<Payload>),
    /// Gathered with those of the same consumer that follow at once.
    Acknowledge(u64, Vec<MessageIdData>),
    /// Everything before it has been written.
    Close(oneshot::Sender<()>),
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
        let answer = timeout(PATIENCE, greeting).await.map_err(|_| error::timeout("connect").of(host))?;
        answer.map_err(|error| error.of(host))?;

        let (read, write) = split(socket);
        let (outgoing, commands) = mpsc::unbounded_channel();
        let table = Arc::new(Table::default());
        let reader = Reader { socket: read, received, table: table.clone(), outgoing: outgoing.downgrade(), identity };
        let reader = tokio::spawn(reader.run()).abort_handle();
        let writer = tokio::spawn(write_all(write, commands, table.clone())).abort_handle();
        Ok(Self { outgoing, table, ids: AtomicU64::new(1), reader, writer })
    }

    pub(crate) fn is_open(&self) -> bool {
        self.table.is_open()
    }

    /// Asks, and waits for the answer. A refusal is an error.
    pub(crate) async fn request(
        &self,
        operation: &'static str,
        ask: impl FnOnce(u64) -> BaseCommand,
    ) -> Result<Box<BaseCommand>> {
        let id = self.next_id();
        let answer = self.table.request(operation, id)?;
        self.command(ask(id));
        let answer = timeout(PATIENCE, answer).await;
        let Ok(answer) = answer else {
            self.table.remove(id);
            return Err(error::timeout(operation));
        };
        let answer = answer.map_err(|_| error::disconnected(operation))?;
        match &answer.error {
            Some(refusal) => Err(error::of_server(operation, refusal.error, &refusal.message)),
            None => Ok(answer),
        }
    }

    /// Sends an entry of a producer.
    pub(crate) fn publish(&self, send: CommandSend, payload: Payload) {
        self.send(Outgoing::Entry(send, Box::new(payload)));
    }

    /// Acknowledges, sooner or later.
    pub(crate) fn acknowledge(&self, consumer: u64, ids: Vec<MessageIdData>) {
        self.send(Outgoing::Acknowledge(consumer, ids));
    }

    /// Sends a command whose answer nobody waits for.
    pub(crate) fn command(&self, command: BaseCommand) {
        self.send(Outgoing::Command(Box::new(command)));
    }

    fn send(&self, outgoing: Outgoing) {
        // A connection that is gone has told everybody.
        let _ = self.outgoing.send(outgoing);
    }

    fn next_id(&self) -> u64 {
        self.ids.fetch_add(1, Ordering::Relaxed)
    }

    /// Subscribes. What arrives goes to `to` under `number`, as soon as the broker is told that it may send.
    pub(crate) async fn subscribe(
        self: &Arc<Self>,
        operation: &'static str,
        subscribe: &Subscribe,
        number: usize,
        to: mpsc::UnboundedSender<(usize, Incoming)>,
    ) -> Result<Registered> {
        let id = self.next_id();
        self.table.consumer(operation, id, number, to)?;
        let registered = Registered { connection: self.clone(), id, kind: Kind::Consumer, closed: false };
        self.request(operation, |request| command::subscribe(request, id, subscribe)).await?;
        Ok(registered)
    }

    /// Opens a producer, and says by which name the broker knows it.
    pub(crate) async fn produce(
        self: &Arc<Self>,
        operation: &'static str,
        topic: String,
        to: mpsc::UnboundedSender<Outcome>,
    ) -> Result<(Registered, String)> {
        let id = self.next_id();
        self.table.producer(operation, id, to)?;
        let registered = Registered { connection: self.clone(), id, kind: Kind::Producer, closed: false };
        let answer = self.request(operation, |request| command::produce(request, id, topic)).await?;
        let success = answer.producer_success.ok_or_else(|| error::unexpected(operation, "no name for a producer"))?;
        Ok((registered, success.producer_name))
    }

    /// Writes what is still to be written, and closes.
    pub(super) async fn close(&self) {
        let (written, done) = oneshot::channel();
        self.send(Outgoing::Close(written));
        let _ = timeout(PATIENCE, done).await;
        self.table.close();
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.reader.abort();
        self.writer.abort();
    }
}

/// A consumer or producer that the broker knows. Dropping it closes it, also where the broker has not answered yet.
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
        self.connection.table.remove(self.id);
        if !self.closed {
            self.connection.command(self.closing(self.connection.next_id()));
        }
    }
}

/// Says who we are, and waits until that is accepted.
async fn greet(socket: &mut dyn Socket, received: &mut BytesMut, connect: BaseCommand) -> Result<()> {
    let mut greeting = BytesMut::new();
    encode(connect, None, &mut greeting);
    socket.write_all(&greeting).await.map_err(|error| error::disconnected("connect").because(error))?;
    loop {
        if let Some(frame) = Codec.decode(received).map_err(|error| error::unexpected("connect", error))? {
            if let Some(refusal) = frame.command.error {
                return Err(error::of_server("connect", refusal.error, &refusal.message));
            }
            return match frame.command.connected {
                Some(_) => Ok(()),
                None => Err(error::unexpected("connect", "a greeting that is none")),
            };
        }
        match socket.read_buf(received).await {
            Ok(0) => return Err(error::disconnected("connect")),
            Ok(_) => {}
            Err(error) => return Err(error::disconnected("connect").because(error)),
        }
    }
}

fn encode(command: BaseCommand, payload: Option<Payload>, to: &mut BytesMut) {
    if let Err(error) = Codec.encode(Frame { command, payload }, to) {
        // Writing to memory does not fail.
        tracing::error!(%error, "a command could not be encoded");
    }
}

/// Writes commands until the connection is dropped or broken.
async fn write_all(
    mut socket: WriteHalf<Box<dyn Socket>>,
    mut commands: mpsc::UnboundedReceiver<Outgoing>,
    table: Arc<Table>,
) {
    let (mut batch, mut bytes) = (Vec::with_capacity(COMMANDS), BytesMut::new());
    while commands.recv_many(&mut batch, COMMANDS).await > 0 {
        let mut acks: Option<(u64, Vec<MessageIdData>)> = None;
        let mut written = None;
        for outgoing in batch.drain(..) {
            if let Outgoing::Acknowledge(consumer, ids) = outgoing {
                match &mut acks {
                    Some((same, all)) if *same == consumer => all.extend(ids),
                    _ => {
                        flush_acks(&mut acks, &mut bytes);
                        acks = Some((consumer, ids));
                    }
                }
                continue;
            }
            flush_acks(&mut acks, &mut bytes);
            match outgoing {
                Outgoing::Command(command) => encode(*command, None, &mut bytes),
                Outgoing::Entry(send, payload) => encode(command::send(send), Some(*payload), &mut bytes),
                Outgoing::Close(done) => written = Some(done),
                Outgoing::Acknowledge(..) => {}
            }
            if bytes.len() >= CHUNK && socket.write_all_buf(&mut bytes).await.is_err() {
                return table.close();
            }
        }
        flush_acks(&mut acks, &mut bytes);
        if socket.write_all_buf(&mut bytes).await.is_err() || socket.flush().await.is_err() {
            return table.close();
        }
        if let Some(written) = written {
            let _ = socket.shutdown().await;
            let _ = written.send(());
            return;
        }
    }
}

fn flush_acks(acks: &mut Option<(u64, Vec<MessageIdData>)>, to: &mut BytesMut) {
    if let Some((consumer, ids)) = acks.take() {
        encode(command::acknowledge(None, consumer, ids), None, to);
    }
}

/// Reads what comes and passes it on. Never waits for who it goes to: their credit bounds it.
struct Reader {
    socket: ReadHalf<Box<dyn Socket>>,
    received: BytesMut,
    table: Arc<Table>,
    outgoing: mpsc::WeakUnboundedSender<Outgoing>,
    identity: Arc<Identity>,
}

impl Reader {
    async fn run(mut self) {
        if let Err(error) = self.read().await {
            tracing::debug!(%error, "a connection ended");
        }
        self.table.close();
    }

    async fn read(&mut self) -> Result<()> {
        let mut silences = 0;
        loop {
            while let Some(frame) =
                Codec.decode(&mut self.received).map_err(|error| error::unexpected("read", error))?
            {
                self.take(frame);
            }
            match timeout(QUIET, self.socket.read_buf(&mut self.received)).await {
                Ok(Ok(0)) => return Err(error::disconnected("read")),
                Ok(Ok(_)) => silences = 0,
                Ok(Err(error)) => return Err(error::disconnected("read").because(error)),
                Err(_) if silences + 1 >= SILENCES => return Err(error::timeout("read")),
                Err(_) => {
                    silences += 1;
                    self.send(command::ping());
                }
            }
        }
    }

    fn send(&self, command: BaseCommand) {
        if let Some(outgoing) = self.outgoing.upgrade() {
            let _ = outgoing.send(Outgoing::Command(Box::new(command)));
        }
    }

    fn take(&self, frame: Frame) {
        let Frame { command, payload } = frame;
        match (Type::try_from(command.r#type), payload) {
            (Ok(Type::Message), Some(payload)) => {
                if let Some(message) = command.message {
                    self.table.tell_consumer(message.consumer_id, Incoming::Entry(message, Box::new(payload)));
                }
            }
            (Ok(Type::SendReceipt), _) => {
                if let Some(receipt) = command.send_receipt {
                    self.table.tell_producer(receipt.producer_id, Outcome::Stored(receipt.sequence_id));
                }
            }
            (Ok(Type::SendError), _) => {
                if let Some(refused) = command.send_error {
                    let error = error::of_server("publish", refused.error, &refused.message);
                    self.table.tell_producer(refused.producer_id, Outcome::Refused(refused.sequence_id, error));
                }
            }
            (Ok(Type::CloseConsumer), _) => {
                if let Some(closed) = command.close_consumer {
                    self.table.tell_consumer(closed.consumer_id, Incoming::Lost);
                }
            }
            (Ok(Type::CloseProducer), _) => {
                if let Some(closed) = command.close_producer {
                    self.table.tell_producer(closed.producer_id, Outcome::Lost);
                }
            }
            (Ok(Type::Ping), _) => self.send(command::pong()),
            (Ok(Type::AuthChallenge), _) => self.authenticate(),
            _ => match answered(&command) {
                Some(request) => self.table.answer(request, Box::new(command)),
                None => tracing::trace!(r#type = command.r#type, "a command of no use to us"),
            },
        }
    }

    /// The broker wants to see a fresh token.
    fn authenticate(&self) {
        let (identity, outgoing) = (self.identity.clone(), self.outgoing.clone());
        tokio::spawn(async move {
            match identity.token().await {
                Ok(token) => {
                    let command = command::authenticate(token.unwrap_or_default());
                    let _ = outgoing.upgrade().map(|outgoing| outgoing.send(Outgoing::Command(Box::new(command))));
                }
                // The broker closes the connection, and the next one fails with this.
                Err(error) => tracing::warn!(%error, "no fresh token for the broker"),
            }
        });
    }
}

/// Which request a command answers.
fn answered(command: &BaseCommand) -> Option<u64> {
    let BaseCommand { success, error, producer_success, lookup_topic_response, .. } = command;
    success
        .as_ref()
        .map(|answer| answer.request_id)
        .or_else(|| error.as_ref().map(|answer| answer.request_id))
        .or_else(|| producer_success.as_ref().map(|answer| answer.request_id))
        .or_else(|| lookup_topic_response.as_ref().map(|answer| answer.request_id))
        .or_else(|| command.get_last_message_id_response.as_ref().map(|answer| answer.request_id))
        .or_else(|| command.ack_response.as_ref().and_then(|answer| answer.request_id))
}

/// What an answer that is no error says about acknowledgements.
pub(crate) fn acknowledged(answer: &BaseCommand) -> Result<()> {
    match answer.ack_response.as_ref() {
        Some(response) => match response.error {
            Some(code) => {
                let text = response.message.as_deref().unwrap_or_default();
                Err(error::of_server("settle", code, text))
            }
            None => Ok(()),
        },
        None => Err(Error::new(ErrorKind::Incompatible, "settle", "the broker does not confirm acknowledgements")),
    }
}
