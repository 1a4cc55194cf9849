//! The content of a disk, and its possible contents after a power failure.

use std::fs;
use std::path::Path;

use crate::chance::Chance;

/// The unit that disks write as a whole.
const SECTOR: usize = 512;
/// The unit that file systems write as a whole.
const PAGE: usize = 4_096;

/// The length of the log's header.
const HEADER: usize = 32;

/// The contents of a broker's directory.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Image {
    pub(crate) file: Option<Vec<u8>>,
    pub(crate) log: Option<Vec<u8>>,
    /// The index of the log. It is shared memory: nothing of it is ever synced.
    pub(crate) index: Option<Vec<u8>>,
}

impl Image {
    pub(crate) fn read(directory: &Path) -> Self {
        let read = |name| fs::read(directory.join(name)).ok();
        Self { file: read("partitura.db"), log: read("partitura.db-wal"), index: read("partitura.db-shm") }
    }

    pub(crate) fn write(&self, directory: &Path) {
        for (name, content) in [("db", &self.file), ("db-wal", &self.log), ("db-shm", &self.index)] {
            if let Some(content) = content {
                fs::write(directory.join(format!("partitura.{name}")), content).unwrap();
            }
        }
    }
}

/// A directory in memory, if the system has one: these tests do not depend on real syncs.
pub(crate) fn scratch() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}

/// The state when the power came back.
#[derive(Debug)]
pub(crate) struct Damaged {
    pub(crate) image: Image,
    /// A description of the damage, for people.
    pub(crate) what: String,
    /// All pending writes were written.
    pub(crate) has_all: bool,
    /// No pending write was written, or all of them only moved the log into the file.
    pub(crate) has_none: bool,
}

/// The action under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Write,
    Checkpoint,
    Close,
}

/// The power fails between one image and the next. Parts that are the same in both were synced.
pub(crate) fn after_power_loss(before: &Image, after: &Image, kind: Kind, chance: &mut Chance) -> Damaged {
    let (index, of_index) = index(before, after, chance);
    let (image, how, has_all, has_none) = match kind {
        Kind::Write => {
            let after = after.log.as_deref().unwrap_or_default();
            let (log, how) = log(before.log.as_deref().unwrap_or_default(), after, chance);
            let (has_all, has_none) = (log == after, Some(&log) == before.log.as_ref());
            (Image { file: before.file.clone(), log: Some(log), index }, how, has_all, has_none)
        }
        // The file is synced before the log may be touched: until then the log is whole.
        Kind::Checkpoint | Kind::Close => {
            let of = |image: &Image| image.file.clone().unwrap_or_default();
            let (file, how) = write(&of(before), &of(after), chance);
            let moved = Some(&file) == after.file.as_ref();
            let log = if moved && chance.one_in(2) { after.log.clone() } else { before.log.clone() };
            (Image { file: Some(file), log, index }, how, false, true)
        }
    };
    Damaged { image, what: format!("{how}, {of_index}"), has_all, has_none }
}

/// Writes to the log. When the log begins again, its header is synced before anything else is written. Otherwise
/// the old header could be found with some of the old content, which is an older state than that of the file
/// (<https://sqlite.org/src/info/ff5be73dee>).
fn log(before: &[u8], after: &[u8], chance: &mut Chance) -> (Vec<u8>, String) {
    let Some(header) = after.get(..HEADER).filter(|header| before.get(..HEADER) != Some(header)) else {
        return write(before, after, chance);
    };
    let mut begun = before.to_vec();
    begun.resize(before.len().max(HEADER), 0);
    if chance.one_in(4) {
        let at = chance.up_to(HEADER - 1);
        begun[..at].copy_from_slice(&header[..at]);
        return (begun, format!("the log was begun anew with {at} bytes of its header"));
    }
    begun[..HEADER].copy_from_slice(header);
    let (log, how) = write(&begun, after, chance);
    (log, format!("the log was begun anew, {how}"))
}

/// Writes to a file, of which some are lost.
fn write(before: &[u8], after: &[u8], chance: &mut Chance) -> (Vec<u8>, String) {
    match chance.below(7) {
        0 => (before.to_vec(), "nothing was written".into()),
        1 => (after.to_vec(), "everything was written".into()),
        2 => {
            let first = before.iter().zip(after).position(|(one, other)| one != other).unwrap_or(before.len());
            let at = first + chance.below(after.len().saturating_sub(first));
            let mut torn = after[..at.min(after.len())].to_vec();
            torn.extend_from_slice(before.get(at..).unwrap_or_default());
            (torn, format!("written up to byte {at} of {}", after.len()))
        }
        3 => blocks(before, after, SECTOR, Missing::Old, chance),
        4 => blocks(before, after, PAGE, Missing::Old, chance),
        5 => blocks(before, after, SECTOR, Missing::Zero, chance),
        _ => blocks(before, after, SECTOR, Missing::Garbage, chance),
    }
}

/// The content of a block that was not written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Missing {
    /// The old content, and zeros beyond its end. The length of the file comes from the last written block.
    Old,
    /// Zeros, and the file has its new length.
    Zero,
    /// Any old content of the disk.
    Garbage,
}

/// Blocks that are written in any order, and not all of them.
fn blocks(before: &[u8], after: &[u8], size: usize, missing: Missing, chance: &mut Chance) -> (Vec<u8>, String) {
    let likely = chance.up_to(9);
    let mut found = before.to_vec();
    let (mut written, mut all) = (0, 0);
    for start in (0..after.len()).step_by(size) {
        let range = start..after.len().min(start + size);
        let old = before.get(range.start..before.len().min(range.end)).unwrap_or_default();
        if *old == after[range.clone()] {
            continue;
        }
        all += 1;
        let is_written = chance.below(10) < likely;
        if !is_written && missing == Missing::Old {
            continue;
        }
        if found.len() < range.end {
            found.resize(range.end, 0);
        }
        if is_written {
            written += 1;
            found[range.clone()].copy_from_slice(&after[range]);
        } else {
            // Synced data is unchanged, also within a block: disks do not damage data that they do not write.
            for at in range.filter(|at| before.get(*at) != Some(&after[*at])) {
                found[at] = if missing == Missing::Zero { 0 } else { chance.next() as u8 };
            }
        }
    }
    (found, format!("{written} of {all} blocks of {size} were written, instead of the others there is {missing:?}"))
}

fn index(before: &Image, after: &Image, chance: &mut Chance) -> (Option<Vec<u8>>, &'static str) {
    match chance.below(4) {
        0 => (None, "no index"),
        1 => (before.index.clone(), "an old index"),
        2 => (after.index.clone(), "a new index"),
        _ => (Some(chance.bytes(32 << 10)), "garbage for an index"),
    }
}
