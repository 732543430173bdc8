//! The keyed hash behind every table that a client can fill.
//!
//! Own, because what is needed is small and unusual: the same value on every machine for the same
//! seed (the simulator replays by seed), and both factors of each multiplication keyed, so that who
//! does not know the seed cannot cancel one of them and make collisions. It is not a cryptographic
//! hash; a seed that leaks has to be replaced.

use std::hash::{BuildHasher, Hasher};

/// From here on bytes are taken in four lanes.
const LONG_BYTES: usize = 256;

/// A hash function chosen by a seed. Also a `BuildHasher` for `hashbrown` maps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seeded {
    start: u64,
    left: u64,
    right: u64,
}

impl Seeded {
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        // Three keys from one seed, as SplitMix64 would draw them.
        let step = 0x9e37_79b9_7f4a_7c15_u64;
        Self {
            start: mix(seed.wrapping_add(step)),
            left: mix(seed.wrapping_add(step.wrapping_mul(2))),
            right: mix(seed.wrapping_add(step.wrapping_mul(3))),
        }
    }

    /// The hash of some bytes.
    #[must_use]
    pub const fn bytes(&self, bytes: &[u8]) -> u64 {
        self.extend(self.start, bytes)
    }

    /// The hash of two numbers; about one multiplication.
    #[must_use]
    pub const fn pair(&self, first: u64, second: u64) -> u64 {
        fold(fold(first ^ self.left, second ^ self.right), self.start)
    }

    /// A hash of two numbers that still wants to go through [`Self::pair`] or another half.
    #[must_use]
    pub(super) const fn half_pair(&self, first: u64, second: u64) -> u64 {
        fold(first ^ self.left, second ^ self.right)
    }

    const fn extend(&self, state: u64, bytes: &[u8]) -> u64 {
        // The length goes in first, so that bytes read twice or not there change nothing.
        let state = state ^ (bytes.len() as u64).wrapping_mul(0x9fb2_1c65_1e98_df25);
        if bytes.len() > LONG_BYTES {
            return self.extend_long(state, bytes);
        }
        self.finish(state, bytes)
    }

    #[inline]
    const fn finish(&self, mut state: u64, bytes: &[u8]) -> u64 {
        let mut rest = bytes;
        while rest.len() > 16 {
            let Some((block, tail)) = rest.split_first_chunk::<16>() else { break };
            state = self.absorb(state, block);
            rest = tail;
        }
        fold(self.absorb(state, rest) ^ self.right, self.start)
    }

    /// In four lanes: a multiplication need not wait for the one before, which is what long bytes cost.
    #[inline(never)]
    const fn extend_long(&self, state: u64, bytes: &[u8]) -> u64 {
        let (mut a, mut b, mut c, mut d) = (state, state, state, state);
        let mut rest = bytes;
        while let Some((block, tail)) = rest.split_first_chunk::<64>() {
            let (first, block) = block.split_at(16);
            let (second, block) = block.split_at(16);
            let (third, fourth) = block.split_at(16);
            a = self.absorb(a, first);
            b = self.absorb(b, second);
            c = self.absorb(c, third);
            d = self.absorb(d, fourth);
            rest = tail;
        }
        // As if the lanes were bytes: their order matters.
        let state = fold(a ^ self.left ^ state, b ^ self.right);
        self.finish(fold(c ^ self.left ^ state, d ^ self.right), rest)
    }

    /// Adds up to 16 bytes.
    #[inline]
    const fn absorb(&self, state: u64, bytes: &[u8]) -> u64 {
        let (low, high) = ends(bytes);
        fold(low ^ self.left ^ state, high ^ self.right)
    }
}

impl BuildHasher for Seeded {
    type Hasher = SeededHasher;

    fn build_hasher(&self) -> SeededHasher {
        SeededHasher { keys: *self, state: self.start }
    }
}

/// One value on its way through a [`Seeded`] hash.
#[derive(Clone, Debug)]
pub struct SeededHasher {
    keys: Seeded,
    state: u64,
}

impl Hasher for SeededHasher {
    fn write(&mut self, bytes: &[u8]) {
        self.state = self.keys.extend(self.state, bytes);
    }

    fn write_u8(&mut self, value: u8) {
        self.write_u64(u64::from(value));
    }

    fn write_u16(&mut self, value: u16) {
        self.write_u64(u64::from(value));
    }

    fn write_u32(&mut self, value: u32) {
        self.write_u64(u64::from(value));
    }

    fn write_u64(&mut self, value: u64) {
        self.state = self.keys.pair(self.state, value);
    }

    fn finish(&self) -> u64 {
        self.state
    }
}

/// All 128 bits of the product, folded to 64.
#[expect(clippy::cast_possible_truncation, reason = "the two halves are what is wanted")]
const fn fold(left: u64, right: u64) -> u64 {
    let product = left as u128 * right as u128;
    product as u64 ^ (product >> 64) as u64
}

/// The output step of SplitMix64: every bit of `value` reaches every bit of the result.
#[must_use]
pub const fn mix(value: u64) -> u64 {
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

/// At most 16 bytes as two words: the first and the last ones, which overlap if there are fewer.
const fn ends(bytes: &[u8]) -> (u64, u64) {
    if let (Some(first), Some(last)) = (bytes.first_chunk::<8>(), bytes.last_chunk::<8>()) {
        return (u64::from_le_bytes(*first), u64::from_le_bytes(*last));
    }
    if let (Some(first), Some(last)) = (bytes.first_chunk::<4>(), bytes.last_chunk::<4>()) {
        return (u32::from_le_bytes(*first) as u64, u32::from_le_bytes(*last) as u64);
    }
    match *bytes {
        [] => (0, 0),
        [only] => (only as u64, 0),
        [first, second] => (first as u64, second as u64),
        [first, second, third, ..] => (first as u64 | (third as u64) << 8, second as u64),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn seed_length_and_content_matter() {
        let hash = Seeded::new(1);
        assert_ne!(hash.bytes(b"a"), Seeded::new(2).bytes(b"a"));
        assert_ne!(hash.bytes(b""), hash.bytes(b"\0"));
        assert_ne!(hash.bytes(b"ab"), hash.bytes(b"ab\0"));
        assert_ne!(hash.bytes(&[7; 16]), hash.bytes(&[7; 17]));
        assert_ne!(hash.pair(1, 2), hash.pair(2, 1));
    }

    #[test]
    fn every_byte_and_its_place_matter_in_long_bytes_too() {
        let hash = Seeded::new(1);
        for count in [LONG_BYTES, LONG_BYTES + 1, LONG_BYTES + 64, LONG_BYTES + 100, 1000] {
            let mut seen = BTreeSet::from([hash.bytes(&vec![b'x'; count])]);
            assert!(seen.insert(hash.bytes(&vec![b'x'; count + 1])));
            for at in 0..count {
                let mut bytes = vec![b'x'; count];
                bytes[at] = b'y';
                assert!(seen.insert(hash.bytes(&bytes)), "byte {at} of {count}");
            }
        }
        // Pieces of 16 bytes, in each order.
        let pieces: Vec<[u8; 16]> = (0..20).map(|value| [value; 16]).collect();
        let mut seen = BTreeSet::new();
        for one in 0..pieces.len() {
            for other in 0..=one {
                let mut pieces = pieces.clone();
                pieces.swap(one, other);
                seen.insert(hash.bytes(pieces.as_flattened()));
            }
        }
        assert_eq!(seen.len(), 1 + 20 * 19 / 2);
    }

    #[test]
    fn neighbours_spread_over_high_and_low_bits() {
        let hash = Seeded::new(9);
        let mut low = BTreeSet::new();
        let mut high = BTreeSet::new();
        for number in 0..4096_u32 {
            let value = hash.bytes(format!("device/{number}").as_bytes());
            low.insert(value & 0xfff);
            high.insert(value >> 52);
        }
        // A random function leaves about 63 % of 4,096 places used.
        assert!((2450..2730).contains(&low.len()), "{} low patterns", low.len());
        assert!((2450..2730).contains(&high.len()), "{} high patterns", high.len());
    }
}
