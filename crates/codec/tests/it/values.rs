//! Types in every shape that serde knows.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;

use serde::de::{SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Bytes by `serialize_bytes`, as of the crates `bytes` and `serde_bytes`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Blob(pub(crate) Vec<u8>);

impl Serialize for Blob {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.0)
    }
}

impl<'de> Deserialize<'de> for Blob {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct BlobVisitor;
        impl<'de> Visitor<'de> for BlobVisitor {
            type Value = Blob;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("bytes")
            }
            fn visit_bytes<E>(self, bytes: &[u8]) -> Result<Blob, E> {
                Ok(Blob(bytes.to_vec()))
            }
            // As `serde_bytes` and `bytes` do: text counts as its bytes.
            fn visit_str<E>(self, text: &str) -> Result<Blob, E> {
                Ok(Blob(text.as_bytes().to_vec()))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Blob, A::Error> {
                let mut bytes = Vec::new();
                while let Some(byte) = elements.next_element()? {
                    bytes.push(byte);
                }
                Ok(Blob(bytes))
            }
        }
        deserializer.deserialize_byte_buf(BlobVisitor)
    }
}

/// Values that serde buffers without loss.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Plain {
    pub(crate) text: String,
    pub(crate) double: f64,
    pub(crate) single: f32,
    pub(crate) signed: i64,
    pub(crate) unsigned: u64,
    pub(crate) letter: char,
    pub(crate) maybe: Option<bool>,
    pub(crate) named: BTreeMap<String, i8>,
    pub(crate) octets: Vec<u8>,
    pub(crate) blob: Blob,
    pub(crate) digest: [u8; 32],
}

/// Values that serde buffers with loss, or not at all.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Odd {
    pub(crate) wide: u128,
    pub(crate) low: i128,
    pub(crate) numbered: HashMap<i32, String>,
    pub(crate) flags: BTreeMap<bool, u8>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Unit;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) enum External {
    Nothing,
    One(Plain),
    Two(f32, Odd),
    Octets(u8, u8, u8),
    Named { plain: Plain, odd: Odd },
    Boxed(Box<Value>),
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type")]
pub(crate) enum Internal {
    Nothing,
    One(Plain),
    Odd(Odd),
    Named { plain: Plain, inner: Box<Value> },
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", content = "content")]
pub(crate) enum Adjacent {
    Nothing,
    One(Plain),
    Two(f64, Odd),
    Named { plain: Plain, inner: Box<Value> },
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub(crate) enum Untagged {
    Flag(bool),
    Number(u64),
    Text(String),
    One(Plain),
    Odd(Odd),
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Flat {
    pub(crate) id: u8,
    #[serde(flatten)]
    pub(crate) rest: Plain,
    #[serde(flatten)]
    pub(crate) more: HashMap<String, i32>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) enum Value {
    Plain(Plain),
    Odd(Odd),
    Unit(Unit),
    Maybe(Option<Option<u8>>),
    Done(Option<()>),
    Wrapped(Option<Unit>),
    External(External),
    Internal(Internal),
    Adjacent(Adjacent),
    Untagged(Untagged),
    Flat(Flat),
    Set(HashSet<u32>),
    Many(Vec<Value>),
    Pair(Box<(Value, Value)>),
    Options(Vec<Option<u8>>),
}
