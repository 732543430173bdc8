//! Numbered places for values of one kind, reused through a free list.
//!
//! Memory comes in chunks: growing never moves what is there, so no insertion has to copy millions
//! of entries, and no more than one chunk is unused. An empty slab gives everything back.

use std::mem;
use std::ops::{Index, IndexMut};

const CHUNK_BITS: u32 = 10;
const CHUNK: usize = 1 << CHUNK_BITS;
const CHUNK_MASK: u32 = (1 << CHUNK_BITS) - 1;

#[derive(Debug)]
pub(super) struct Slab<T> {
    chunks: Vec<Vec<T>>,
    /// Places below `end` that hold nothing but a default value.
    free: Vec<u32>,
    end: u32,
}

impl<T: Default> Slab<T> {
    pub(super) fn new() -> Self {
        Self { chunks: Vec::new(), free: Vec::new(), end: 0 }
    }

    /// Puts `value` in a free place. Which one depends only on earlier calls.
    pub(super) fn insert(&mut self, value: T) -> u32 {
        if let Some(index) = self.free.pop() {
            self[index] = value;
            return index;
        }
        let index = self.end;
        let (chunk, _) = place(index);
        match self.chunks.get_mut(chunk) {
            Some(chunk) => chunk.push(value),
            // The first chunk starts small: most shards of most brokers hold little.
            None if chunk == 0 => self.chunks.push(vec![value]),
            None => {
                let mut fresh = Vec::with_capacity(CHUNK);
                fresh.push(value);
                self.chunks.push(fresh);
            }
        }
        self.end += 1;
        index
    }

    /// Takes the value out; the place is free from here on. The caller says so once.
    pub(super) fn remove(&mut self, index: u32) -> T {
        let value = mem::take(&mut self[index]);
        self.free.push(index);
        if self.count() == 0 {
            *self = Self::new();
        }
        value
    }

    pub(super) fn get(&self, index: u32) -> Option<&T> {
        let (chunk, offset) = place(index);
        self.chunks.get(chunk)?.get(offset)
    }

    pub(super) fn get_mut(&mut self, index: u32) -> Option<&mut T> {
        let (chunk, offset) = place(index);
        self.chunks.get_mut(chunk)?.get_mut(offset)
    }

    /// Every place, free ones (with their default value) included.
    pub(super) fn iter(&self) -> impl Iterator<Item = &T> {
        self.chunks.iter().flatten()
    }

    pub(super) fn count(&self) -> usize {
        (self.end as usize) - self.free.len()
    }

    /// Heap memory of the slab itself, not of what its values own.
    pub(super) fn bytes(&self) -> usize {
        let values: usize = self.chunks.iter().map(|chunk| chunk.capacity() * size_of::<T>()).sum();
        values
            + self.free.capacity() * size_of::<u32>()
            + self.chunks.capacity() * size_of::<Vec<T>>()
    }
}

impl<T> Index<u32> for Slab<T> {
    type Output = T;

    fn index(&self, index: u32) -> &T {
        let (chunk, offset) = place(index);
        &self.chunks[chunk][offset]
    }
}

impl<T> IndexMut<u32> for Slab<T> {
    fn index_mut(&mut self, index: u32) -> &mut T {
        let (chunk, offset) = place(index);
        &mut self.chunks[chunk][offset]
    }
}

fn place(index: u32) -> (usize, usize) {
    ((index >> CHUNK_BITS) as usize, (index & CHUNK_MASK) as usize)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_reused_and_memory_goes_back() {
        let mut slab = Slab::new();
        let places: Vec<u32> = (0..3000_u64).map(|value| slab.insert(value)).collect();
        assert_eq!((slab.count(), slab[2999], slab.get(3000)), (3000, 2999, None));
        assert_eq!(slab.remove(17), 17);
        assert_eq!(slab.insert(5), 17);
        for place in places {
            slab.remove(place);
        }
        assert_eq!((slab.count(), slab.bytes()), (0, 0));
    }
}
