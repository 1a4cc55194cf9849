//! Sequences, maps, structs and variants.

use std::ops::Range;

use serde::ser::{
    SerializeMap, SerializeSeq, SerializeStruct, SerializeStructVariant, SerializeTuple, SerializeTupleStruct,
    SerializeTupleVariant,
};
use serde::{Serialize, Serializer};

use super::key::KeyWriter;
use super::{Result, Writer};
use crate::doubts::Doubt;
use crate::error::EncodeError;

/// A sequence or tuple.
pub(crate) struct Seq<'a> {
    writer: &'a mut Writer,
    start: usize,
    count: usize,
    /// The elements, as long as all of them are `u8`. Until then they are not in the text.
    octets: Option<Vec<u8>>,
}

impl<'a> Seq<'a> {
    #[inline]
    pub(super) fn open(writer: &'a mut Writer) -> Result<Self> {
        let start = writer.text.len();
        writer.open(b'[')?;
        Ok(Self { writer, start, count: 0, octets: Some(Vec::new()) })
    }

    #[inline]
    fn push<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<()> {
        let index = self.count;
        self.count += 1;
        let written = match &self.octets {
            Some(_) => self.push_first(value),
            None => {
                self.writer.text.push(b',');
                value.serialize(&mut *self.writer)
            }
        };
        written.map_err(|error| error.in_element(index))
    }

    /// Writes an element after `u8`s only.
    #[inline]
    fn push_first<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<()> {
        let start = self.writer.text.len();
        self.writer.octet = None;
        value.serialize(&mut *self.writer)?;
        let Some(octets) = &mut self.octets else { return Ok(()) };
        match self.writer.octet {
            Some((at, octet)) if at == start => {
                octets.push(octet);
                self.writer.text.truncate(start);
            }
            _ if octets.is_empty() => self.octets = None,
            _ => {
                let element = self.writer.text.split_off(start);
                self.spell_out()?;
                self.writer.text.push(b',');
                self.writer.text.extend_from_slice(&element);
            }
        }
        Ok(())
    }

    /// Writes the `u8`s so far as numbers.
    fn spell_out(&mut self) -> Result<()> {
        for (index, octet) in self.octets.take().unwrap_or_default().into_iter().enumerate() {
            if index > 0 {
                self.writer.text.push(b',');
            }
            self.writer.scalar(|json| json.serialize_u8(octet))?;
        }
        Ok(())
    }

    #[inline]
    fn close(mut self) -> Result<()> {
        match self.octets.take_if(|octets| self.writer.wants_compact(octets.len())) {
            Some(octets) => {
                self.writer.text.truncate(self.start);
                self.writer.depth -= 1;
                self.writer.compact(&octets)?;
            }
            None => {
                self.spell_out()?;
                self.writer.close(b']');
            }
        }
        // A sequence is no number, also if it ends with one.
        self.writer.octet = None;
        Ok(())
    }
}

impl SerializeSeq for Seq<'_> {
    type Ok = ();
    type Error = EncodeError;

    #[inline]
    fn serialize_element<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<()> {
        self.push(value)
    }

    #[inline]
    fn end(self) -> Result<()> {
        self.close()
    }
}

impl SerializeTuple for Seq<'_> {
    type Ok = ();
    type Error = EncodeError;

    #[inline]
    fn serialize_element<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<()> {
        self.push(value)
    }

    #[inline]
    fn end(self) -> Result<()> {
        self.close()
    }
}

impl SerializeTupleStruct for Seq<'_> {
    type Ok = ();
    type Error = EncodeError;

    #[inline]
    fn serialize_field<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<()> {
        self.push(value)
    }

    #[inline]
    fn end(self) -> Result<()> {
        self.close()
    }
}

/// A map: its keys are text, or are written as text.
pub(crate) struct Map<'a> {
    writer: &'a mut Writer,
    /// Where the first key is in the text, once there is one. Where serde tags an enum, it is the tag.
    first: Option<Range<usize>>,
    key_at: usize,
}

impl<'a> Map<'a> {
    #[inline]
    pub(super) fn open(writer: &'a mut Writer) -> Result<Self> {
        writer.open(b'{')?;
        Ok(Self { writer, first: None, key_at: 0 })
    }

    fn key(&self) -> String {
        let key = self.writer.text.get(self.key_at..).unwrap_or_default();
        let end = key.windows(2).position(|pair| pair == b"\":").unwrap_or(key.len());
        String::from_utf8_lossy(key.get(1..end).unwrap_or_default()).into_owned()
    }
}

impl SerializeMap for Map<'_> {
    type Ok = ();
    type Error = EncodeError;

    #[inline]
    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<()> {
        if self.first.is_some() {
            self.writer.text.push(b',');
        }
        self.key_at = self.writer.text.len();
        key.serialize(KeyWriter(self.writer))?;
        let key = self.key_at..self.writer.text.len();
        let first = self.first.get_or_insert_with(|| key.clone()).clone();
        let is_repeated = first != key && self.writer.text[first] == self.writer.text[key];
        self.writer.text.push(b':');
        if is_repeated {
            self.writer.doubt(Doubt::Repeated).map_err(|error| error.in_field(&self.key()))?;
        }
        Ok(())
    }

    #[inline]
    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<()> {
        value.serialize(&mut *self.writer).map_err(|error| error.in_field(&self.key()))
    }

    #[inline]
    fn end(self) -> Result<()> {
        self.writer.close(b'}');
        Ok(())
    }
}

/// The fields of a struct.
pub(crate) enum Fields<'a> {
    Named {
        writer: &'a mut Writer,
        /// The name of the first field, once there is one. Where serde tags an enum, it is the tag.
        first: Option<&'static str>,
    },
    /// The one field is text that is JSON already.
    Verbatim(&'a mut Writer),
}

impl SerializeStruct for Fields<'_> {
    type Ok = ();
    type Error = EncodeError;

    #[inline]
    fn serialize_field<T: Serialize + ?Sized>(&mut self, name: &'static str, value: &T) -> Result<()> {
        match self {
            Self::Named { writer, first } => {
                match first {
                    None => *first = Some(name),
                    Some(first) => {
                        writer.text.push(b',');
                        if *first == name {
                            writer.doubt(Doubt::Repeated).map_err(|error| error.in_field(name))?;
                        }
                    }
                }
                writer.scalar(|json| json.serialize_str(name))?;
                writer.text.push(b':');
                value.serialize(&mut **writer).map_err(|error| error.in_field(name))
            }
            Self::Verbatim(writer) => value.serialize(&mut **writer),
        }
    }

    #[inline]
    fn skip_field(&mut self, name: &'static str) -> Result<()> {
        let (Self::Named { writer, .. } | Self::Verbatim(writer)) = self;
        writer.skip(name)
    }

    #[inline]
    fn end(self) -> Result<()> {
        match self {
            Self::Named { writer, .. } => writer.close(b'}'),
            Self::Verbatim(writer) => writer.verbatim = false,
        }
        Ok(())
    }
}

/// The content of a variant, between `{"name":` and `}`.
pub(crate) struct Variant<C> {
    pub(super) name: &'static str,
    pub(super) of: C,
}

impl SerializeTupleVariant for Variant<Seq<'_>> {
    type Ok = ();
    type Error = EncodeError;

    #[inline]
    fn serialize_field<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<()> {
        self.of.push(value).map_err(|error| error.in_field(self.name))
    }

    #[inline]
    fn end(self) -> Result<()> {
        let Seq { writer, start, count, octets } = self.of;
        Seq { writer: &mut *writer, start, count, octets }.close().map_err(|error| error.in_field(self.name))?;
        writer.close(b'}');
        Ok(())
    }
}

impl SerializeStructVariant for Variant<Fields<'_>> {
    type Ok = ();
    type Error = EncodeError;

    #[inline]
    fn serialize_field<T: Serialize + ?Sized>(&mut self, name: &'static str, value: &T) -> Result<()> {
        self.of.serialize_field(name, value).map_err(|error| error.in_field(self.name))
    }

    #[inline]
    fn skip_field(&mut self, name: &'static str) -> Result<()> {
        SerializeStruct::skip_field(&mut self.of, name).map_err(|error| error.in_field(self.name))
    }

    #[inline]
    fn end(self) -> Result<()> {
        if let Fields::Named { writer, .. } = self.of {
            writer.close(b'}');
            writer.close(b'}');
        }
        Ok(())
    }
}
