use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use partitura_broker::Result;
use pulsar::message::{Codec, Message as Frame};
use pulsar::proto::BaseCommand;
use pulsar::proto::base_command::Type;
use tokio::io::{AsyncReadExt, ReadHalf};
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_util::codec::Decoder;

use super::command;
use super::identity::Identity;
use super::pending::{Incoming, Outcome, Pending};
use super::socket::Socket;
use super::writer::ToWrite;
use crate::error;

/// The time without a command from the broker after which it is sent a ping.
const QUIET: Duration = Duration::from_secs(5);
/// The number of times [`QUIET`] without a command after which the connection counts as lost.
const SILENCES: u32 = 3;

/// Reads commands and passes them on. Never waits for the receivers, whose credit bounds the entries.
pub(super) struct Reader {
    pub(super) socket: ReadHalf<Box<dyn Socket>>,
    pub(super) received: BytesMut,
    pub(super) pending: Arc<Pending>,
    pub(super) outgoing: mpsc::WeakUnboundedSender<ToWrite>,
    pub(super) identity: Arc<Identity>,
}

impl Reader {
    pub(super) async fn run(mut self) {
        if let Err(error) = self.read().await {
            tracing::debug!(%error, "closing a connection");
        }
        self.pending.close();
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
            let _ = outgoing.send(ToWrite::Command(Box::new(command)));
        }
    }

    fn take(&self, frame: Frame) {
        let Frame { command, payload } = frame;
        match (Type::try_from(command.r#type), payload) {
            (Ok(Type::Message), Some(payload)) => {
                if let Some(message) = command.message {
                    self.pending.tell_consumer(message.consumer_id, Incoming::Entry(message, Box::new(payload)));
                }
            }
            (Ok(Type::SendReceipt), _) => {
                if let Some(receipt) = command.send_receipt {
                    self.pending.tell_producer(receipt.producer_id, Outcome::Stored(receipt.sequence_id));
                }
            }
            (Ok(Type::SendError), _) => {
                if let Some(refused) = command.send_error {
                    let error = error::from_server("publish", refused.error, &refused.message);
                    self.pending.tell_producer(refused.producer_id, Outcome::Refused(refused.sequence_id, error));
                }
            }
            (Ok(Type::CloseConsumer), _) => {
                if let Some(closed) = command.close_consumer {
                    self.pending.tell_consumer(closed.consumer_id, Incoming::Lost);
                }
            }
            (Ok(Type::CloseProducer), _) => {
                if let Some(closed) = command.close_producer {
                    self.pending.tell_producer(closed.producer_id, Outcome::Lost);
                }
            }
            (Ok(Type::Ping), _) => self.send(command::pong()),
            (Ok(Type::AuthChallenge), _) => self.authenticate(),
            _ => match answered(&command) {
                Some(request) => self.pending.answer(request, Box::new(command)),
                None => tracing::trace!(r#type = command.r#type, "ignoring a command"),
            },
        }
    }

    /// Sends a fresh token, for which the broker asked.
    fn authenticate(&self) {
        let (identity, outgoing) = (self.identity.clone(), self.outgoing.clone());
        tokio::spawn(async move {
            match identity.token().await {
                Ok(token) => {
                    let command = command::authenticate(token.unwrap_or_default());
                    let _ = outgoing.upgrade().map(|outgoing| outgoing.send(ToWrite::Command(Box::new(command))));
                }
                // The broker closes the connection, and the next one fails with this.
                Err(error) => tracing::warn!(%error, "the broker asks for a fresh token, and there is none"),
            }
        });
    }
}

/// The request that a command answers.
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
