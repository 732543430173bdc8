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
