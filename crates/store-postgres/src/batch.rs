//! Groups that are sent to the server together.

use std::collections::HashSet;

use bytes::Bytes;
use partitura_broker::{Error, ErrorKind, Expect, Put, Result, Space};
use tokio::sync::oneshot;

/// The limits of one statement. A single group may be larger.
const PUTS: usize = 4_096;
const BYTES: usize = 8 << 20;
/// The longest key: a page of the index holds three of them.
const KEY: usize = 2_000;
/// The largest value that leaves room for the protocol's gigabyte.
const VALUE: usize = 128 << 20;

/// A group, and the caller that waits for it.
#[derive(Debug)]
pub(crate) struct Group {
    pub(crate) puts: Vec<Put>,
    pub(crate) answer: oneshot::Sender<Result<()>>,
}

/// Refuses a group that cannot be written in any batch.
pub(crate) fn check(puts: &[Put]) -> Result<()> {
    let mut keys = HashSet::with_capacity(puts.len());
    for put in puts {
        let refuse = |kind, message: &str| Err(Error::new(kind, "write", message).of(name(put)));
        if !keys.insert((put.space, &put.key)) {
            return refuse(ErrorKind::InvalidArgument, "the key occurs twice in one group; write it once");
        }
        if put.key.len() > KEY {
            return refuse(ErrorKind::InvalidArgument, "the key has more than 2,000 bytes");
        }
        if put.value.as_ref().is_some_and(|value| value.len() > VALUE) {
            return refuse(ErrorKind::PayloadTooLarge, "the value has more than 128 MiB");
        }
    }
    Ok(())
}

/// The place of a value: space and key.
pub(crate) type Key = (Space, Bytes);

/// Keys that are being written.
pub(crate) type Keys = HashSet<Key>;

impl Group {
    pub(crate) fn touches(&self, keys: &Keys) -> bool {
        !keys.is_empty() && self.puts.iter().any(|put| keys.contains(&(put.space, put.key.clone())))
    }

    pub(crate) fn keys(&self) -> impl Iterator<Item = Key> {
        self.puts.iter().map(|put| (put.space, put.key.clone()))
    }

    fn size(&self) -> usize {
        self.puts.iter().map(|put| put.key.len() + put.value.as_ref().map_or(0, Bytes::len)).sum()
    }
}

/// Groups that share no key.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    groups: Vec<Group>,
    puts: usize,
    bytes: usize,
}

impl Batch {
    /// Whether the group does not fit into the batch beside the groups that are in it.
    pub(crate) fn is_full_for(&self, group: &Group) -> bool {
        !self.groups.is_empty() && (self.puts + group.puts.len() > PUTS || self.bytes + group.size() > BYTES)
    }

    /// Adds a group, none of whose keys is in the batch.
    pub(crate) fn add(&mut self, group: Group) {
        self.puts += group.puts.len();
        self.bytes += group.size();
        self.groups.push(group);
    }

    /// The keys that it writes.
    pub(crate) fn keys(&self) -> impl Iterator<Item = Key> {
        self.groups.iter().flat_map(Group::keys)
    }

    /// The statement's arrays.
    pub(crate) fn columns(&self) -> Columns<'_> {
        let numbered =
            self.groups.iter().zip(0..).flat_map(|(group, unit)| group.puts.iter().map(move |put| (unit, put)));
        let mut puts: Vec<(i32, &Put)> = numbered.collect();
        // All writers lock their keys in the same order, so that no two wait for each other.
        puts.sort_unstable_by(|(_, one), (_, other)| (one.space, &one.key).cmp(&(other.space, &other.key)));
        Columns {
            units: puts.iter().map(|(unit, _)| *unit).collect(),
            spaces: puts.iter().map(|(_, put)| put.space).collect(),
            keys: puts.iter().map(|(_, put)| &put.key[..]).collect(),
            expected: puts.iter().map(|(_, put)| expected(put.expect)).collect(),
            values: puts.iter().map(|(_, put)| put.value.as_deref()).collect(),
            puts,
        }
    }

    /// Answers all callers: `Ok`, except for the refused groups.
    pub(crate) fn written(self, refused: Vec<Refusal>) {
        let mut results: Vec<Result<()>> = self.groups.iter().map(|_| Ok(())).collect();
        for Refusal { unit, error } in refused {
            if let Some(result) = usize::try_from(unit).ok().and_then(|unit| results.get_mut(unit)) {
                *result = Err(error);
            }
        }
        for (group, result) in self.groups.into_iter().zip(results) {
            // A caller that no longer waits needs no answer.
            let _ = group.answer.send(result);
        }
    }

    /// Gives all callers the same error. The first also gets its source.
    pub(crate) fn failed(self, error: Error) {
        let mut error = Some(error);
        let copy = error.as_ref().map(Error::duplicate);
        for group in self.groups {
            if let Some(error) = error.take().or_else(|| copy.as_ref().map(Error::duplicate)) {
                let _ = group.answer.send(Err(error));
            }
        }
    }
}

/// The error of a group that was not written.
#[derive(Debug)]
pub(crate) struct Refusal {
    /// The number of the group in its batch.
    unit: i32,
    error: Error,
}

/// A batch as the statement takes it, sorted by space and key.
#[derive(Debug)]
pub(crate) struct Columns<'b> {
    pub(crate) units: Vec<i32>,
    pub(crate) spaces: Vec<&'b str>,
    pub(crate) keys: Vec<&'b [u8]>,
    pub(crate) expected: Vec<Option<i64>>,
    pub(crate) values: Vec<Option<&'b [u8]>>,
    puts: Vec<(i32, &'b Put)>,
}

impl Columns<'_> {
    /// The refusal of the group whose put is at this place, from 1.
    pub(crate) fn refusal(&self, place: i64) -> Option<Refusal> {
        let (unit, put) = self.puts.get(usize::try_from(place).ok()?.checked_sub(1)?)?;
        let message = format!("{:?} was expected and does not hold; load again", put.expect);
        let error = Error::new(ErrorKind::Conflict, "write", message).of(name(put));
        Some(Refusal { unit: *unit, error })
    }
}

fn expected(expect: Expect) -> Option<i64> {
    match expect {
        Expect::Any => None,
        Expect::Absent => Some(0),
        // Versions count from 1, and no key was ever written that often.
        Expect::Version(version) => Some(i64::try_from(version).ok().filter(|version| *version > 0).unwrap_or(-1)),
    }
}

fn name(put: &Put) -> String {
    format!("{}/{}", put.space, put.key.escape_ascii())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(key: &'static str, expect: Expect) -> Put {
        Put { space: "s", key: key.into(), expect, value: Some("v".into()) }
    }

    fn group(keys: &[&'static str]) -> (Group, oneshot::Receiver<Result<()>>) {
        let (answer, answered) = oneshot::channel();
        (Group { puts: keys.iter().map(|key| put(key, Expect::Absent)).collect(), answer }, answered)
    }

    #[test]
    fn a_batch_is_full_at_a_number_of_puts_but_takes_any_one_group() {
        let large = || {
            let (answer, _) = oneshot::channel();
            Group { puts: vec![put("k", Expect::Any); PUTS + 1], answer }
        };
        let mut batch = Batch::default();
        assert!(!batch.is_full_for(&large()));
        batch.add(group(&["a"]).0);
        assert!(batch.is_full_for(&large()) && !batch.is_full_for(&group(&["b"]).0));
    }

    #[test]
    fn a_group_touches_the_keys_that_it_writes() {
        let keys: Keys = group(&["a", "b"]).0.keys().collect();
        assert!(group(&["c", "b"]).0.touches(&keys));
        assert!(!group(&["c", "d"]).0.touches(&keys));
    }

    #[test]
    fn a_refusal_reaches_its_own_group_alone() {
        let (one, mut first) = group(&["z"]);
        let (other, mut second) = group(&["a"]);
        let mut batch = Batch::default();
        batch.add(one);
        batch.add(other);
        let columns = batch.columns();
        assert_eq!(columns.keys, [b"a", b"z"]);
        let refused: Vec<_> = columns.refusal(2).into_iter().collect();
        assert!(columns.refusal(0).is_none() && columns.refusal(3).is_none());
        batch.written(refused);
        let error = first.try_recv().expect("an answer").expect_err("refused");
        assert_eq!((error.kind(), error.subject()), (ErrorKind::Conflict, Some("s/z")));
        second.try_recv().expect("an answer").expect("written");
    }

    #[test]
    fn no_version_below_one_or_beyond_all_counting_is_mistaken_for_absence() {
        for version in [0, u64::MAX] {
            assert_eq!(expected(Expect::Version(version)), Some(-1));
        }
        assert_eq!(expected(Expect::Version(7)), Some(7));
    }

    #[test]
    fn a_group_must_not_name_a_key_twice() {
        let error = check(&[put("a", Expect::Any), put("a", Expect::Any)]).expect_err("twice");
        assert_eq!(error.kind(), ErrorKind::InvalidArgument);
        let long = Put { key: vec![0; KEY + 1].into(), ..put("", Expect::Any) };
        assert_eq!(check(&[long]).expect_err("too long").kind(), ErrorKind::InvalidArgument);
        check(&[put("a", Expect::Any), Put { space: "t", ..put("a", Expect::Any) }]).expect("two spaces, two keys");
    }
}
