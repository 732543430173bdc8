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
    One {
        key: SubscriptionKey,
        is_broad: bool,
    },
    Many(Box<Many>),
}

#[derive(Debug)]
pub struct Many {
    keys: BTreeSet<SubscriptionKey>,
    is_broad: bool,
}

const _: () = assert!(size_of::<Subscriptions>() == 16);

impl Subscriptions {
    #[must_use]
    pub fn len(&self) -> usize {
        match self {
            Self::None => 0,
            Self::One { .. } => 1,
            Self::Many(many) => many.keys.len(),
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
            Self::One { key: one, .. } => one == key,
            Self::Many(many) => many.keys.contains(key),
        }
    }

    /// True if one of them is for all topics (its filter begins with a wildcard), or one was that is gone
    /// while others stayed.
    #[must_use]
    pub fn are_broad(&self) -> bool {
        match self {
            Self::None => false,
            Self::One { is_broad, .. } => *is_broad,
            Self::Many(many) => many.is_broad,
        }
    }

    /// False if it was there.
    pub fn insert(&mut self, key: SubscriptionKey, is_broad: bool) -> bool {
        match self {
            Self::None => *self = Self::One { key, is_broad },
            Self::One { key: one, .. } if *one == key => return false,
            Self::One { key: one, is_broad: was_broad } => {
                let (keys, is_broad) = (BTreeSet::from([*one, key]), is_broad || *was_broad);
                *self = Self::Many(Box::new(Many { keys, is_broad }));
            }
            Self::Many(many) => {
                many.is_broad |= is_broad;
                return many.keys.insert(key);
            }
        }
        true
    }

    /// False if it was not there.
    pub fn remove(&mut self, key: &SubscriptionKey) -> bool {
        if !self.contains(key) {
            return false;
        }
        match self {
            Self::None | Self::One { .. } => *self = Self::None,
            Self::Many(many) => {
                many.keys.remove(key);
                if let (1, Some(&key)) = (many.keys.len(), many.keys.first()) {
                    *self = Self::One { key, is_broad: many.is_broad };
                }
            }
        }
        true
    }

    /// Takes one out: ordinary ones first.
    pub fn pop(&mut self) -> Option<SubscriptionKey> {
        if let Self::Many(many) = self
            && let Some(first) = many.keys.pop_first()
        {
            return Some(first);
        }
        match std::mem::take(self) {
            Self::One { key, .. } => Some(key),
            Self::None | Self::Many(_) => None,
        }
    }

    /// The groups among them; ordinary ones are not looked at.
    pub fn groups(&self) -> impl Iterator<Item = GroupId> + '_ {
        let first = SubscriptionKey::Group(GroupId { index: 0, generation: 0 });
        let (one, many) = match self {
            Self::None => (None, None),
            Self::One { key, .. } => (Some(*key), None),
            Self::Many(many) => (None, Some(many.keys.range(first..).copied())),
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
            Self::One { key, .. } => (Some(*key), None),
            Self::Many(many) => (None, Some(many.keys.iter().copied())),
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
        assert!(keys.insert(last, false) && !keys.insert(last, false) && keys.contains(&last));
        assert_eq!(keys.groups().count(), 1);
        for value in 0..100 {
            assert!(keys.insert(key(value), false) && !keys.insert(key(value), false));
        }
        assert_eq!(keys.len(), 101);
        assert_eq!(keys.groups().count(), 101);
        assert!(keys.iter().is_sorted());
        for value in 0..100 {
            assert!(keys.remove(&key(value)) && !keys.remove(&key(value)));
        }
        assert!(matches!(keys, Subscriptions::One { key, .. } if key == last));
        let mut left = Subscriptions::default();
        (0..100).for_each(|value| assert!(left.insert(key(value), false)));
        (0..100).for_each(|value| assert_eq!(left.pop(), Some(key(value))));
        assert!(left.is_empty() && left.pop().is_none());
        assert!(left.insert(last, false) && left.pop() == Some(last) && left.is_empty());
        assert!(keys.remove(&last) && !keys.remove(&last) && keys.is_empty());
    }

    #[test]
    fn they_are_broad_until_none_is_left() {
        let mut keys = Subscriptions::default();
        assert!(keys.insert(key(1), false) && !keys.are_broad());
        assert!(keys.insert(key(2), true) && keys.are_broad());
        assert!(keys.insert(key(3), false) && keys.are_broad());
        assert!(keys.remove(&key(2)) && keys.remove(&key(1)) && keys.are_broad());
        assert!(keys.remove(&key(3)) && !keys.are_broad());
        assert!(keys.insert(key(4), true) && keys.insert(key(5), false) && keys.are_broad());
    }
}
