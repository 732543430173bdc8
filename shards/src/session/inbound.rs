//! QoS 2 messages that came in and whose PUBREL has not: their identifiers, so that a repeated PUBLISH
//! delivers nothing twice (MQTT 5.0 section 4.3.3). Belongs to the session; bounded by the receive
//! maximum (5.0) or by the 65,535 identifiers there are.

use crate::ids::PacketId;

/// The identifiers in use, as a bitmap that exists only while one is.
#[derive(Debug, Default)]
pub struct Inbound {
    /// 1,024 words once needed: 8 KiB for a session that uses many, a sorted list for one that uses few.
    few: Vec<u16>,
    many: Option<Box<[u64; 1024]>>,
    count: usize,
}

/// Identifiers kept in the list before it becomes a bitmap.
const FEW_MAX: usize = 64;

impl Inbound {
    #[must_use]
    pub fn count(&self) -> usize {
        self.count
    }

    #[must_use]
    pub fn contains(&self, id: PacketId) -> bool {
        match &self.many {
            Some(words) => words[word(id)] & bit(id) != 0,
            None => self.few.contains(&id.value()),
        }
    }

    /// All of them, in no particular order.
    pub fn iter(&self) -> impl Iterator<Item = PacketId> + '_ {
        let listed = self.few.iter().copied();
        let set = (0..=u16::MAX).filter(|&value| match &self.many {
            Some(words) => words[usize::from(value / 64)] & (1 << (value % 64)) != 0,
            None => false,
        });
        let set = if self.many.is_some() { Some(set) } else { None };
        listed.chain(set.into_iter().flatten()).filter_map(PacketId::new)
    }

    /// The first identifier from `id` on, around the end of the numbers, that is not in use. There must
    /// be one.
    #[must_use]
    pub fn next_absent(&self, id: PacketId) -> PacketId {
        let Some(words) = &self.many else {
            // At most one more step than the list is long.
            return std::iter::successors(Some(id), |id| Some(id.next()))
                .find(|&id| !self.contains(id))
                .expect("a short list does not hold every identifier");
        };
        let at = word(id);
        let behind = !words[at] & (u64::MAX << (id.value() % 64));
        let free = |at: usize| if at == 0 { !words[0] & !1 } else { !words[at] };
        let (at, bits) = match behind & if at == 0 { !1 } else { u64::MAX } {
            0 => (1..=1024)
                .map(|step| (at + step) % 1024)
                .map(|at| (at, free(at)))
                .find(|&(_, bits)| bits != 0)
                .expect("the caller knows that one is absent"),
            bits => (at, bits),
        };
        let value = at * 64 + bits.trailing_zeros() as usize;
        u16::try_from(value).ok().and_then(PacketId::new).expect("0 is masked out")
    }

    /// False if it was there.
    pub fn insert(&mut self, id: PacketId) -> bool {
        if self.contains(id) {
            return false;
        }
        self.count += 1;
        if self.many.is_none() && self.few.len() < FEW_MAX {
            self.few.push(id.value());
            return true;
        }
        let few = std::mem::take(&mut self.few);
        let words = self.many.get_or_insert_with(|| Box::new([0; 1024]));
        for id in few.into_iter().filter_map(PacketId::new).chain([id]) {
            words[word(id)] |= bit(id);
        }
        true
    }

    /// False if it was not there.
    pub fn remove(&mut self, id: PacketId) -> bool {
        if !self.contains(id) {
            return false;
        }
        self.count -= 1;
        if self.count == 0 {
            self.many = None;
            self.few.clear();
        } else if let Some(words) = &mut self.many {
            words[word(id)] &= !bit(id);
        } else {
            self.few.retain(|&other| other != id.value());
        }
        true
    }
}

fn word(id: PacketId) -> usize {
    usize::from(id.value() / 64)
}

fn bit(id: PacketId) -> u64 {
    1 << (id.value() % 64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_absent_one_is_found_around_the_end() {
        let id = |value| PacketId::new(value).expect("not 0");
        let mut inbound = Inbound::default();
        assert_eq!(inbound.next_absent(id(7)), id(7));
        for value in 1..=u16::MAX {
            assert_eq!(inbound.next_absent(id(1)), id(value));
            inbound.insert(id(value));
        }
        for value in [1, 2, 63, 64, 65, 4096, 65_534, 65_535] {
            inbound.remove(id(value));
            for from in [1, 62, 63, 64, 65, 66, 4095, 4096, 4097, 40_000, 65_535] {
                assert_eq!(inbound.next_absent(id(from)), id(value));
            }
            inbound.insert(id(value));
        }
    }

    #[test]
    fn holds_every_identifier_once() {
        let mut inbound = Inbound::default();
        for value in 1..=u16::MAX {
            let id = PacketId::new(value).expect("not 0");
            assert!(inbound.insert(id));
            assert!(!inbound.insert(id));
        }
        assert_eq!(inbound.count(), 65_535);
        for value in 1..=u16::MAX {
            let id = PacketId::new(value).expect("not 0");
            assert!(inbound.remove(id));
            assert!(!inbound.remove(id));
            assert!(!inbound.contains(id));
        }
        assert!(inbound.many.is_none());
    }
}
