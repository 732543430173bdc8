//! Values under small numbers, in chunks: growing moves nothing, and a chunk that is empty is freed,
//! so memory returns when clients leave.

/// Values per chunk.
const CHUNK: usize = 1 << CHUNK_BITS;
const CHUNK_BITS: u32 = 8;

#[derive(Debug)]
struct Chunk<T> {
    values: Vec<Option<T>>,
    /// Numbers inside the chunk that are free.
    free: Vec<u8>,
}

/// Owner of values that are named by `u32`. A number is reused after `remove`.
#[derive(Debug)]
pub struct Arena<T> {
    chunks: Vec<Chunk<T>>,
    /// Chunks that have, or had, a free number; checked when taken.
    open: Vec<u32>,
    count: usize,
}

impl<T> Default for Arena<T> {
    fn default() -> Self {
        Self { chunks: Vec::new(), open: Vec::new(), count: 0 }
    }
}

impl<T> Arena<T> {
    /// How many values there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.count
    }

    /// All numbers in use are below.
    #[must_use]
    pub fn end(&self) -> u32 {
        u32::try_from(self.chunks.len() << CHUNK_BITS).unwrap_or(u32::MAX)
    }

    #[must_use]
    pub fn get(&self, index: u32) -> Option<&T> {
        let (chunk, place) = split(index);
        self.chunks.get(chunk)?.values.get(place)?.as_ref()
    }

    pub fn get_mut(&mut self, index: u32) -> Option<&mut T> {
        let (chunk, place) = split(index);
        self.chunks.get_mut(chunk)?.values.get_mut(place)?.as_mut()
    }

    /// Keeps `value` under a free number.
    ///
    /// # Panics
    /// Beyond 2^32 values, which no memory holds.
    pub fn insert(&mut self, value: T) -> u32 {
        let chunk_index = self.open_chunk();
        let chunk = &mut self.chunks[chunk_index as usize];
        let place = chunk.free.pop().expect("an open chunk has a free number");
        chunk.values[usize::from(place)] = Some(value);
        if chunk.free.is_empty() {
            self.open.pop();
        }
        self.count += 1;
        chunk_index << CHUNK_BITS | u32::from(place)
    }

    /// Takes a value out.
    pub fn remove(&mut self, index: u32) -> Option<T> {
        let value = self.retire(index)?;
        self.release(index);
        Some(value)
    }

    /// Takes a value out, and its number is not reused before [`Self::release`].
    pub fn retire(&mut self, index: u32) -> Option<T> {
        let (chunk, place) = split(index);
        let value = self.chunks.get_mut(chunk)?.values.get_mut(place)?.take()?;
        self.count -= 1;
        Some(value)
    }

    /// Frees the number of a value that was retired.
    pub fn release(&mut self, index: u32) {
        let (chunk_index, place) = split(index);
        let Some(chunk) = self.chunks.get_mut(chunk_index) else { return };
        debug_assert!(chunk.values.get(place).is_some_and(Option::is_none), "it is in use");
        if chunk.free.is_empty() {
            self.open.push(index >> CHUNK_BITS);
        }
        // `place` is below CHUNK, which a byte holds.
        chunk.free.push(u8::try_from(place).unwrap_or(u8::MAX));
        // The first chunk stays, so that a value that comes and goes alone costs no allocation.
        if chunk.free.len() == CHUNK && chunk_index > 0 {
            chunk.values = Vec::new();
            chunk.free = Vec::new();
        }
    }

    /// All values, in the order of their numbers.
    pub fn iter(&self) -> impl Iterator<Item = (u32, &T)> {
        self.chunks.iter().zip(0u32..).flat_map(|(chunk, c)| {
            chunk
                .values
                .iter()
                .zip(0u32..)
                .filter_map(move |(value, p)| Some((c << CHUNK_BITS | p, value.as_ref()?)))
        })
    }

    fn open_chunk(&mut self) -> u32 {
        if let Some(&index) = self.open.last() {
            let chunk = &mut self.chunks[index as usize];
            if chunk.values.is_empty() {
                chunk.fill();
            }
            return index;
        }
        let mut chunk = Chunk { values: Vec::new(), free: Vec::new() };
        chunk.fill();
        self.chunks.push(chunk);
        let index = u32::try_from(self.chunks.len() - 1).expect("2^24 chunks fit no memory");
        self.open.push(index);
        index
    }
}

/// Values under numbers that are never given out again: an answer that comes late finds nothing.
#[derive(Debug)]
pub struct Tickets<T> {
    arena: Arena<(u32, T)>,
    serial: u32,
}

impl<T> Default for Tickets<T> {
    fn default() -> Self {
        Self { arena: Arena::default(), serial: 0 }
    }
}

impl<T> Tickets<T> {
    pub fn insert(&mut self, value: T) -> u64 {
        self.serial = self.serial.wrapping_add(1);
        let index = self.arena.insert((self.serial, value));
        (u64::from(self.serial) << 32) | u64::from(index)
    }

    pub fn get_mut(&mut self, ticket: u64) -> Option<&mut T> {
        let (serial, value) = self.arena.get_mut(index_of(ticket))?;
        (u64::from(*serial) == ticket >> 32).then_some(value)
    }

    /// All values, in the order of their numbers.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        self.arena.iter().map(|(_, (_, value))| value)
    }

    pub fn remove(&mut self, ticket: u64) -> Option<T> {
        self.get_mut(ticket)?;
        self.arena.remove(index_of(ticket)).map(|(_, value)| value)
    }

    #[must_use]
    pub fn count(&self) -> usize {
        self.arena.count()
    }
}

fn index_of(ticket: u64) -> u32 {
    u32::try_from(ticket & u64::from(u32::MAX)).unwrap_or(0)
}

impl<T> Chunk<T> {
    fn fill(&mut self) {
        self.values = (0..CHUNK).map(|_| None).collect();
        self.free = (0..=u8::MAX).rev().collect();
    }
}

fn split(index: u32) -> (usize, usize) {
    let index = index as usize;
    (index / CHUNK, index % CHUNK)
}

const _: () = assert!(CHUNK == u8::MAX as usize + 1);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_reused_and_empty_chunks_freed() {
        let mut arena = Arena::default();
        let numbers: Vec<_> = (0..1000u32).map(|n| (arena.insert(n), n)).collect();
        for &(index, n) in &numbers {
            assert_eq!(arena.get(index), Some(&n));
        }
        assert_eq!(arena.iter().count(), 1000);
        for &(index, n) in &numbers {
            assert_eq!(arena.remove(index), Some(n));
            assert_eq!(arena.remove(index), None);
        }
        assert_eq!(arena.count(), 0);
        assert!(arena.chunks.iter().skip(1).all(|chunk| chunk.values.capacity() == 0));
        let again: Vec<_> = (0..1000u32).map(|n| arena.insert(n)).collect();
        assert_eq!(arena.chunks.len(), 4);
        let mut sorted = again.clone();
        sorted.sort_unstable();
        sorted.dedup();
        assert_eq!(sorted.len(), 1000);
    }

    #[test]
    fn a_retired_number_waits_for_its_release() {
        let mut arena = Arena::default();
        let numbers: Vec<_> = (0..600u32).map(|n| arena.insert(n)).collect();
        for &index in &numbers {
            assert_eq!(arena.retire(index), Some(index));
            assert_eq!((arena.retire(index), arena.get(index)), (None, None));
        }
        assert_eq!(arena.count(), 0);
        let others: Vec<_> = (0..600u32).map(|n| arena.insert(n)).collect();
        assert!(others.iter().all(|index| !numbers.contains(index)));
        numbers.iter().for_each(|&index| arena.release(index));
        let mut again: Vec<_> = (0..600u32).map(|n| arena.insert(n)).collect();
        again.sort_unstable();
        assert_eq!(again, numbers);
    }

    #[test]
    fn random_churn_keeps_every_value() {
        let mut arena = Arena::default();
        let mut live: Vec<(u32, u64)> = Vec::new();
        let mut state = 7u64;
        for step in 0..20_000u64 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            if live.is_empty() || state >> 62 != 0 && live.len() < 2000 {
                live.push((arena.insert(step), step));
            } else {
                let at = (state >> 33) as usize % live.len();
                let (index, value) = live.swap_remove(at);
                assert_eq!(arena.remove(index), Some(value));
            }
        }
        assert_eq!(arena.count(), live.len());
        assert!(live.iter().all(|(index, value)| arena.get(*index) == Some(value)));
    }
}
