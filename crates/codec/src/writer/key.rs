//! The keys of maps.

use serde::ser::{Error, Impossible};
use serde::{Serialize, Serializer};

use super::{Result, Writer, check_finite};
use crate::doubts::Doubt;
use crate::error::EncodeError;

/// Writes a key: text as it is, numbers and booleans in quotes.
pub(super) struct KeyWriter<'a>(pub(super) &'a mut Writer);

impl KeyWriter<'_> {
    fn quoted<T: Serialize>(self, value: T) -> Result<()> {
        self.0.doubt(Doubt::Key)?;
        self.0.text.push(b'"');
        self.0.scalar(|json| value.serialize(json))?;
        self.0.text.push(b'"');
        Ok(())
    }

    fn refused<T>(self, what: &str) -> Result<T> {
        Err(EncodeError::custom(format!("a key of a JSON object is text, a number or a boolean, not {what}")))
    }
}

macro_rules! quoted {
    ($($method:ident: $of:ty),*) => {$(
        fn $method(self, value: $of) -> Result<()> {
            self.quoted(value)
        }
    )*};
}

impl Serializer for KeyWriter<'_> {
    type Ok = ();
    type Error = EncodeError;
    type SerializeSeq = Impossible<(), EncodeError>;
    type SerializeTuple = Impossible<(), EncodeError>;
    type SerializeTupleStruct = Impossible<(), EncodeError>;
    type SerializeTupleVariant = Impossible<(), EncodeError>;
    type SerializeMap = Impossible<(), EncodeError>;
    type SerializeStruct = Impossible<(), EncodeError>;
    type SerializeStructVariant = Impossible<(), EncodeError>;

    quoted!(
        serialize_bool: bool, serialize_i8: i8, serialize_i16: i16, serialize_i32: i32, serialize_i64: i64,
        serialize_i128: i128, serialize_u8: u8, serialize_u16: u16, serialize_u32: u32, serialize_u64: u64,
        serialize_u128: u128
    );

    fn serialize_f32(self, value: f32) -> Result<()> {
        check_finite(value.is_finite(), value.into())?;
        self.quoted(value)
    }

    fn serialize_f64(self, value: f64) -> Result<()> {
        check_finite(value.is_finite(), value)?;
        self.quoted(value)
    }

    fn serialize_char(self, value: char) -> Result<()> {
        self.0.scalar(|json| json.serialize_char(value))
    }

    fn serialize_str(self, value: &str) -> Result<()> {
        self.0.scalar(|json| json.serialize_str(value))
    }

    fn collect_str<T: std::fmt::Display + ?Sized>(self, value: &T) -> Result<()> {
        self.0.scalar(|json| json.collect_str(value))
    }

    fn serialize_bytes(self, _: &[u8]) -> Result<()> {
        self.refused("bytes")
    }

    fn serialize_none(self) -> Result<()> {
        self.refused("`None`")
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<()> {
        value.serialize(self)
    }

    fn serialize_unit(self) -> Result<()> {
        self.refused("`()`")
    }

    fn serialize_unit_struct(self, name: &'static str) -> Result<()> {
        self.refused(name)
    }

    fn serialize_unit_variant(self, _: &'static str, _: u32, variant: &'static str) -> Result<()> {
        self.serialize_str(variant)
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(self, _: &'static str, value: &T) -> Result<()> {
        value.serialize(self)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        name: &'static str,
        _: u32,
        variant: &'static str,
        _: &T,
    ) -> Result<()> {
        self.refused(&format!("{name}::{variant}, which has a value"))
    }

    fn serialize_seq(self, _: Option<usize>) -> Result<Self::SerializeSeq> {
        self.refused("a sequence")
    }

    fn serialize_tuple(self, _: usize) -> Result<Self::SerializeTuple> {
        self.refused("a tuple")
    }

    fn serialize_tuple_struct(self, name: &'static str, _: usize) -> Result<Self::SerializeTupleStruct> {
        self.refused(name)
    }

    fn serialize_tuple_variant(
        self,
        name: &'static str,
        _: u32,
        variant: &'static str,
        _: usize,
    ) -> Result<Self::SerializeTupleVariant> {
        self.refused(&format!("{name}::{variant}, which has values"))
    }

    fn serialize_map(self, _: Option<usize>) -> Result<Self::SerializeMap> {
        self.refused("a map")
    }

    fn serialize_struct(self, name: &'static str, _: usize) -> Result<Self::SerializeStruct> {
        self.refused(name)
    }

    fn serialize_struct_variant(
        self,
        name: &'static str,
        _: u32,
        variant: &'static str,
        _: usize,
    ) -> Result<Self::SerializeStructVariant> {
        self.refused(&format!("{name}::{variant}, which has fields"))
    }
}
