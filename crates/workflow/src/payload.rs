use std::any::type_name;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::value::{RawValue, to_raw_value};

/// A JSON value that is carried without being looked at: an argument, a result, a signal.
///
/// It keeps the text it was made from, so a history is written back byte by byte as it was read. Two payloads are equal
/// if their texts are.
///
/// ```
/// use partitura_workflow::Payload;
///
/// let payload = Payload::encode(&("order-42", 3))?;
/// assert_eq!(payload.as_json(), r#"["order-42",3]"#);
/// assert_eq!(payload.decode::<(String, u32)>()?, ("order-42".to_owned(), 3));
/// # Ok::<(), partitura_workflow::PayloadError>(())
/// ```
#[derive(Clone, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Payload(Box<RawValue>);

impl Payload {
    /// Encodes a value as JSON.
    ///
    /// # Errors
    /// When the value's `Serialize` fails, or it holds a map whose keys are not strings.
    pub fn encode<T: Serialize + ?Sized>(value: &T) -> Result<Self, PayloadError> {
        to_raw_value(value).map(Self).map_err(|error| PayloadError::new::<T>("encoded", &error))
    }

    /// Decodes the value.
    ///
    /// # Errors
    /// When the JSON does not fit `T`; the error names the type and the position.
    pub fn decode<T: DeserializeOwned>(&self) -> Result<T, PayloadError> {
        serde_json::from_str(self.0.get()).map_err(|error| PayloadError::new::<T>("decoded", &error))
    }

    /// Takes JSON text as it is.
    ///
    /// # Errors
    /// When the text is not one JSON value.
    pub fn from_json(json: impl Into<String>) -> Result<Self, PayloadError> {
        RawValue::from_string(json.into()).map(Self).map_err(|error| PayloadError::new::<Payload>("read", &error))
    }

    /// The JSON text.
    pub fn as_json(&self) -> &str {
        self.0.get()
    }

    /// `null`, which is also how `()` is encoded.
    pub fn null() -> Self {
        Self(RawValue::NULL.to_owned())
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

/// A value could not be turned into JSON, or JSON not into the value that the code expects.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{expected} could not be {attempted}: {problem}")]
pub struct PayloadError {
    expected: String,
    attempted: String,
    problem: String,
}

impl PayloadError {
    fn new<T: ?Sized>(attempted: &str, error: &serde_json::Error) -> Self {
        Self { expected: type_name::<T>().to_owned(), attempted: attempted.to_owned(), problem: error.to_string() }
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
