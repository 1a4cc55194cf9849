//! The keys of the rows by which instances are found.
//!
//! Every key is `scope, time, workflow NUL id`, where the time counts backwards. An instance that has not ended has one
//! row; one that has ended has two; each tag, each attribute and a parent add one.

use bytes::Bytes;
use partitura_workflow::Attribute;

use crate::wire::indexed::Indexed;
use crate::wire::summary::{Order, StatusKind, Summary};

/// How much of a tag or of the text of an attribute is part of a key, in bytes.
const LONGEST: usize = 256;
/// A text of up to this many bytes is no beginning of a longer one, which is cut before a character.
const EXACT: usize = LONGEST - 4;

/// The keys of the rows of a summary.
pub(crate) fn indexed(summary: &Summary) -> Indexed {
    let Summary { workflow, started_at, .. } = summary;
    let status = summary.status.kind();
    let key = |scope: Vec<u8>, at: u64| -> Bytes {
        [&scope, &newest_first(at)[..], workflow.as_bytes(), b"\0", summary.id.as_bytes()].concat().into()
    };
    let mut keys = vec![key(of_workflow(Order::Started, status, workflow), *started_at)];
    if let Some(closed_at) = summary.closed_at {
        keys.push(key(of_workflow(Order::Closed, status, workflow), closed_at));
    }
    keys.extend(summary.tags.iter().map(|tag| key(of_tag(tag), *started_at)));
    keys.extend(summary.attributes.iter().map(|(name, value)| key(of_attribute(name, value), *started_at)));
    keys.extend(summary.parent.iter().map(|parent| key(of_parent(&parent.workflow, &parent.id), *started_at)));
    keys.sort_unstable();
    keys.dedup();
    Indexed(keys)
}

/// A time as a part of a key: later ones come first.
pub(crate) fn newest_first(at: u64) -> [u8; 8] {
    (!at).to_be_bytes()
}

/// The instances of a workflow that stand there.
pub(crate) fn of_workflow(order: Order, status: StatusKind, workflow: &str) -> Vec<u8> {
    let order = match order {
        Order::Started => b's',
        Order::Closed => b'c',
    };
    [&[order, status.code()], workflow.as_bytes(), b"\0"].concat()
}

pub(crate) fn of_tag(tag: &str) -> Vec<u8> {
    let mut scope = vec![b't'];
    add_text(&mut scope, tag);
    scope
}

pub(crate) fn of_attribute(name: &str, value: &Attribute) -> Vec<u8> {
    let mut scope = vec![b'a'];
    add_text(&mut scope, name);
    match value {
        Attribute::Text(text) => {
            scope.push(b't');
            add_text(&mut scope, text);
        }
        Attribute::Bool(bool) => scope.extend([b'b', u8::from(*bool)]),
        Attribute::Moment(moment) => {
            scope.push(b'm');
            scope.extend(moment.as_nanosecond().to_be_bytes());
        }
        Attribute::Integer(number) => {
            scope.push(b'i');
            scope.extend(number.to_be_bytes());
        }
        // An attribute of a kind that is newer than this.
        _ => {}
    }
    scope
}

/// The children of an instance, whichever its run.
pub(crate) fn of_parent(workflow: &str, id: &str) -> Vec<u8> {
    [b"p", workflow.as_bytes(), b"\0", id.as_bytes(), b"\0"].concat()
}

/// Whether the rows of a tag are of no other tag: of a long one the beginning counts.
pub(crate) fn is_exact_tag(tag: &str) -> bool {
    tag.len() <= EXACT
}

/// Whether the rows of an attribute are of no other value and no other name.
pub(crate) fn is_exact_attribute(name: &str, value: &Attribute) -> bool {
    let is_exact = match value {
        Attribute::Text(text) => text.len() <= EXACT,
        Attribute::Bool(_) | Attribute::Moment(_) | Attribute::Integer(_) => true,
        _ => false,
    };
    is_exact && name.len() <= EXACT
}

/// Adds the beginning of a text, which the length before it tells from all others.
fn add_text(scope: &mut Vec<u8>, text: &str) {
    let text = &text[..text.floor_char_boundary(LONGEST)];
    scope.extend(u16::try_from(text.len()).unwrap_or(u16::MAX).to_be_bytes());
    scope.extend(text.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rows_of_a_tag_that_is_exact_are_of_no_other() {
        for character in ["a", "ü", "€", "😀"] {
            let long = character.repeat(LONGEST);
            let beginnings = (0..=LONGEST + 4).filter(|length| long.is_char_boundary(*length));
            let exact: Vec<&str> = beginnings.map(|length| &long[..length]).filter(|tag| is_exact_tag(tag)).collect();
            assert!(exact.len() > 60 && exact.iter().all(|tag| of_tag(tag) != of_tag(&long)), "{character}");
        }
        assert!(!is_exact_tag(&"a".repeat(LONGEST)));
        assert_eq!(of_tag(&"a".repeat(LONGEST)), of_tag(&"a".repeat(LONGEST + 1)));
    }
}
