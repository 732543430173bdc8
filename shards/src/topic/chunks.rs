//! A list that grows at its end and is never copied as a whole, in pieces that huge pages fit.
//!
//! A chunk takes 2 MiB, so adding one costs what a huge page costs and no more. The first one doubles
//! until it is as large: most shards of most brokers hold little. Memory of whole chunks is asked for in
//! multiples of a huge page, and for elements that are aligned to 32 bytes or more that is how an allocator
//! can tell that it will be used as a whole.

use std::mem;
use std::ops::{Index, IndexMut};

const CHUNK_BYTES: usize = 2 * 1024 * 1024;

#[derive(Debug)]
pub(super) struct Chunks<T> {
    /// All but the last one are full, or were given back.
    chunks: Vec<Vec<T>>,
}

impl<T> Default for Chunks<T> {
    fn default() -> Self {
        Self { chunks: Vec::new() }
    }
}

impl<T> Chunks<T> {
    const BITS: u32 = (CHUNK_BYTES / size_of::<T>()).ilog2();
    const COUNT: usize = 1 << Self::BITS;

    /// With memory for so many, or for those of a chunk if they are fewer.
    pub(super) fn with_room(count: usize) -> Self {
        Self { chunks: vec![Vec::with_capacity(count.min(Self::COUNT))] }
    }

    pub(super) fn len(&self) -> usize {
        let last = self.chunks.last().map_or(0, Vec::len);
        (self.chunks.len().saturating_sub(1) << Self::BITS) + last
    }

    pub(super) fn push(&mut self, value: T) {
        match self.chunks.last_mut() {
            Some(chunk) if chunk.len() < Self::COUNT => {
                if chunk.len() == chunk.capacity() {
                    Self::grow(chunk);
                }
                chunk.push(value);
            }
            Some(_) => {
                let mut chunk = Vec::with_capacity(Self::COUNT);
                chunk.push(value);
                self.chunks.push(chunk);
            }
            None => self.chunks.push(vec![value]),
        }
    }

    /// Gives back all whole chunks before `end`. What was there is not looked for any more.
    pub(super) fn forget(&mut self, end: usize) {
        let whole = (end >> Self::BITS).min(self.chunks.len().saturating_sub(1));
        // Those before the last of them are gone already, as a rule.
        for chunk in self.chunks.iter_mut().take(whole).rev() {
            if mem::take(chunk).capacity() == 0 {
                return;
            }
        }
    }

    #[inline]
    pub(super) fn get(&self, at: usize) -> Option<&T> {
        self.chunks.get(at >> Self::BITS)?.get(at & (Self::COUNT - 1))
    }

    #[inline]
    pub(super) fn get_mut(&mut self, at: usize) -> Option<&mut T> {
        self.chunks.get_mut(at >> Self::BITS)?.get_mut(at & (Self::COUNT - 1))
    }

    /// Of the list itself, not of what its elements own.
    pub(super) fn bytes(&self) -> usize {
        let elements: usize = self.chunks.iter().map(Vec::capacity).sum();
        elements * size_of::<T>() + self.chunks.capacity() * size_of::<Vec<T>>()
    }

    /// Makes room in a first chunk that is full and not whole yet.
    #[cold]
    fn grow(chunk: &mut Vec<T>) {
        let room = (chunk.len() * 2).clamp(1, Self::COUNT);
        chunk.reserve_exact(room - chunk.len());
    }
}

impl<T> Index<usize> for Chunks<T> {
    type Output = T;

    #[inline]
    fn index(&self, at: usize) -> &T {
        &self.chunks[at >> Self::BITS][at & (Self::COUNT - 1)]
    }
}

impl<T> IndexMut<usize> for Chunks<T> {
    #[inline]
    fn index_mut(&mut self, at: usize) -> &mut T {
        &mut self.chunks[at >> Self::BITS][at & (Self::COUNT - 1)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As large as what huge pages are for.
    type Line = [u64; 8];

    const LINES: usize = CHUNK_BYTES / size_of::<Line>();

    fn line(n: usize) -> Line {
        [n as u64; 8]
    }

    #[test]
    fn whole_chunks_are_exact_and_what_is_small_stays_small() {
        let mut chunks = Chunks::default();
        for n in 0..3 * LINES + 1 {
            assert_eq!(chunks.len(), n);
            chunks.push(line(n));
            assert!(chunks.chunks.len() > 1 || chunks.chunks[0].capacity() <= 2 * (n + 1));
        }
        let sizes: Vec<usize> =
            chunks.chunks.iter().map(|chunk| chunk.capacity() * size_of::<Line>()).collect();
        assert_eq!(sizes, [CHUNK_BYTES; 4]);
        assert!((0..3 * LINES + 1).all(|n| chunks.get(n) == Some(&line(n))));
        assert_eq!((chunks.get(3 * LINES + 1), chunks.get(4 * LINES)), (None, None));
    }

    #[test]
    fn chunks_that_are_passed_go_back() {
        let mut chunks = Chunks::with_room(3 * LINES);
        assert_eq!(chunks.bytes(), CHUNK_BYTES + size_of::<Vec<Line>>());
        for n in 0..3 * LINES {
            chunks.push(line(n));
        }
        for end in [0, LINES - 1, LINES, 2 * LINES + 7] {
            chunks.forget(end);
            let left: usize = chunks.chunks.iter().map(Vec::capacity).sum();
            assert_eq!(left, (3 - end / LINES) * LINES);
            assert_eq!((chunks.len(), chunks[2 * LINES + 7]), (3 * LINES, line(2 * LINES + 7)));
        }
        chunks.forget(5 * LINES);
        assert_eq!(chunks[2 * LINES + 7], line(2 * LINES + 7), "the last one stays");
    }
}
