use std::collections::VecDeque;
use std::fmt::{self, Write};

/// The number of lines that are kept of a trace: its end explains a failure.
const KEPT: usize = 20_000;

/// The trace of a world, line by line: always as a hash, which two runs of one seed share, and as text if it is asked
/// for.
#[derive(Debug)]
pub(crate) struct Trace {
    hash: u64,
    lines: Option<VecDeque<String>>,
    count: u64,
}

impl Trace {
    pub(crate) fn new(keep: bool) -> Self {
        // FNV-1a.
        Self { hash: 0xcbf2_9ce4_8422_2325, lines: keep.then(VecDeque::new), count: 0 }
    }

    pub(crate) fn note(&mut self, at: u64, actor: &str, what: fmt::Arguments<'_>) {
        self.count += 1;
        // Writing to a hash cannot fail.
        let _ = writeln!(Hasher(&mut self.hash), "{at} {actor} {what}");
        if let Some(lines) = &mut self.lines {
            if lines.len() == KEPT {
                lines.pop_front();
            }
            lines.push_back(format!("{:>4}.{:03} s  {actor:<8} {what}", at / 1_000, at % 1_000));
        }
    }

    pub(crate) fn hash(&self) -> u64 {
        self.hash
    }

    /// The number of lines.
    pub(crate) fn count(&self) -> u64 {
        self.count
    }

    pub(crate) fn take_lines(&mut self) -> Vec<String> {
        self.lines.take().unwrap_or_default().into()
    }
}

struct Hasher<'a>(&'a mut u64);

impl Write for Hasher<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for byte in text.bytes() {
            *self.0 = (*self.0 ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
        Ok(())
    }
}
