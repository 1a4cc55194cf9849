//! The one door for payloads that leave the process or come in: the codec of the application is applied here.

use std::sync::Arc;

use bytes::Bytes;
use partitura_broker::{Error, ErrorKind, Result};
use partitura_codec::{Codecs, PayloadCodec};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Writes and reads what holds payloads. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(crate) struct Payloads(Arc<Codecs>);

/// The value that was read, and why its first payload that is still encoded could not be decoded.
pub(crate) struct Read<T> {
    pub(crate) value: T,
    pub(crate) unreadable: Option<String>,
}

impl Payloads {
    pub(crate) fn write_with(&mut self, codec: Arc<dyn PayloadCodec>) {
        Arc::make_mut(&mut self.0).write_with(codec);
    }

    pub(crate) fn read_with(&mut self, codec: Arc<dyn PayloadCodec>) {
        Arc::make_mut(&mut self.0).read_with(codec);
    }

    /// Whether the names of the codecs can be told apart.
    pub(crate) fn check(&self) -> Result<()> {
        self.0.check().map_err(|problem| Error::new(ErrorKind::InvalidArgument, "connect", problem))
    }

    /// The codecs, for others that read payloads.
    pub(crate) fn codecs(&self) -> &Arc<Codecs> {
        &self.0
    }

    /// A build, as code that reads with these codecs: with others it may get further.
    pub(crate) fn of_build(&self, build: &str) -> String {
        self.0.names().fold(build.to_owned(), |code, name| format!("{code} {name}"))
    }

    pub(crate) fn encode<T: Serialize>(&self, value: &T) -> Bytes {
        self.0.within(|| super::encode(value)).0
    }

    pub(crate) fn decode<T: DeserializeOwned>(&self, bytes: &[u8]) -> Result<T, serde_json::Error> {
        self.0.within(|| super::decode(bytes)).0
    }

    /// As [`decode`](Self::decode), where payloads count that cannot be decoded.
    pub(crate) fn read<T: DeserializeOwned>(&self, bytes: &[u8]) -> Result<Read<T>, serde_json::Error> {
        let (value, unreadable) = self.0.within(|| super::decode(bytes));
        Ok(Read { value: value?, unreadable })
    }
}
