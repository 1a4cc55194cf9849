//! An application's own codec: what is done to the text of a payload before it leaves the process.

use std::cell::RefCell;
use std::error::Error;
use std::fmt;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::value::RawValue;

/// The beginning of every encoded payload.
const MARK: &str = r#"{"partitura.codec":"#;
/// The longest name of a codec, in bytes.
const LONGEST_NAME: usize = 100;

/// Encodes the payloads of an application: encrypts them, say, or compresses them.
///
/// A payload is JSON text while code works with it. The codec gets this text before the payload is sent or stored, and
/// gives it back after the payload was read. The same text may be encoded more than once, each time with another
/// result.
///
/// ```
/// use std::error::Error;
///
/// use partitura_codec::PayloadCodec;
///
/// /// Not a cipher: it only shows the form.
/// #[derive(Debug)]
/// struct Turned(u8);
///
/// impl PayloadCodec for Turned {
///     fn name(&self) -> &str {
///         "turned/1"
///     }
///
///     fn encode(&self, json: &[u8]) -> Vec<u8> {
///         json.iter().map(|byte| byte.wrapping_add(self.0)).collect()
///     }
///
///     fn decode(&self, bytes: &[u8]) -> Result<Vec<u8>, Box<dyn Error + Send + Sync>> {
///         Ok(bytes.iter().map(|byte| byte.wrapping_sub(self.0)).collect())
///     }
/// }
/// ```
pub trait PayloadCodec: fmt::Debug + Send + Sync {
    /// The name that stands beside each payload that it has encoded, and by which its codec is found again: 1 to 100
    /// bytes. Another format, or another key, has another name (`aes-256/2026-11`).
    fn name(&self) -> &str;

    /// Encodes the text of a payload. It cannot fail and does no I/O: fetch keys before the codec is made.
    fn encode(&self, json: &[u8]) -> Vec<u8>;

    /// Gives the text that was encoded.
    ///
    /// # Errors
    /// If these bytes are not by this codec, or were changed.
    fn decode(&self, bytes: &[u8]) -> Result<Vec<u8>, Box<dyn Error + Send + Sync>>;
}

/// The codecs of an application: one that writes, and others that still read.
#[derive(Debug, Clone, Default)]
pub struct Codecs {
    writer: Option<Arc<dyn PayloadCodec>>,
    readers: Vec<Arc<dyn PayloadCodec>>,
}

/// The result of reading the text of a payload.
#[derive(Debug)]
pub enum Opened {
    /// It was not encoded.
    Verbatim,
    /// This is the text.
    Json(Box<RawValue>),
    /// It is encoded, and cannot be decoded here: why.
    Unreadable(String),
}

/// The codecs that count on this thread for now.
struct Scope {
    codecs: Arc<Codecs>,
    /// Why the first payload could not be decoded that was not.
    unread: Option<String>,
}

thread_local! {
    static CURRENT: RefCell<Option<Scope>> = const { RefCell::new(None) };
}

impl Codecs {
    /// Has this codec encode from now on; it reads, too. The one that did so before only reads.
    pub fn write_with(&mut self, codec: Arc<dyn PayloadCodec>) {
        self.readers.extend(self.writer.replace(codec));
    }

    /// Has this codec read what it has encoded before.
    pub fn read_with(&mut self, codec: Arc<dyn PayloadCodec>) {
        self.readers.push(codec);
    }

    fn all(&self) -> impl Iterator<Item = &Arc<dyn PayloadCodec>> {
        self.writer.iter().chain(&self.readers)
    }

    /// The names of all of them, the writer's first.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.all().map(|codec| codec.name())
    }

    /// Whether their names can be told apart, and found again.
    ///
    /// # Errors
    /// Why not.
    pub fn check(&self) -> Result<(), String> {
        for (number, name) in self.names().enumerate() {
            if name.is_empty() || name.len() > LONGEST_NAME || name.chars().any(char::is_control) {
                return Err(format!(
                    "{name:?} is not the name of a codec: it has 1 to {LONGEST_NAME} bytes, and no control characters"
                ));
            }
            if self.names().take(number).any(|other| other == name) {
                return Err(format!("two codecs have the name {name:?}; give another key or format another name"));
            }
        }
        Ok(())
    }

    /// Encodes all payloads that `act` serializes on this thread, and decodes those that it deserializes. Gives its
    /// result, and why the first payload that could not be decoded could not.
    pub fn within<T>(self: &Arc<Self>, act: impl FnOnce() -> T) -> (T, Option<String>) {
        let outer = Outer(CURRENT.replace(Some(Scope { codecs: self.clone(), unread: None })));
        let result = act();
        let unread = CURRENT.take().and_then(|scope| scope.unread);
        drop(outer);
        (result, unread)
    }

    fn seal(&self, json: &str) -> Option<Box<RawValue>> {
        let encoded = match &self.writer {
            Some(codec) => {
                let data = STANDARD.encode(codec.encode(json.as_bytes()));
                format!("{MARK}{},\"data\":\"{data}\"}}", serde_json::Value::from(codec.name()))
            }
            // It looks as if it were encoded.
            None => format!("{MARK}\"\",\"data\":{json}}}"),
        };
        RawValue::from_string(encoded).ok()
    }

    fn open(&self, encoded: &str) -> Opened {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Envelope {
            #[serde(rename = "partitura.codec")]
            codec: String,
            data: Box<RawValue>,
        }
        let Ok(Envelope { codec: name, data }) = serde_json::from_str(encoded) else { return Opened::Verbatim };
        if name.is_empty() {
            return Opened::Json(data);
        }
        let Some(codec) = self.all().find(|codec| codec.name() == name) else {
            return Opened::Unreadable(format!(
                "it is encoded by the codec {name:?}, which this process does not have; give it to Builder::codec, or to \
                 Builder::former_codec where another one writes"
            ));
        };
        let damaged = |problem: &dyn fmt::Display| {
            Opened::Unreadable(format!("it is encoded by the codec {name:?}, which cannot decode it: {problem}"))
        };
        let bytes = serde_json::from_str(data.get()).ok().and_then(|data: String| STANDARD.decode(data).ok());
        let Some(bytes) = bytes else { return damaged(&"it is no Base64") };
        let json = match codec.decode(&bytes) {
            Ok(json) => json,
            Err(error) => return damaged(&error),
        };
        match String::from_utf8(json).ok().and_then(|json| RawValue::from_string(json).ok()) {
            Some(json) => Opened::Json(json),
            None => damaged(&"its bytes are no JSON; are they of another key?"),
        }
    }
}

/// Puts the codecs back that counted before, also after a panic.
struct Outer(Option<Scope>);

impl Drop for Outer {
    fn drop(&mut self) {
        CURRENT.set(self.0.take());
    }
}

/// The codecs of this thread, if there are any.
fn current() -> Option<Arc<Codecs>> {
    CURRENT.with_borrow(|scope| scope.as_ref().map(|scope| scope.codecs.clone()))
}

/// How this text of a payload is to be written, if not as it is.
pub fn seal(json: &str) -> Option<Box<RawValue>> {
    let is_to_be = CURRENT.with_borrow(|scope| {
        let scope = scope.as_ref()?;
        // Nothing is hidden by hiding that there is nothing.
        Some(json != "null" && (scope.codecs.writer.is_some() || is_encoded(json)))
    });
    is_to_be.filter(|is_to_be| *is_to_be).and_then(|_| current()?.seal(json))
}

/// Reads the text of a payload.
pub fn open(text: &str) -> Opened {
    if !is_encoded(text) {
        return Opened::Verbatim;
    }
    let Some(codecs) = current() else { return Opened::Verbatim };
    let opened = codecs.open(text);
    if let Opened::Unreadable(problem) = &opened {
        CURRENT.with_borrow_mut(|scope| {
            if let Some(Scope { unread, .. }) = scope {
                unread.get_or_insert_with(|| problem.clone());
            }
        });
    }
    opened
}

/// Whether the text of a payload is encoded, or looks as if it were.
pub fn is_encoded(text: &str) -> bool {
    text.starts_with(MARK)
}
