//! Frames of AMQP 1.0 on a stream.

use std::io;

use fe2o3_amqp::types::performatives::Performative;
use serde::Serialize;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// The headers that begin the layers of a connection.
pub(super) const SASL: [u8; 8] = *b"AMQP\x03\x01\x00\x00";
pub(super) const AMQP: [u8; 8] = *b"AMQP\x00\x01\x00\x00";

/// The layer of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Layer {
    Amqp = 0,
    Sasl = 1,
}

/// The frame without a body, by which a side shows that it is there.
pub(super) const HEARTBEAT: [u8; 8] = [0, 0, 0, 8, 2, 0, 0, 0];

/// Writes a frame.
pub(super) fn frame(layer: Layer, channel: u16, body: &impl Serialize, payload: &[u8]) -> Vec<u8> {
    let body = serde_amqp::to_vec(body).expect("it can be written");
    let size = u32::try_from(8 + body.len() + payload.len()).expect("a small frame");
    let mut frame = size.to_be_bytes().to_vec();
    frame.extend([2, layer as u8]);
    frame.extend(channel.to_be_bytes());
    frame.extend(body);
    frame.extend(payload);
    frame
}

/// Reads a frame: its channel and its body.
pub(super) async fn read(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<(u16, Vec<u8>)> {
    let size = stream.read_u32().await?;
    let mut rest = vec![0; usize::try_from(size).expect("a small frame").saturating_sub(4)];
    stream.read_exact(&mut rest).await?;
    let (head, body) = rest.split_at(4);
    Ok((u16::from_be_bytes([head[2], head[3]]), body.to_vec()))
}

/// Reads the body of a frame of AMQP, and the rest: the message of a transfer. `None`: a heartbeat.
pub(super) fn performative(body: &[u8]) -> Option<(Performative, Vec<u8>)> {
    if body.is_empty() {
        return None;
    }
    let mut rest = body;
    let performative = serde_amqp::from_reader(&mut rest).expect("a frame of AMQP");
    Some((performative, rest.to_vec()))
}

/// Waits for a header, and answers it.
pub(super) async fn exchange(stream: &mut (impl AsyncRead + AsyncWrite + Unpin), header: [u8; 8]) -> io::Result<()> {
    let mut found = [0; 8];
    stream.read_exact(&mut found).await?;
    assert_eq!(found, header, "the header of a layer");
    stream.write_all(&header).await
}
