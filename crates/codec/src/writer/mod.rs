//! JSON as serde_json writes it, except for values that would not decode to themselves.

mod compound;
mod key;

use serde::{Serialize, Serializer};

use self::compound::{Fields, Map, Seq, Variant};
use crate::bytes::{self, COMPACT_FROM};
use crate::doubts::{Doubt, Doubts, Suspect};
use crate::error::EncodeError;

type Result<T> = std::result::Result<T, EncodeError>;

/// The names by which serde_json marks JSON, and numbers, that are carried as text.
pub(crate) const RAW_VALUE: &str = "$serde_json::private::RawValue";
const RAW_NUMBER: &str = "$serde_json::private::Number";

/// The deepest level that serde_json reads: it gives up at the 128th.
const DEEPEST: u8 = 127;

/// The form in which bytes of a certain length are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Bytes {
    /// As one string.
    Compact,
    /// As an array of numbers.
    Plain,
}

/// JSON text, and the doubts about it.
pub(crate) struct Written {
    pub(crate) text: String,
    pub(crate) doubts: Doubts,
}

/// Writes a value. A doubt of the kind to refuse is an error.
pub(crate) fn write<T: Serialize + ?Sized>(value: &T, bytes: Bytes, refused: Option<Suspect>) -> Result<Written> {
    let mut writer = Writer {
        text: Vec::with_capacity(128),
        depth: 0,
        bytes,
        refused,
        doubts: Doubts::default(),
        octet: None,
        verbatim: false,
    };
    value.serialize(&mut writer)?;
    let text = String::from_utf8(writer.text).map_err(|error| EncodeError::new(error.to_string()))?;
    Ok(Written { text, doubts: writer.doubts })
}

pub(crate) struct Writer {
    text: Vec<u8>,
    depth: u8,
    bytes: Bytes,
    refused: Option<Suspect>,
    doubts: Doubts,
    /// The last number, if it was a `u8`, and where it begins.
    octet: Option<(usize, u8)>,
    /// The next text is JSON already.
    verbatim: bool,
}

type Json<'a> = serde_json::Serializer<&'a mut Vec<u8>>;

impl Writer {
    /// Writes a number or a text as serde_json does.
    #[inline]
    fn scalar(&mut self, write: impl FnOnce(&mut Json<'_>) -> serde_json::Result<()>) -> Result<()> {
        write(&mut serde_json::Serializer::new(&mut self.text)).map_err(|error| EncodeError::new(error.to_string()))
    }

    #[inline]
    fn doubt(&mut self, doubt: Doubt) -> Result<()> {
        if self.refused.as_ref().is_some_and(|refused| refused.doubt == doubt) {
            return Err(EncodeError::new(doubt.problem()));
        }
        self.doubts.add(doubt);
        Ok(())
    }

    /// A field is left out.
    #[inline]
    fn skip(&mut self, name: &'static str) -> Result<()> {
        let is_another = |suspect: &Suspect| suspect.field.as_ref().is_some_and(|field| field != name);
        if self.refused.as_ref().is_some_and(is_another) {
            return Ok(());
        }
        self.doubt(Doubt::Skipped).map_err(|error| error.in_field(name))
    }

    #[inline]
    fn open(&mut self, bracket: u8) -> Result<()> {
        if self.depth == DEEPEST {
            return Err(EncodeError::new(format!("it is nested deeper than the {DEEPEST} levels that can be read")));
        }
        self.depth += 1;
        self.text.push(bracket);
        Ok(())
    }

    #[inline]
    fn close(&mut self, bracket: u8) {
        self.depth -= 1;
        self.text.push(bracket);
    }

    /// `{"name":`
    #[inline]
    fn open_variant(&mut self, name: &'static str) -> Result<()> {
        self.open(b'{')?;
        self.scalar(|json| json.serialize_str(name))?;
        self.text.push(b':');
        Ok(())
    }

    #[inline]
    fn compact(&mut self, bytes: &[u8]) -> Result<()> {
        self.doubt(Doubt::Bytes)?;
        bytes::push(&mut self.text, bytes);
        Ok(())
    }

    #[inline]
    fn wants_compact(&self, length: usize) -> bool {
        self.bytes == Bytes::Compact && length >= COMPACT_FROM
    }
}

fn check_finite(finite: bool, value: f64) -> Result<()> {
    if finite { Ok(()) } else { Err(EncodeError::new(format!("JSON has no number {value}"))) }
}

macro_rules! scalars {
    ($($method:ident: $of:ty),*) => {$(
        #[inline]
        fn $method(self, value: $of) -> Result<()> {
            self.scalar(|json| json.$method(value))
        }
    )*};
}

impl<'a> Serializer for &'a mut Writer {
    type Ok = ();
    type Error = EncodeError;
    type SerializeSeq = Seq<'a>;
    type SerializeTuple = Seq<'a>;
    type SerializeTupleStruct = Seq<'a>;
    type SerializeTupleVariant = Variant<Seq<'a>>;
    type SerializeMap = Map<'a>;
    type SerializeStruct = Fields<'a>;
    type SerializeStructVariant = Variant<Fields<'a>>;

    scalars!(
        serialize_bool: bool, serialize_i8: i8, serialize_i16: i16, serialize_i32: i32, serialize_i64: i64,
        serialize_u16: u16, serialize_u32: u32, serialize_u64: u64, serialize_char: char
    );

    #[inline]
    fn serialize_u8(self, value: u8) -> Result<()> {
        self.octet = Some((self.text.len(), value));
        self.scalar(|json| json.serialize_u8(value))
    }

    #[inline]
    fn serialize_i128(self, value: i128) -> Result<()> {
        self.doubt(Doubt::Wide)?;
        self.scalar(|json| json.serialize_i128(value))
    }

    #[inline]
    fn serialize_u128(self, value: u128) -> Result<()> {
        self.doubt(Doubt::Wide)?;
        self.scalar(|json| json.serialize_u128(value))
    }

    #[inline]
    fn serialize_f32(self, value: f32) -> Result<()> {
        check_finite(value.is_finite(), value.into())?;
        let start = self.text.len();
        self.scalar(|json| json.serialize_f32(value))?;
        // Where serde buffers, the shortest digits are read as an f64 first, and rounding twice can give a neighbour.
        let read = std::str::from_utf8(&self.text[start..]).ok().and_then(|digits| digits.parse::<f64>().ok());
        if read.is_none_or(|read| read as f32 != value) {
            self.text.truncate(start);
            self.scalar(|json| json.serialize_f64(value.into()))?;
        }
        Ok(())
    }

    #[inline]
    fn serialize_f64(self, value: f64) -> Result<()> {
        check_finite(value.is_finite(), value)?;
        self.scalar(|json| json.serialize_f64(value))
    }

    #[inline]
    fn serialize_str(self, value: &str) -> Result<()> {
        if std::mem::take(&mut self.verbatim) {
            self.text.extend_from_slice(value.as_bytes());
            return Ok(());
        }
        self.scalar(|json| json.serialize_str(value))
    }

    #[inline]
    fn collect_str<T: std::fmt::Display + ?Sized>(self, value: &T) -> Result<()> {
        self.scalar(|json| json.collect_str(value))
    }

    #[inline]
    fn serialize_bytes(self, value: &[u8]) -> Result<()> {
        if self.wants_compact(value.len()) {
            return self.compact(value);
        }
        self.scalar(|json| json.serialize_bytes(value))
    }

    #[inline]
    fn serialize_none(self) -> Result<()> {
        self.serialize_unit()
    }

    #[inline]
    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<()> {
        let start = self.text.len();
        value.serialize(&mut *self)?;
        if &self.text[start..] == b"null" { self.doubt(Doubt::SomeOfNothing) } else { Ok(()) }
    }

    #[inline]
    fn serialize_unit(self) -> Result<()> {
        self.text.extend_from_slice(b"null");
        Ok(())
    }

    #[inline]
    fn serialize_unit_struct(self, _: &'static str) -> Result<()> {
        self.serialize_unit()
    }

    #[inline]
    fn serialize_unit_variant(self, _: &'static str, _: u32, variant: &'static str) -> Result<()> {
        self.scalar(|json| json.serialize_str(variant))
    }

    #[inline]
    fn serialize_newtype_struct<T: Serialize + ?Sized>(self, _: &'static str, value: &T) -> Result<()> {
        value.serialize(self)
    }

    #[inline]
    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        value: &T,
    ) -> Result<()> {
        self.open_variant(variant)?;
        value.serialize(&mut *self).map_err(|error| error.in_field(variant))?;
        self.close(b'}');
        Ok(())
    }

    #[inline]
    fn serialize_seq(self, _: Option<usize>) -> Result<Seq<'a>> {
        Seq::open(self)
    }

    #[inline]
    fn serialize_tuple(self, _: usize) -> Result<Seq<'a>> {
        Seq::open(self)
    }

    #[inline]
    fn serialize_tuple_struct(self, _: &'static str, _: usize) -> Result<Seq<'a>> {
        Seq::open(self)
    }

    #[inline]
    fn serialize_tuple_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        _: usize,
    ) -> Result<Variant<Seq<'a>>> {
        self.open_variant(variant)?;
        Ok(Variant { name: variant, of: Seq::open(self)? })
    }

    #[inline]
    fn serialize_map(self, length: Option<usize>) -> Result<Map<'a>> {
        if length.is_none() {
            self.doubt(Doubt::Flattened)?;
        }
        Map::open(self)
    }

    #[inline]
    fn serialize_struct(self, name: &'static str, _: usize) -> Result<Fields<'a>> {
        if name == RAW_VALUE || name == RAW_NUMBER {
            self.doubt(Doubt::Raw)?;
            self.verbatim = true;
            return Ok(Fields::Verbatim(self));
        }
        self.open(b'{')?;
        Ok(Fields::Named { writer: self, first: None })
    }

    #[inline]
    fn serialize_struct_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        _: usize,
    ) -> Result<Variant<Fields<'a>>> {
        self.open_variant(variant)?;
        self.open(b'{').map_err(|error| error.in_field(variant))?;
        Ok(Variant { name: variant, of: Fields::Named { writer: self, first: None } })
    }
}
