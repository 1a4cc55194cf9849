use std::sync::Arc;

use bytes::BytesMut;
use pulsar::Payload;
use pulsar::message::{Codec, Message as Frame};
use pulsar::proto::{BaseCommand, CommandSend, MessageIdData};
use tokio::io::{AsyncWriteExt, WriteHalf};
use tokio::sync::{mpsc, oneshot};
use tokio_util::codec::Encoder;

use super::command;
use super::pending::Pending;
use super::socket::Socket;

/// The number of bytes that are gathered before they are written.
const CHUNK: usize = 1 << 20;
/// The number of commands that are taken at once.
const COMMANDS: usize = 512;

/// A command to be written.
#[derive(Debug)]
pub(super) enum ToWrite {
    Command(Box<BaseCommand>),
    Entry(CommandSend, Box<Payload>),
    /// Gathered with those of the same consumer that follow at once.
    Acknowledge(u64, Vec<MessageIdData>),
    /// Answered when all commands before it are written.
    Close(oneshot::Sender<()>),
}

/// Writes commands until the connection is dropped or broken.
pub(super) async fn write_all(
    mut socket: WriteHalf<Box<dyn Socket>>,
    mut commands: mpsc::UnboundedReceiver<ToWrite>,
    pending: Arc<Pending>,
) {
    let (mut batch, mut bytes) = (Vec::with_capacity(COMMANDS), BytesMut::new());
    while commands.recv_many(&mut batch, COMMANDS).await > 0 {
        let mut acks: Option<Acknowledgements> = None;
        let mut written = None;
        for outgoing in batch.drain(..) {
            if let ToWrite::Acknowledge(consumer, ids) = outgoing {
                match &mut acks {
                    Some(gathered) if gathered.consumer == consumer => gathered.ids.extend(ids),
                    _ => {
                        flush_acks(&mut acks, &mut bytes);
                        acks = Some(Acknowledgements { consumer, ids });
                    }
                }
                continue;
            }
            flush_acks(&mut acks, &mut bytes);
            match outgoing {
                ToWrite::Command(command) => encode(*command, None, &mut bytes),
                ToWrite::Entry(send, payload) => encode(command::send(send), Some(*payload), &mut bytes),
                ToWrite::Close(done) => written = Some(done),
                ToWrite::Acknowledge(..) => {}
            }
            if bytes.len() >= CHUNK && socket.write_all_buf(&mut bytes).await.is_err() {
                return pending.close();
            }
        }
        flush_acks(&mut acks, &mut bytes);
        if socket.write_all_buf(&mut bytes).await.is_err() || socket.flush().await.is_err() {
            return pending.close();
        }
        if let Some(written) = written {
            let _ = socket.shutdown().await;
            let _ = written.send(());
            return;
        }
    }
}

/// Acknowledgements of one consumer, gathered into one command.
struct Acknowledgements {
    consumer: u64,
    ids: Vec<MessageIdData>,
}

fn flush_acks(acks: &mut Option<Acknowledgements>, to: &mut BytesMut) {
    if let Some(Acknowledgements { consumer, ids }) = acks.take() {
        encode(command::acknowledge(None, consumer, ids), None, to);
    }
}

pub(super) fn encode(command: BaseCommand, payload: Option<Payload>, to: &mut BytesMut) {
    if let Err(error) = Codec.encode(Frame { command, payload }, to) {
        // Writing to memory does not fail.
        tracing::error!(%error, "a command could not be encoded");
    }
}
