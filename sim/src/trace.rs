//! What tells one course of events from another: a rolling hash over every choice and every effect,
//! and the same as lines to read.
//!
//! The hash depends on nothing but what it was told, so the same seed gives the same hash on every
//! machine.

use std::io::{self, Write};
use std::process;

use shards::codec::{self, Framed};
use shards::ids::Version;

/// Owned by the world that it tells of.
#[derive(Debug, Default)]
pub struct Trace {
    hash: u64,
    /// Lines go to standard output.
    pub is_printed: bool,
}

/// What an entry of the trace is about; its number is part of the hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Entry {
    Step = 1,
    Dial,
    Carried,
    Taken,
    Fault,
    Time,
    Send,
    Read,
    Close,
    HandOver,
    Adopt,
    Bell,
    Store,
    Note,
    Act,
    Crash,
}

impl Trace {
    #[must_use]
    pub fn hash(&self) -> u64 {
        self.hash
    }

    pub fn mix(&mut self, word: u64) {
        self.hash = fold(self.hash, word);
    }

    pub fn entry(&mut self, entry: Entry, place: usize, what: u64) {
        self.mix(((entry as u64) << 56) ^ place as u64);
        self.mix(what);
    }

    pub fn bytes(&mut self, bytes: &[u8]) {
        let (words, rest) = bytes.as_chunks::<8>();
        for word in words {
            self.mix(u64::from_le_bytes(*word));
        }
        let mut last = [0; 8];
        last[..rest.len()].copy_from_slice(rest);
        self.mix(u64::from_le_bytes(last));
        self.mix(bytes.len() as u64);
    }

    /// One line; the text is made only if somebody reads it.
    pub fn line(&self, text: impl FnOnce() -> String) {
        if self.is_printed && writeln!(io::stdout(), "{}", text()).is_err() {
            // Whoever read has seen enough.
            process::exit(0);
        }
    }
}

/// One word into a hash: the two halves of a product, so that every bit of the word counts.
#[must_use]
pub fn fold(hash: u64, word: u64) -> u64 {
    let product =
        u128::from(hash ^ 0x9E37_79B9_7F4A_7C15) * u128::from(word ^ 0xD1B5_4A32_D192_ED03);
    let (high, low) = ((product >> 64) & u128::from(u64::MAX), product & u128::from(u64::MAX));
    let half = |half| u64::try_from(half).expect("64 bits of a product");
    half(high) ^ half(low).rotate_left(17) ^ hash.rotate_left(29)
}

/// Cuts one direction of a wire into packets and says what they are; only for lines that are read.
#[derive(Debug, Default)]
pub struct Reader {
    cut: Vec<u8>,
}

impl Reader {
    /// Names what became whole with these bytes.
    pub fn read(&mut self, version: Version, bytes: &[u8]) -> Vec<String> {
        self.cut.extend_from_slice(bytes);
        let mut all = Vec::new();
        loop {
            match codec::frame(&self.cut, u32::MAX) {
                Ok(Framed::Whole(frame)) => {
                    all.push(match codec::decode(&frame, version) {
                        Ok(packet) => shorten(format!("{packet:?}")),
                        Err(reject) => format!("not a packet: {reject}"),
                    });
                    let len = frame.len;
                    self.cut.drain(..len);
                }
                Ok(Framed::Cut { .. }) => return all,
                Err(reject) => {
                    all.push(format!("not a length: {reject}"));
                    self.cut.clear();
                    return all;
                }
            }
        }
    }
}

/// A payload of many bytes is no help to a reader.
fn shorten(mut text: String) -> String {
    const CHARS_MAX: usize = 400;
    if let Some((at, _)) = text.char_indices().nth(CHARS_MAX) {
        text.truncate(at);
        text.push_str(" ...");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_length_and_value_count() {
        let hash = |all: &[&[u8]]| {
            let mut trace = Trace::default();
            all.iter().for_each(|bytes| trace.bytes(bytes));
            trace.hash()
        };
        let all =
            [hash(&[b"ab"]), hash(&[b"ba"]), hash(&[b"a", b"b"]), hash(&[b"ab\0"]), hash(&[])];
        for (at, one) in all.iter().enumerate() {
            assert!(!all[..at].contains(one), "{at}");
        }
    }

    #[test]
    fn packets_are_named_once_they_are_whole() {
        let mut reader = Reader::default();
        assert!(reader.read(Version::V5, &codec::PINGREQ[..1]).is_empty());
        assert_eq!(reader.read(Version::V5, &codec::PINGREQ[1..]), ["Pingreq"]);
    }
}
