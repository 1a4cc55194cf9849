use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use bytes::Bytes;
use partitura_workflow::Attribute;
use serde::{Deserialize, Serialize};

use crate::wire::summary::{Order, StatusKind, Summary};

/// Which instances are meant, of all workflows: those to which everything applies that is said here. The default is
/// all.
///
/// It is data, to be kept in a URL or a file. [`Instances`](crate::Instances) has a method for each field.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct InstanceFilter {
    /// Where they stand: one of these; anywhere if there are none.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub status: Vec<StatusKind>,
    /// The name of their workflow.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub workflow: Option<String>,
    /// The beginning of their ids.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id_prefix: Option<String>,
    /// One of their tags.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tag: Option<String>,
    /// Values of their attributes.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub attributes: BTreeMap<String, Attribute>,
    /// The build that took their latest turn.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub build: Option<String>,
    /// The instance that started them as its children, in any of its runs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parent: Option<InstanceName>,
    /// When they were started: from this time on, in milliseconds since the Unix epoch.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub started_from: Option<u64>,
    /// When they were started: before this time, in milliseconds since the Unix epoch.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub started_before: Option<u64>,
    /// When they ended: from this time on, in milliseconds since the Unix epoch.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub closed_from: Option<u64>,
    /// When they ended: before this time, in milliseconds since the Unix epoch.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub closed_before: Option<u64>,
    /// By which time they are ordered. A filter by when they ended, and by no tag, attribute or parent, orders them by
    /// that.
    pub order: Order,
}

impl InstanceFilter {
    pub(crate) fn matches(&self, summary: &Summary) -> bool {
        let Summary { workflow, id, tags, build, parent, started_at, closed_at, .. } = summary;
        let has = |(name, value): (&String, &Attribute)| summary.attributes.get(name) == Some(value);
        let is_child_of = |name: &InstanceName| {
            parent.as_ref().is_some_and(|parent| (&parent.workflow, &parent.id) == (&name.workflow, &name.id))
        };
        let is_closed = |is: &dyn Fn(u64) -> bool| closed_at.is_some_and(is);
        (self.status.is_empty() || self.status.contains(&summary.status.kind()))
            && self.workflow.as_ref().is_none_or(|name| name == workflow)
            && self.id_prefix.as_ref().is_none_or(|prefix| id.starts_with(prefix))
            && self.tag.as_ref().is_none_or(|tag| tags.contains(tag))
            && self.attributes.iter().all(has)
            && self.build.as_ref().is_none_or(|name| build.as_ref() == Some(name))
            && self.parent.as_ref().is_none_or(is_child_of)
            && self.started_from.is_none_or(|from| *started_at >= from)
            && self.started_before.is_none_or(|before| *started_at < before)
            && self.closed_from.is_none_or(|from| is_closed(&|at| at >= from))
            && self.closed_before.is_none_or(|before| is_closed(&|at| at < before))
    }
}

/// An instance of any workflow: its text is `Checkout/order-42`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[non_exhaustive]
pub struct InstanceName {
    /// The name of its workflow.
    pub workflow: String,
    /// Its id.
    pub id: String,
}

impl InstanceName {
    /// The instance of a workflow with this id.
    pub fn new(workflow: impl Into<String>, id: impl Into<String>) -> Self {
        Self { workflow: workflow.into(), id: id.into() }
    }
}

impl fmt::Display for InstanceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.workflow, self.id)
    }
}

/// A text that does not name an instance.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} does not name an instance; write WORKFLOW/ID")]
pub struct InvalidInstanceName(String);

impl FromStr for InstanceName {
    type Err = InvalidInstanceName;

    fn from_str(text: &str) -> Result<Self, InvalidInstanceName> {
        match text.split_once('/') {
            Some((workflow, id)) if !workflow.is_empty() && !id.is_empty() => Ok(Self::new(workflow, id)),
            _ => Err(InvalidInstanceName(text.chars().take(200).collect())),
        }
    }
}

/// A place in what a filter finds, to read on from. Its text consists of letters and digits, and means nothing to
/// others.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Cursor {
    /// How the streams are ordered that it is a place in.
    pub(crate) by: char,
    pub(crate) rest: Bytes,
    pub(crate) prefix: Option<Bytes>,
}

/// A text that is not a [`Cursor`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a cursor: {0:?}; a cursor is the text that an earlier page gave, whole and unchanged")]
pub struct InvalidCursor(String);

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.by)?;
        self.rest.iter().try_for_each(|byte| write!(f, "{byte:02x}"))?;
        let Some(prefix) = &self.prefix else { return Ok(()) };
        write!(f, "z")?;
        prefix.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl FromStr for Cursor {
    type Err = InvalidCursor;

    fn from_str(text: &str) -> Result<Self, InvalidCursor> {
        let read = || {
            let by = text.chars().next().filter(char::is_ascii_lowercase)?;
            let (rest, prefix) = match text[1..].split_once('z') {
                Some((rest, prefix)) => (rest, Some(from_hex(prefix)?)),
                None => (&text[1..], None),
            };
            Some(Self { by, rest: from_hex(rest)?, prefix })
        };
        read().ok_or_else(|| InvalidCursor(text.chars().take(200).collect()))
    }
}

fn from_hex(text: &str) -> Option<Bytes> {
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
    text.as_bytes().chunks(2).map(|pair| byte(pair).filter(|_| pair.len() == 2)).collect()
}

impl TryFrom<String> for Cursor {
    type Error = InvalidCursor;

    fn try_from(text: String) -> Result<Self, InvalidCursor> {
        text.parse()
    }
}

impl From<Cursor> for String {
    fn from(cursor: Cursor) -> Self {
        cursor.to_string()
    }
}

/// A page of what a filter finds.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct InstancePage {
    /// The instances.
    pub instances: Vec<Summary>,
    /// Where to read on. `None`: there are no more.
    ///
    /// A page may be shorter than was asked for, or empty, and yet not be the last: a search looks at 2,000 instances
    /// for a page.
    pub next: Option<Cursor>,
}

/// How many instances a filter finds. Its text is `17`, or `10000+` where counting ended before the last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct InstanceCount {
    /// How many were counted.
    pub counted: usize,
    /// Whether there may be more.
    pub is_capped: bool,
}

impl fmt::Display for InstanceCount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.counted, if self.is_capped { "+" } else { "" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_survives_its_text() {
        for prefix in [None, Some(Bytes::from_static(b"W\0"))] {
            let cursor = Cursor { by: 's', rest: Bytes::from_static(b"\x00\xffz\0id"), prefix };
            assert_eq!(cursor.to_string().parse(), Ok(cursor));
        }
        for text in ["", "s0", "sxy", "é00", "S00"] {
            text.parse::<Cursor>().expect_err(text);
        }
    }
}
