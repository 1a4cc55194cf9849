//! A message as a row, and back. Key, headers and payload may be any bytes.

use std::collections::HashSet;

use bytes::{Buf, BufMut, Bytes};
use partitura_adapter_kit::Claimed;
use partitura_broker::{Delayed, Headers, Message, Partition, Timestamp, TopicName};
use sqlx::postgres::{PgArguments, PgRow};
use sqlx::query::Query;
use sqlx::{Postgres, Row as _};

/// A statement with its arguments.
pub(crate) type Statement = Query<'static, Postgres, PgArguments>;

/// A number of messages, and their bytes.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Amount {
    pub(crate) messages: usize,
    pub(crate) bytes: usize,
}

/// The value by which a message is settled.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Handle {
    /// The number of its row.
    pub(crate) number: i64,
    pub(crate) bytes: usize,
}

/// A message to store.
pub(crate) struct Row<'a> {
    /// The address of the line: a topic, or an inbox.
    pub(crate) address: &'a str,
    pub(crate) partition: Partition,
    pub(crate) message: &'a Message,
}

/// A delayed message to cancel.
pub(crate) struct DelayedRow<'a> {
    pub(crate) partition: Partition,
    pub(crate) delayed: &'a Delayed,
}

/// Stores messages, in this order: one statement, and so one transaction.
pub(crate) fn publish(rows: &[Row<'_>]) -> Statement {
    let messages = || rows.iter().map(|row| row.message);
    let headers: Vec<Vec<u8>> = messages().map(|message| encode_headers(&message.headers)).collect();
    sqlx::query("SELECT publish($1, $2, $3, $4, $5, $6, $7)")
        .bind(rows.iter().map(|row| row.address.to_owned()).collect::<Vec<_>>())
        .bind(rows.iter().map(|row| row.partition.0.cast_signed()).collect::<Vec<_>>())
        .bind(messages().map(|message| message.id.to_string()).collect::<Vec<_>>())
        .bind(messages().map(|message| message.key.as_ref().map(|key| key.to_vec())).collect::<Vec<_>>())
        .bind(headers)
        .bind(messages().map(|message| message.payload.to_vec()).collect::<Vec<_>>())
        .bind(messages().map(|message| message.not_before.map(millis)).collect::<Vec<_>>())
}

/// Cancels waiting messages.
pub(crate) fn cancel(rows: &[DelayedRow<'_>]) -> Statement {
    let delayed = || rows.iter().map(|row| row.delayed);
    sqlx::query("SELECT which FROM cancel($1, $2, $3, $4)")
        .bind(delayed().map(|delayed| delayed.topic.to_string()).collect::<Vec<_>>())
        .bind(rows.iter().map(|row| row.partition.0.cast_signed()).collect::<Vec<_>>())
        .bind(delayed().map(|delayed| delayed.id.to_string()).collect::<Vec<_>>())
        .bind(delayed().map(|delayed| millis(delayed.not_before)).collect::<Vec<_>>())
}

/// Returns the places of the messages that were cancelled.
pub(crate) fn cancelled(rows: &[PgRow]) -> sqlx::Result<HashSet<usize>> {
    let place = |row: &PgRow| Ok(usize::try_from(row.try_get::<i64, _>("which")?).unwrap_or_default().wrapping_sub(1));
    rows.iter().map(place).collect()
}

/// Reads the next messages of a line, and in how many milliseconds the next delayed one will be due.
pub(crate) fn take(line: i32, owner: i64, most: Amount, now: Timestamp) -> Statement {
    let messages = i32::try_from(most.messages).unwrap_or(i32::MAX);
    let bytes = i64::try_from(most.bytes).unwrap_or(i64::MAX);
    let take = sqlx::query("SELECT * FROM take($1, $2, $3, $4, $5)").bind(line).bind(owner).bind(messages).bind(bytes);
    // A message is never early, by the server's clock and by ours.
    take.bind(millis(now))
}

/// Reads a row of the result of [`take`]; `None` for the row without a message.
pub(crate) fn claimed(topic: &TopicName, row: &PgRow) -> sqlx::Result<Option<Claimed<Handle>>> {
    let Some(number) = row.try_get("number")? else { return Ok(None) };
    let mut message =
        Message::new(topic.clone(), row.try_get::<String, _>("id")?, row.try_get::<Vec<u8>, _>("payload")?);
    message.key = row.try_get::<Option<Vec<u8>>, _>("key")?.map(Bytes::from);
    message.headers = decode_headers(row.try_get::<Vec<u8>, _>("headers")?.into())
        .ok_or_else(|| sqlx::Error::Decode("these headers cannot be read".into()))?;
    let due: Option<i64> = row.try_get("due")?;
    message.not_before = due.map(|due| Timestamp::from_millis(due.unsigned_abs()));
    let partition = Partition(row.try_get::<i32, _>("partition")?.cast_unsigned());
    let redelivered = row.try_get::<i32, _>("deliveries")? > 1;
    let handle = Handle { number, bytes: message.size() };
    Ok(Some(Claimed { partition, message, redelivered, handle }))
}

/// Postgres has no unsigned numbers. Larger values were refused before, as too long a delay.
fn millis(moment: Timestamp) -> i64 {
    i64::try_from(moment.as_millis()).unwrap_or(i64::MAX)
}

/// Writes the name and value of each header, in order, with their lengths before them.
fn encode_headers(headers: &Headers) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(headers.size() + 8 * headers.len());
    for (name, value) in headers.iter() {
        for part in [name.as_bytes(), value] {
            // Their sizes were checked against limits far below.
            bytes.put_u32(u32::try_from(part.len()).unwrap_or(u32::MAX));
            bytes.put_slice(part);
        }
    }
    bytes
}

fn decode_headers(mut bytes: Bytes) -> Option<Headers> {
    let mut headers = Headers::default();
    while !bytes.is_empty() {
        let name = decode_part(&mut bytes)?;
        headers.append(std::str::from_utf8(&name).ok()?, decode_part(&mut bytes)?);
    }
    Some(headers)
}

fn decode_part(bytes: &mut Bytes) -> Option<Bytes> {
    let length = usize::try_from(bytes.try_get_u32().ok()?).ok()?;
    (length <= bytes.len()).then(|| bytes.split_to(length))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_come_back_as_they_were_and_damaged_ones_are_noticed() {
        let mut headers = Headers::default();
        for (name, value) in [("", &b""[..]), ("ü", b"\0\xff"), ("twice", b"1"), ("twice", b"2")] {
            headers.append(name, value);
        }
        let bytes = encode_headers(&headers);
        assert_eq!(decode_headers(bytes.clone().into()), Some(headers));
        assert_eq!(decode_headers(Bytes::from(bytes).slice(..9)), None);
        assert_eq!(decode_headers(Bytes::new()), Some(Headers::default()));
    }
}
