//! Arguments by name: a JSON object, so that an optional one can be added later.

use std::collections::HashMap;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::{Payload, PayloadError};

/// Collects arguments into a payload. Used by generated code.
#[derive(Debug, Default)]
pub struct EncodeArgs {
    fields: Vec<(&'static str, Payload)>,
    error: Option<PayloadError>,
}

impl EncodeArgs {
    /// Adds an argument.
    #[must_use]
    pub fn arg<T: Serialize + DeserializeOwned>(mut self, name: &'static str, value: &T) -> Self {
        match Payload::encode(value) {
            Ok(payload) => self.fields.push((name, payload)),
            Err(error) => self.error = self.error.or(Some(error.in_context(&format!("argument `{name}`")))),
        }
        self
    }

    /// The object.
    ///
    /// # Errors
    /// The first argument that could not be encoded.
    pub fn finish(self) -> Result<Payload, PayloadError> {
        match self.error {
            Some(error) => Err(error),
            None => Ok(Payload::object(&self.fields)),
        }
    }
}

/// Takes arguments out of a payload. Used by generated code.
#[derive(Debug)]
pub struct DecodeArgs(HashMap<String, Payload>);

impl DecodeArgs {
    /// Reads the object; `null` counts as an empty one.
    ///
    /// # Errors
    /// When the payload is neither.
    pub fn new(payload: &Payload) -> Result<Self, PayloadError> {
        payload.decode::<Option<HashMap<String, Payload>>>().map(|args| Self(args.unwrap_or_default()))
    }

    /// The argument `name`. A missing one is read as `null`, which is a `None`.
    ///
    /// # Errors
    /// When it does not fit, or is missing and is no `Option`.
    pub fn take<T: DeserializeOwned>(&mut self, name: &'static str) -> Result<T, PayloadError> {
        match self.0.remove(name) {
            Some(payload) => payload.decode().map_err(|error| error.in_context(&format!("argument `{name}`"))),
            None => Payload::null().decode().map_err(|_| PayloadError::missing_argument::<T>(name)),
        }
    }
}
