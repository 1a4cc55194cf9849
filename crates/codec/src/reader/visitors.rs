//! Visitors that pass on the values of serde_json.

use std::fmt;

use serde::Deserializer;
use serde::de::value::SeqDeserializer;
use serde::de::{EnumAccess, Error, MapAccess, SeqAccess, Unexpected, Visitor};

use super::Reader;
use super::access::Access;
use crate::bytes;

/// Passes every value on, with its parts as parts of a [`Reader`].
pub(super) struct Through<V>(pub(super) V);

macro_rules! through {
    ($($method:ident: $of:ty),*) => {$(
        #[inline]
        fn $method<E: Error>(self, value: $of) -> Result<V::Value, E> {
            self.0.$method(value)
        }
    )*};
}

impl<'de, V: Visitor<'de>> Visitor<'de> for Through<V> {
    type Value = V::Value;

    through!(
        visit_bool: bool, visit_i8: i8, visit_i16: i16, visit_i32: i32, visit_i64: i64, visit_i128: i128, visit_u8: u8,
        visit_u16: u16, visit_u32: u32, visit_u64: u64, visit_u128: u128, visit_f32: f32, visit_f64: f64,
        visit_char: char, visit_str: &str, visit_borrowed_str: &'de str, visit_string: String, visit_bytes: &[u8],
        visit_borrowed_bytes: &'de [u8], visit_byte_buf: Vec<u8>
    );

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.expecting(f)
    }

    #[inline]
    fn visit_none<E: Error>(self) -> Result<V::Value, E> {
        self.0.visit_none()
    }

    #[inline]
    fn visit_unit<E: Error>(self) -> Result<V::Value, E> {
        self.0.visit_unit()
    }

    #[inline]
    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<V::Value, D::Error> {
        self.0.visit_some(Reader(deserializer))
    }

    #[inline]
    fn visit_newtype_struct<D: Deserializer<'de>>(self, deserializer: D) -> Result<V::Value, D::Error> {
        self.0.visit_newtype_struct(Reader(deserializer))
    }

    #[inline]
    fn visit_seq<A: SeqAccess<'de>>(self, access: A) -> Result<V::Value, A::Error> {
        self.0.visit_seq(Access(access))
    }

    #[inline]
    fn visit_map<A: MapAccess<'de>>(self, access: A) -> Result<V::Value, A::Error> {
        self.0.visit_map(Access(access))
    }

    #[inline]
    fn visit_enum<A: EnumAccess<'de>>(self, access: A) -> Result<V::Value, A::Error> {
        self.0.visit_enum(Access(access))
    }
}

/// For a type that asks for a sequence: takes a sequence, or bytes in their compact form.
pub(super) struct WantsSeq<V>(pub(super) V);

impl<'de, V: Visitor<'de>> Visitor<'de> for WantsSeq<V> {
    type Value = V::Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.expecting(f)
    }

    #[inline]
    fn visit_seq<A: SeqAccess<'de>>(self, access: A) -> Result<V::Value, A::Error> {
        self.0.visit_seq(Access(access))
    }

    #[inline]
    fn visit_str<E: Error>(self, text: &str) -> Result<V::Value, E> {
        let Some(bytes) = bytes::parse(text) else { return Err(E::invalid_type(Unexpected::Str(text), &self.0)) };
        let mut elements = SeqDeserializer::new(bytes.into_iter());
        let value = self.0.visit_seq(&mut elements)?;
        elements.end().map(|()| value)
    }
}

/// For a type that asks for bytes: takes the compact form, numbers, or the text as bytes.
pub(super) struct WantsBytes<V>(pub(super) V);

impl<'de, V: Visitor<'de>> Visitor<'de> for WantsBytes<V> {
    type Value = V::Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.expecting(f)
    }

    #[inline]
    fn visit_seq<A: SeqAccess<'de>>(self, access: A) -> Result<V::Value, A::Error> {
        self.0.visit_seq(Access(access))
    }

    #[inline]
    fn visit_str<E: Error>(self, text: &str) -> Result<V::Value, E> {
        match bytes::parse(text) {
            Some(bytes) => self.0.visit_byte_buf(bytes),
            None => self.0.visit_bytes(text.as_bytes()),
        }
    }

    #[inline]
    fn visit_borrowed_str<E: Error>(self, text: &'de str) -> Result<V::Value, E> {
        match bytes::parse(text) {
            Some(bytes) => self.0.visit_byte_buf(bytes),
            None => self.0.visit_borrowed_bytes(text.as_bytes()),
        }
    }
}
