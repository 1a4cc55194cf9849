use std::any::type_name;

use partitura_codec::{EncodeError, Opened};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::value::RawValue;

/// A value that is carried without being looked at: an argument, a result, a signal. The only place that knows how
/// values are written, which is JSON. An application's own [`PayloadCodec`](partitura_codec::PayloadCodec) encodes it
/// on its way out of the process.
///
/// A value that decodes to the value that was encoded, or encoding is the error: see [`encode`](Self::encode). A
/// payload keeps the text it was made from, so a history is written back byte by byte as it was read. Two payloads are
/// equal if their texts are.
///
/// ```
/// use partitura_workflow::Payload;
///
/// let payload = Payload::encode(&("order-42".to_owned(), 3))?;
/// assert_eq!(payload.as_json(), r#"["order-42",3]"#);
/// assert_eq!(payload.decode::<(String, u32)>()?, ("order-42".to_owned(), 3));
/// # Ok::<(), partitura_workflow::PayloadError>(())
/// ```
#[derive(Clone)]
pub struct Payload {
    text: Box<RawValue>,
    /// Why the text is still encoded, if it is.
    unreadable: Option<Box<str>>,
}

impl Payload {
    /// Encodes a value that decodes to the same value: floats keep every bit, bytes get a compact form.
    ///
    /// # Errors
    /// When the value's `Serialize` fails, or JSON cannot carry it, with the path of the field: `NaN` and infinities,
    /// `Some(None)` and `Some(())`, more than 127 levels of nesting, and what serde cannot read inside of untagged and
    /// internally tagged enums and flattened fields (128-bit numbers, map keys that are not text).
    pub fn encode<T: Serialize + DeserializeOwned>(value: &T) -> Result<Self, PayloadError> {
        Self::written::<T>(partitura_codec::encode(value))
    }

    /// Encodes a value that is read as another type than its own, as a `&str` is read as a `String`. A value that no
    /// type can read back is refused as by [`encode`](Self::encode); whether the reader's can is not known here.
    ///
    /// # Errors
    /// As for [`encode`](Self::encode).
    pub fn encode_unproven<T: Serialize + ?Sized>(value: &T) -> Result<Self, PayloadError> {
        Self::written::<T>(partitura_codec::encode_unproven(value))
    }

    fn plain(text: Box<RawValue>) -> Self {
        Self { text, unreadable: None }
    }

    fn written<T: ?Sized>(json: Result<String, EncodeError>) -> Result<Self, PayloadError> {
        match json {
            Ok(json) => Ok(Self::plain(partitura_codec::to_raw(&json))),
            Err(error) => Err(PayloadError::new::<T>("encoded", &error)),
        }
    }

    /// An object of these fields.
    pub(crate) fn object(fields: &[(&'static str, Self)]) -> Self {
        let mut json =
            String::with_capacity(fields.iter().map(|(name, value)| name.len() + value.as_json().len() + 4).sum());
        for (name, value) in fields {
            json.push(if json.is_empty() { '{' } else { ',' });
            // Argument names are identifiers, or literals of an attribute.
            json.push_str(&serde_json::Value::from(*name).to_string());
            json.push(':');
            json.push_str(value.as_json());
        }
        json.push_str(if json.is_empty() { "{}" } else { "}" });
        Self::plain(partitura_codec::to_raw(&json))
    }

    /// Decodes the value.
    ///
    /// # Errors
    /// When the JSON does not fit `T`; the error names the type and the position. When it is
    /// [encoded](Self::unreadable).
    pub fn decode<T: DeserializeOwned>(&self) -> Result<T, PayloadError> {
        match self.unreadable() {
            Some(problem) => Err(PayloadError::because::<T>("decoded", problem.to_owned())),
            None => partitura_codec::decode(self.as_json()).map_err(|error| PayloadError::new::<T>("decoded", &error)),
        }
    }

    /// Why this process cannot read it: it is encoded by a codec that is not here. It stays as it is wherever it goes.
    pub fn unreadable(&self) -> Option<&str> {
        self.unreadable.as_deref()
    }

    /// Takes JSON text as it is.
    ///
    /// # Errors
    /// When the text is not one JSON value.
    pub fn from_json(json: impl Into<String>) -> Result<Self, PayloadError> {
        RawValue::from_string(json.into())
            .map(Self::plain)
            .map_err(|error| PayloadError::new::<Payload>("read", &error))
    }

    /// The JSON text. Of a payload that is [encoded](Self::unreadable), that which is stored.
    pub fn as_json(&self) -> &str {
        self.text.get()
    }

    /// `null`, which is also how `()` is encoded.
    pub fn null() -> Self {
        Self::plain(RawValue::NULL.to_owned())
    }
}

impl Serialize for Payload {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        // An encoded payload stays as it is.
        let encoded = self.unreadable.is_none().then(|| partitura_codec::seal(self.as_json())).flatten();
        encoded.as_ref().unwrap_or(&self.text).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Payload {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Box::<RawValue>::deserialize(deserializer)?;
        Ok(match partitura_codec::open(text.get()) {
            Opened::Verbatim => Self::plain(text),
            Opened::Json(json) => Self::plain(json),
            Opened::Unreadable(problem) => Self { text, unreadable: Some(problem.into()) },
        })
    }
}

impl std::fmt::Debug for Payload {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_json())
    }
}

impl PartialEq for Payload {
    fn eq(&self, other: &Self) -> bool {
        self.as_json() == other.as_json()
    }
}

impl Eq for Payload {}

/// A payload does not fit into a message of the broker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a payload of {bytes} bytes, {limit} are allowed; keep large data elsewhere and send a reference")]
pub struct TooLarge {
    /// Its size.
    pub bytes: usize,
    /// The size of the largest that fits.
    pub limit: usize,
}

/// A value could not be turned into JSON, or JSON not into the value that the code expects.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{expected} could not be {attempted}: {problem}")]
pub struct PayloadError {
    expected: String,
    attempted: String,
    problem: String,
}

impl PayloadError {
    fn new<T: ?Sized>(attempted: &str, error: &dyn std::error::Error) -> Self {
        Self::because::<T>(attempted, error.to_string())
    }

    fn because<T: ?Sized>(attempted: &str, problem: String) -> Self {
        Self { expected: type_name::<T>().to_owned(), attempted: attempted.to_owned(), problem }
    }

    /// The value, which this names, does not fit into a message.
    pub fn too_large(what: impl Into<String>, too_large: TooLarge) -> Self {
        Self { expected: what.into(), attempted: "sent".to_owned(), problem: too_large.to_string() }
    }

    pub(crate) fn in_context(mut self, context: &str) -> Self {
        self.expected = format!("{context}: {}", self.expected);
        self
    }

    pub(crate) fn missing_argument<T>(name: &str) -> Self {
        Self {
            expected: format!("argument `{name}` ({})", type_name::<T>()),
            attempted: "decoded".to_owned(),
            problem: "it is missing".to_owned(),
        }
    }
}
