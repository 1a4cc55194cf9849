//! Bytes that decoders do not expect.
//!
//! A decoder of foreign bytes (a message, a row, a header, a file, a URL) returns an error for whatever it cannot read.
//! It never panics, and never runs out of stack. Each crate that has such decoders names them in its module `fuzzing`,
//! and there are two ways to try them:
//!
//! * [`smoke`], in the crate's own tests, on stable: the committed corpus, and changes of it from a fixed seed.
//! * `cargo +nightly fuzz run TARGET --fuzz-dir crates/workshop/fuzz/libfuzzer crates/workshop/fuzz/corpora/TARGET`:
//!   libFuzzer, guided by coverage, for as long as one likes. Bytes for which it fails become a file of the corpus.

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

/// The seed, unless `PARTITURA_FUZZ_SEED` is another.
const SEED: u64 = 0x5eed;
/// Texts that decoders have stumbled over elsewhere.
const TOKENS: &[&[u8]] = &[
    b"-1",
    b"0",
    b"18446744073709551615",
    b"18446744073709551616",
    b"99999999999999999999999999999999999999999999",
    b"1e400",
    b"-0.0",
    b"null",
    b"true",
    b"{}",
    b"[]",
    b"\"\"",
    b"\"base64:\"",
    b"\"base64:!\"",
    b"\\ud800",
    b"\\u0000",
    b"\0",
    b"\xff\xfe",
    b"\xc3",
    b"%",
    b"%zz",
    b"%00",
    b"://",
    b"@",
    b"[::1",
    b":99999",
    b"?a=&b",
    b"..",
];

/// Tries a decoder with its corpus and `rounds` changes of it.
///
/// # Panics
/// The corpus `crates/workshop/fuzz/corpora/TARGET` has no file; or the decoder panics: the message has the seed, the
/// number of the round and the bytes.
pub fn smoke(target: &str, rounds: usize, decode: impl Fn(&[u8])) {
    smoke_of(target, &corpus(target), rounds, decode);
}

/// As [`smoke`], of a corpus that the test makes.
///
/// # Panics
/// As [`smoke`].
pub fn smoke_of(target: &str, corpus: &[Vec<u8>], rounds: usize, decode: impl Fn(&[u8])) {
    let seed = std::env::var("PARTITURA_FUZZ_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(SEED);
    println!("{target}: seed {seed}, {} files, {rounds} rounds", corpus.len());
    let attempt = |round: usize, bytes: &[u8]| {
        if catch_unwind(AssertUnwindSafe(|| decode(bytes))).is_err() {
            let text = String::from_utf8_lossy(&bytes[..bytes.len().min(2_000)]);
            panic!(
                "{target} panicked in round {round} of seed {seed}, on {} bytes: {text:?} ({bytes:x?})",
                bytes.len()
            );
        }
    };
    for file in corpus {
        attempt(0, file);
    }
    for deep in ["[", "{\"a\":", "\"", "1", " "] {
        attempt(0, deep.repeat(200_000).as_bytes());
    }
    let mut random = Random(seed);
    for round in 1..=rounds {
        attempt(round, &changed(&mut random, corpus));
    }
}

fn corpus(target: &str) -> Vec<Vec<u8>> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpora").join(target);
    let files = fs::read_dir(&directory).map(|files| files.flatten().map(|file| file.path()).collect::<Vec<_>>());
    let mut files = files.unwrap_or_default();
    files.sort();
    let corpus: Vec<Vec<u8>> = files.iter().filter_map(|file| fs::read(file).ok()).collect();
    assert!(!corpus.is_empty(), "{} has no file: put something there that the decoder reads", directory.display());
    corpus
}

/// A file of the corpus with one to eight changes.
fn changed(random: &mut Random, corpus: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = corpus[random.below(corpus.len())].clone();
    for _ in 0..=random.below(8) {
        let (at, end) = (random.below(bytes.len() + 1), random.below(bytes.len() + 1));
        let (from, to) = (at.min(end), at.max(end));
        match random.below(8) {
            0 if at < bytes.len() => bytes[at] ^= 1 << random.below(8),
            1 if at < bytes.len() => bytes[at] = random.below(256) as u8,
            2 => bytes.truncate(at),
            3 => drop(bytes.drain(from..to.min(from + 16))),
            4 => {
                let part = bytes[from..to].to_vec();
                bytes.splice(at..at, part);
            }
            5 => {
                let other = &corpus[random.below(corpus.len())];
                let from = random.below(other.len() + 1);
                bytes.splice(at.., other[from..].iter().copied());
            }
            // A value in place of another.
            6 => {
                let is_part = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'-';
                let length = bytes[at..].iter().take_while(|byte| is_part(byte)).count();
                bytes.splice(at..at + length, random.token());
            }
            _ => {
                bytes.splice(at..at, random.token());
            }
        }
        bytes.truncate(1_024 * 1_024);
    }
    bytes
}

/// SplitMix64 (Steele, Lea, Flood 2014).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `end`, or 0.
    fn below(&mut self, end: usize) -> usize {
        (self.next() % end.max(1) as u64) as usize
    }

    fn token(&mut self) -> Vec<u8> {
        TOKENS[self.below(TOKENS.len())].to_vec()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_bytes() {
        let corpus = [b"{\"a\":1}".to_vec(), b"queue://a:1".to_vec()];
        let some = |seed| {
            let mut random = Random(seed);
            (0..200).map(|_| changed(&mut random, &corpus)).collect::<Vec<_>>()
        };
        assert_eq!(some(1), some(1));
        assert_ne!(some(1), some(2));
    }

    #[test]
    fn a_decoder_that_panics_is_found_and_its_bytes_are_told() {
        let found = catch_unwind(|| smoke("token", 20_000, |bytes| assert!(!bytes.contains(&b'~'))));
        let told = found.expect_err("a tilde comes sooner or later");
        let told = told.downcast_ref::<String>().expect("a text");
        assert!(told.contains("panicked in round") && told.contains("seed"), "{told}");
    }
}
