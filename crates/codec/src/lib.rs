//! Values as JSON, by serde: an encoded value decodes to the same value, or encoding fails.
//!
//! JSON does not carry everything that serde does, and serde_json writes some of it as something else: `NaN` becomes
//! `null`, `Some(None)` comes back as `None`, a map with number keys cannot be read inside of an untagged enum.
//! [`encode`] refuses a value that would not decode to itself, and names the field. All JSON between processes goes
//! through this crate.
//!
//! * Floats keep every bit, `-0.0` too. `NaN` and the infinities are refused.
//! * Values are nested 127 levels deep at most: [`decode`] reads this depth without risk to the stack.
//! * Bytes (`serialize_bytes`, and sequences of `u8`) of [a certain length](COMPACT_FROM) are one string,
//!   `"base64:…"`; shorter ones are numbers. Both are read.
//! * For some values it depends on the type whether JSON carries them: 128-bit numbers, keys that are not text, `Some`
//!   of nothing, flattened fields, fields that are skipped, two of one name, bytes. For these [`encode`] decodes its
//!   own output and compares. All other values cost one pass.
//!
//! An application may encode the text once more, with a [`PayloadCodec`] of its own.
//!
//! ```
//! assert_eq!(partitura_codec::encode(&("order-42".to_owned(), 0.01 * 1.19))?, r#"["order-42",0.011899999999999999]"#);
//! let error = partitura_codec::encode(&vec![0.5, f64::NAN]).unwrap_err();
//! assert_eq!(error.path(), "[1]");
//! # Ok::<(), partitura_codec::EncodeError>(())
//! ```

mod bytes;
mod doubts;
mod error;
mod own;
mod reader;
mod writer;

use serde::de::DeserializeOwned;
use serde::ser::SerializeStruct;
use serde::{Serialize, Serializer};
use serde_json::value::{RawValue, to_raw_value};

pub use self::bytes::COMPACT_FROM;
pub use self::error::EncodeError;
pub use self::own::{Codecs, Opened, PayloadCodec, is_encoded, open, seal};

use self::doubts::{Doubt, Fingerprint, Suspect};
use self::reader::Reader;
use self::writer::{Bytes, RAW_VALUE, Written, write};

/// Encodes a value that decodes as the same value.
///
/// # Errors
/// If JSON cannot carry the value unchanged, or its `Serialize` fails; the error names the field.
pub fn encode<T: Serialize + DeserializeOwned>(value: &T) -> Result<String, EncodeError> {
    let compact = write(value, Bytes::Compact, None)?;
    let Err(disproof) = prove::<T>(&compact, Bytes::Compact) else { return Ok(compact.text) };
    if compact.doubts.has(Doubt::Bytes) {
        // The type cannot be read with compact bytes: serde buffers them as text.
        let plain = write(value, Bytes::Plain, None)?;
        if prove::<T>(&plain, Bytes::Plain).is_ok() {
            return Ok(plain.text);
        }
    }
    Err(explain(value, disproof))
}

/// Encodes a value that is read as another type than its own, for example a `&str`.
///
/// A value that no type reads back unchanged is refused. It is not proven that the reader's type can read it.
///
/// # Errors
/// As for [`encode`].
pub fn encode_unproven<T: Serialize + ?Sized>(value: &T) -> Result<String, EncodeError> {
    write(value, Bytes::Plain, Some(Doubt::SomeOfNothing.into())).map(|written| written.text)
}

/// Decodes a value.
///
/// # Errors
/// If the text is not JSON, or does not fit `T`.
pub fn decode<T: DeserializeOwned>(json: &str) -> Result<T, serde_json::Error> {
    let mut deserializer = serde_json::Deserializer::from_str(json);
    let value = T::deserialize(Reader(&mut deserializer))?;
    deserializer.end().map(|()| value)
}

/// Decodes a value from bytes.
///
/// # Errors
/// As for [`decode`], and if the bytes are not UTF-8.
pub fn decode_slice<T: DeserializeOwned>(json: &[u8]) -> Result<T, serde_json::Error> {
    let mut deserializer = serde_json::Deserializer::from_slice(json);
    let value = T::deserialize(Reader(&mut deserializer))?;
    deserializer.end().map(|()| value)
}

/// Makes a value to embed in other JSON from text that [`encode`] has written, without reading it again.
pub fn to_raw(json: &str) -> Box<RawValue> {
    struct Verbatim<'a>(&'a str);
    impl Serialize for Verbatim<'_> {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            let mut raw = serializer.serialize_struct(RAW_VALUE, 1)?;
            raw.serialize_field(RAW_VALUE, self.0)?;
            raw.end()
        }
    }
    to_raw_value(&Verbatim(json)).unwrap_or_else(|_| RawValue::NULL.to_owned())
}

/// The error for a value that does not decode to itself.
struct Disproof {
    suspect: Option<Suspect>,
    problem: String,
}

/// Checks that the written text decodes to the value. Text without doubts is not checked.
fn prove<T: Serialize + DeserializeOwned>(written: &Written, bytes: Bytes) -> Result<(), Disproof> {
    let Written { text, doubts } = written;
    if doubts.is_empty() {
        return Ok(());
    }
    let decoded: T = decode(text).map_err(|error| {
        let error = error.to_string();
        Disproof { suspect: doubts.suspect_of(&error), problem: format!("it cannot be read back: {error}") }
    })?;
    let changed = |suspect: Option<Doubt>| {
        let suspect = suspect.map(Suspect::from);
        Disproof { suspect, problem: "it comes back as another value".to_owned() }
    };
    let again = write(&decoded, bytes, None).map_err(|_| changed(None))?;
    if again.doubts == *doubts && Fingerprint::from_text(&again.text) == Fingerprint::from_text(text) {
        return Ok(());
    }
    Err(changed(doubts.first_difference(&again.doubts)))
}

/// The error, with the first field that can be the cause.
fn explain<T: Serialize>(value: &T, Disproof { suspect, problem }: Disproof) -> EncodeError {
    match write(value, Bytes::Compact, suspect) {
        Err(error) => error.because(&problem),
        Ok(_) => EncodeError::new(problem),
    }
}
