//! Where a session's subscriptions stand in the index: none, one without memory of its own, or a set,
//! because one packet may add or remove 100,000.

use std::collections::BTreeSet;

use super::SubscriptionKey;
use crate::topic::GroupId;

/// The subscriptions of one session.
#[derive(Debug, Default)]
pub enum Subscriptions {
    #[default]
    None,
    /// Most sessions that have any have one.
    One(SubscriptionKey),
    Many(Box<BTreeSet<SubscriptionKey>>),
}

const _: () = assert!(size_of::<Subscriptions>() == 16);

impl Subscriptions {
    #[must_use]
    pub fn len(&self) -> usize {
        match self {
            Self::None => 0,
            Self::One(_) => 1,
            Self::Many(keys) => keys.len(),
        }
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    #[must_use]
    pub fn contains(&self, key: &SubscriptionKey) -> bool {
        match self {
            Self::None => false,
            Self::One(one) => one == key,
            Self::Many(keys) => keys.contains(key),
        }
    }

    /// False if it was there.
    pub fn insert(&mut self, key: SubscriptionKey) -> bool {
        match self {
            Self::None => *self = Self::One(key),
            Self::One(one) if *one == key => return false,
            Self::One(one) => *self = Self::Many(Box::new(BTreeSet::from([*one, key]))),
            Self::Many(keys) => return keys.insert(key),
        }
        true
    }

    /// False if it was not there.
    pub fn remove(&mut self, key: &SubscriptionKey) -> bool {
        if !self.contains(key) {
            return false;
        }
        match self {
            Self::None | Self::One(_) => *self = Self::None,
            Self::Many(keys) => {
                keys.remove(key);
                if let (1, Some(&last)) = (keys.len(), keys.first()) {
                    *self = Self::One(last);
                }
            }
        }
        true
    }

    /// Takes one out: ordinary ones first.
    pub fn pop(&mut self) -> Option<SubscriptionKey> {
        if let Self::Many(keys) = self
            && let Some(first) = keys.pop_first()
        {
            return Some(first);
        }
        match std::mem::take(self) {
            Self::One(one) => Some(one),
            Self::None | Self::Many(_) => None,
        }
    }

    /// The groups among them; ordinary ones are not looked at.
    pub fn groups(&self) -> impl Iterator<Item = GroupId> + '_ {
        let first = SubscriptionKey::Group(GroupId { index: 0, generation: 0 });
        let (one, many) = match self {
            Self::None => (None, None),
            Self::One(one) => (Some(*one), None),
            Self::Many(keys) => (None, Some(keys.range(first..).copied())),
        };
        one.into_iter().chain(many.into_iter().flatten()).filter_map(|key| match key {
            SubscriptionKey::Group(group) => Some(group),
            SubscriptionKey::Node(_) => None,
        })
    }

    /// Ordinary ones first.
    pub fn iter(&self) -> impl Iterator<Item = SubscriptionKey> + '_ {
        let (one, many) = match self {
            Self::None => (None, None),
            Self::One(one) => (Some(*one), None),
            Self::Many(keys) => (None, Some(keys.iter().copied())),
        };
        one.into_iter().chain(many.into_iter().flatten())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(index: u32) -> SubscriptionKey {
        SubscriptionKey::Group(GroupId { index, generation: 1 })
    }

    #[test]
    fn it_is_a_set_of_any_size() {
        let mut keys = Subscriptions::default();
        let last = key(100);
        assert!(keys.insert(last) && !keys.insert(last) && keys.contains(&last));
        assert_eq!(keys.groups().count(), 1);
        for value in 0..100 {
            assert!(keys.insert(key(value)) && !keys.insert(key(value)));
        }
        assert_eq!(keys.len(), 101);
        assert_eq!(keys.groups().count(), 101);
        assert!(keys.iter().is_sorted());
        for value in 0..100 {
            assert!(keys.remove(&key(value)) && !keys.remove(&key(value)));
        }
        assert!(matches!(keys, Subscriptions::One(one) if one == last));
        let mut left = Subscriptions::default();
        (0..100).for_each(|value| assert!(left.insert(key(value))));
        (0..100).for_each(|value| assert_eq!(left.pop(), Some(key(value))));
        assert!(left.is_empty() && left.pop().is_none());
        assert!(left.insert(last) && left.pop() == Some(last) && left.is_empty());
        assert!(keys.remove(&last) && !keys.remove(&last) && keys.is_empty());
    }
}
