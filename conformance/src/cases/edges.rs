use std::collections::HashMap;

use bytes::Bytes;
use partitura_broker::{ErrorKind, Message};

use crate::case::case;
use crate::client::Queue;
use crate::stop::ensure;
use crate::{Case, CaseResult, Env};

pub(super) const CASES: &[Case] = &[
    case!(
        "payload.edges",
        One,
        [],
        "payloads of no byte, of any bytes and of the limit pass; one byte more is refused",
        payload
    ),
    case!(
        "header.edges",
        One,
        [],
        "headers with empty, long, equal and Unicode names pass up to the limits; beyond them they are refused",
        header
    ),
    case!("key.edges", One, [], "no key is not the empty key; keys need not be text; the limit is exact", key),
    case!("id.edges", One, [], "ids of 1 to 255 visible ASCII characters pass, others are refused", id),
];

async fn payload(env: &Env) -> CaseResult {
    let queue = env.orders();
    let limit = env.capabilities().limits.payload;
    let of = |i, payload: Vec<u8>| Message { payload: payload.into(), ..queue.message("k", i) };
    let every_byte: Vec<u8> = (0..=255).cycle().take(70_000).collect();
    let pass =
        vec![of(0, vec![]), of(1, vec![0]), of(2, every_byte), of(3, vec![0xff; limit - 1]), of(4, vec![1; limit])];
    let fail = vec![of(5, vec![1; limit + 1]), of(6, vec![1; 2 * limit])];
    try_edges(env, &queue, pass, fail, ErrorKind::PayloadTooLarge).await
}

async fn header(env: &Env) -> CaseResult {
    let queue = env.orders();
    let limits = env.capabilities().limits;
    let of = |i, headers: Vec<(String, Vec<u8>)>| {
        let mut message = queue.message("k", i);
        headers.into_iter().for_each(|(name, value)| message.headers.append(&name, value));
        message
    };
    let many = |count: usize| (0..count).map(|i| (format!("h{i}"), vec![i as u8])).collect();
    let large = |bytes: usize| vec![("h".to_owned(), vec![7; bytes - 1])];
    let name = |name: &str| vec![(name.to_owned(), b"value".to_vec())];
    let pass = vec![
        of(0, many(0)),
        of(1, vec![("twice".into(), vec![1]), ("twice".into(), vec![2]), ("Twice".into(), vec![])]),
        of(2, name("größe-\u{1f3bc}")),
        of(3, name("with spaces: and, colons")),
        of(4, vec![("bytes".into(), (0..=255).collect())]),
        of(5, name("content-type")),
        of(6, name("partitura-conformance")),
        of(7, many(limits.headers)),
        of(8, large(limits.header_bytes)),
        of(9, name("x".repeat(1_000).as_str())),
    ];
    let fail = vec![of(10, many(limits.headers + 1)), of(11, large(limits.header_bytes + 1))];
    try_edges(env, &queue, pass, fail, ErrorKind::InvalidArgument).await
}

async fn key(env: &Env) -> CaseResult {
    let queue = env.orders();
    let limit = env.capabilities().limits.key;
    let of = |i: usize, key: Option<Vec<u8>>| Message { key: key.map(Bytes::from), ..queue.message("any", i) };
    let pass = vec![
        of(0, None),
        of(1, Some(vec![])),
        of(2, Some(vec![0])),
        of(3, Some(vec![0xff, 0xfe, 0x00, 0x80])),
        of(4, Some("größe-\u{1f3bc} .*>/".into())),
        of(5, Some(vec![b'k'; limit])),
    ];
    let fail = vec![of(6, Some(vec![b'k'; limit + 1]))];
    try_edges(env, &queue, pass, fail, ErrorKind::InvalidArgument).await
}

async fn id(env: &Env) -> CaseResult {
    let queue = env.orders();
    let of = |id: &str| Message { id: id.into(), ..queue.message("k", 0) };
    let visible: String = ('!'..='~').collect();
    let pass = vec![of("1"), of(&visible), of(&"i".repeat(255))];
    let fail = vec![of(""), of("a b"), of("größe"), of("line\n"), of(&"i".repeat(256))];
    try_edges(env, &queue, pass, fail, ErrorKind::InvalidArgument).await
}

/// A message within the limits arrives as it was sent. A message beyond them is refused, alone, and never arrives.
async fn try_edges(env: &Env, queue: &Queue, pass: Vec<Message>, fail: Vec<Message>, kind: ErrorKind) -> CaseResult {
    let client = env.connect().await?;
    client.declare(&queue.topology()).await?;
    let batch: Vec<Message> = fail.iter().chain(&pass).cloned().collect();
    for (message, result) in batch.iter().zip(client.try_publish(batch.clone()).await?) {
        let refused = fail.contains(message).then_some(kind);
        let found = result.err().map(|error| error.kind());
        ensure!(found == refused, "{:?}: {refused:?} was expected, {found:?} came", message.id);
    }
    let mut member = client.join(queue.options()).await?;
    let got = member.drain_until(pass.iter().map(|message| message.id.to_string())).await?;
    let got: HashMap<&str, &Message> = got.iter().map(|d| (d.message.id.as_str(), &d.message)).collect();
    ensure!(got.len() == pass.len(), "{} messages came, {} were sent", got.len(), pass.len());
    for message in &pass {
        let found = got.get(message.id.as_str());
        ensure!(
            found == Some(&message),
            "{} differs: key {:?}, headers {:?}",
            message.id,
            message.key,
            message.headers
        );
    }
    Ok(())
}
