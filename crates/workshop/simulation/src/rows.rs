//! Values as the engine stores them.

use bytes::Bytes;
use partitura::history::HISTORY_FORMAT;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// A value, as the engine stores it.
#[derive(Serialize, Deserialize)]
struct Row<T> {
    format: u32,
    body: T,
}

/// Encodes a value again, for mutants.
pub(crate) fn row<T: Serialize>(body: T) -> Bytes {
    row_of(HISTORY_FORMAT, body)
}

/// The same, of another format.
pub(crate) fn row_of<T: Serialize>(format: u32, body: T) -> Bytes {
    serde_json::to_vec(&Row { format, body }).unwrap_or_default().into()
}

/// Decodes the stored state of an instance, without its envelope.
pub(crate) fn body<T: DeserializeOwned>(value: &[u8]) -> Result<T, serde_json::Error> {
    serde_json::from_slice(value).map(|row: Row<T>| row.body)
}

/// Whether a text is in a value: before it is worth decoding.
pub(crate) fn mentions(value: &[u8], text: &str) -> bool {
    std::str::from_utf8(value).is_ok_and(|value| value.contains(text))
}
