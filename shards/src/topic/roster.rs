//! A list with at most one entry per session, where any entry is found and removed in constant time
//! even if there are 100,000: small lists are scanned, large ones carry an index.

use std::ops::Deref;

use hashbrown::HashTable;

use super::hash::mix;
use crate::ids::SessionId;

/// From this length on a scan costs more than the index; the index goes when half of it is left.
const INDEX_MIN: usize = 32;

/// What a [`Roster`] holds.
pub(super) trait OfSession {
    fn session(&self) -> SessionId;
}

#[derive(Debug)]
pub(super) struct Roster<T> {
    items: Vec<T>,
    /// Positions in `items`, by session.
    index: Option<Box<HashTable<u32>>>,
}

impl<T> Default for Roster<T> {
    fn default() -> Self {
        Self { items: Vec::new(), index: None }
    }
}

impl<T> Deref for Roster<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        &self.items
    }
}

impl<T: OfSession> Roster<T> {
    pub(super) fn position(&self, session: SessionId) -> Option<usize> {
        match &self.index {
            None => self.items.iter().position(|item| item.session() == session),
            Some(index) => index
                .find(hash(session), |&at| self.items[at as usize].session() == session)
                .map(|&at| at as usize),
        }
    }

    pub(super) fn find(&self, session: SessionId) -> Option<&T> {
        self.position(session).map(|at| &self.items[at])
    }

    /// The entry at `at`, whose session must stay the same.
    pub(super) fn at_mut(&mut self, at: usize) -> &mut T {
        &mut self.items[at]
    }

    /// Appends an entry of a session that has none yet.
    pub(super) fn push(&mut self, item: T) {
        let at = place(self.items.len());
        let session = item.session();
        self.items.push(item);
        if let Some(index) = &mut self.index {
            let items = &self.items;
            index.insert_unique(hash(session), at, |&at| hash(items[at as usize].session()));
        } else if self.items.len() > INDEX_MIN {
            self.build_index();
        }
    }

    /// Removes the entry at `at`; the last one takes its place.
    pub(super) fn swap_remove(&mut self, at: usize) -> T {
        let last = self.items.len() - 1;
        self.swap(at, last);
        if let Some(index) = &mut self.index {
            let session = self.items[last].session();
            if let Ok(entry) = index.find_entry(hash(session), |&other| other as usize == last) {
                entry.remove();
            }
        }
        let item = self.items.swap_remove(last);
        self.shrink();
        item
    }

    pub(super) fn swap(&mut self, one: usize, other: usize) {
        if one == other {
            return;
        }
        if let Some(index) = &mut self.index {
            let (one_session, other_session) =
                (self.items[one].session(), self.items[other].session());
            let (one_at, other_at) = (place(one), place(other));
            // Both are found before either is changed: in between, two entries would be equal.
            let found = index
                .get_disjoint_mut([hash(one_session), hash(other_session)], |which, &at| {
                    at == if which == 0 { one_at } else { other_at }
                });
            if let [Some(first), Some(second)] = found {
                *first = other_at;
                *second = one_at;
            }
        }
        self.items.swap(one, other);
    }

    fn build_index(&mut self) {
        let mut index = Box::new(HashTable::with_capacity(self.items.len() * 2));
        for (at, item) in self.items.iter().enumerate() {
            index.insert_unique(hash(item.session()), place(at), |&at| {
                hash(self.items[at as usize].session())
            });
        }
        self.index = Some(index);
    }

    /// Gives memory back when three quarters of it are unused.
    fn shrink(&mut self) {
        let count = self.items.len();
        if count <= INDEX_MIN / 2 {
            self.index = None;
        }
        if count > INDEX_MIN && count < self.items.capacity() / 4 {
            self.items.shrink_to(count * 2);
            let items = &self.items;
            if let Some(index) = &mut self.index {
                index.shrink_to(count * 2, |&at| hash(items[at as usize].session()));
            }
        }
    }

    pub(super) fn bytes(&self) -> usize {
        let index = self
            .index
            .as_ref()
            .map_or(0, |index| size_of::<HashTable<u32>>() + index.allocation_size());
        self.items.capacity() * size_of::<T>() + index
    }
}

/// Sessions are numbered by the shard, so the hash needs no secret.
fn hash(session: SessionId) -> u64 {
    mix(u64::from(session.0))
}

fn place(at: usize) -> u32 {
    u32::try_from(at).expect("one entry per session, and sessions are numbered by u32")
}

#[cfg(test)]
mod tests {
    use super::*;

    impl OfSession for u32 {
        fn session(&self) -> SessionId {
            SessionId(*self)
        }
    }

    #[test]
    fn large_and_small_lists_answer_alike() {
        let mut roster = Roster::default();
        for session in 0..300 {
            roster.push(session);
        }
        roster.swap(3, 200);
        assert_eq!(
            (roster.position(SessionId(3)), roster.position(SessionId(200))),
            (Some(200), Some(3))
        );
        // 7 is coprime to 300: every session leaves once, in a scattered order.
        for step in 0..300_u32 {
            let session = step * 7 % 300;
            let at = roster.position(SessionId(session)).unwrap();
            assert_eq!(roster.swap_remove(at), session);
            assert_eq!(roster.position(SessionId(session)), None);
            for other in roster.iter() {
                let at = roster.position(SessionId(*other)).unwrap();
                assert_eq!(roster[at], *other);
            }
        }
        assert!(roster.is_empty() && roster.bytes() < 1024, "{} bytes left", roster.bytes());
    }
}
