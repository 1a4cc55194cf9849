use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// The value of an [attribute](crate::Cx::set_attribute) of an instance. Values of different types are never equal.
///
/// ```
/// # use partitura_workflow::Attribute;
/// assert_eq!(Attribute::from("acme"), Attribute::Text("acme".into()));
/// assert_ne!(Attribute::from(7), Attribute::from("7"));
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Attribute {
    /// A text.
    Text(String),
    /// A whole number.
    Integer(i64),
    /// Yes or no.
    Bool(bool),
    /// A moment.
    Moment(Timestamp),
}

impl fmt::Display for Attribute {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => f.write_str(text),
            Self::Integer(number) => number.fmt(f),
            Self::Bool(bool) => bool.fmt(f),
            Self::Moment(moment) => moment.fmt(f),
        }
    }
}

macro_rules! from {
    ($($type:ty => $variant:ident),*) => {
        $(impl From<$type> for Attribute {
            fn from(value: $type) -> Self {
                Self::$variant(value.into())
            }
        })*
    };
}

from!(&str => Text, String => Text, &String => Text, i64 => Integer, i32 => Integer, u32 => Integer, bool => Bool, Timestamp => Moment);
