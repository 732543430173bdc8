//! A bounded table of things that matter for a while.

use std::collections::HashMap;
use std::hash::Hash;
use std::mem;
use std::time::Duration;

use shards::time::Time;

/// Two generations of entries: what is used goes to the young one, and when that is full or has lasted its
/// time, the old one is forgotten. So an entry stays for at least `period` after its last use, unless
/// more than half of `entries_max` others come after it.
#[derive(Debug)]
pub(super) struct Aging<K, V> {
    young: HashMap<K, V>,
    old: HashMap<K, V>,
    half_max: usize,
    period: Duration,
    turned: Time,
}

impl<K: Eq + Hash, V: Default> Aging<K, V> {
    pub(super) fn new(entries_max: usize, period: Duration) -> Self {
        Self {
            young: HashMap::new(),
            old: HashMap::new(),
            half_max: (entries_max / 2).max(1),
            period,
            turned: Time::ZERO,
        }
    }

    /// The entry of `key`, which is a new one if there was none.
    pub(super) fn entry(&mut self, now: Time, key: K) -> &mut V {
        let is_old = now.since(self.turned) >= self.period;
        if is_old || (self.young.len() >= self.half_max && !self.young.contains_key(&key)) {
            self.old = mem::take(&mut self.young);
            self.turned = now;
        }
        let kept = self.old.remove(&key);
        self.young.entry(key).or_insert_with(|| kept.unwrap_or_default())
    }

    /// The entry of `key`, which is not used by that.
    pub(super) fn find(&mut self, key: &K) -> Option<&mut V> {
        match self.young.get_mut(key) {
            Some(value) => Some(value),
            None => self.old.get_mut(key),
        }
    }

    #[cfg(test)]
    fn count(&self) -> usize {
        self.young.len() + self.old.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_used_stays_and_the_table_stays_small() {
        let mut table: Aging<u32, u32> = Aging::new(100, Duration::from_secs(60));
        *table.entry(Time::ZERO, 0) = 7;
        for key in 1..10_000 {
            table.entry(Time::ZERO, key);
            assert_eq!(*table.entry(Time::ZERO, 0), 7, "at {key}");
            assert!(table.count() <= 101);
        }
        assert!(table.find(&1).is_none());
    }

    #[test]
    fn what_is_not_used_is_forgotten() {
        let mut table: Aging<u32, u32> = Aging::new(100, Duration::from_secs(60));
        *table.entry(Time::from_secs(100), 1) = 7;
        table.entry(Time::from_secs(159), 2);
        assert_eq!(table.find(&1), Some(&mut 7));
        table.entry(Time::from_secs(160), 2);
        assert_eq!(table.find(&1), Some(&mut 7), "a period after its use");
        table.entry(Time::from_secs(220), 2);
        assert_eq!(table.find(&1), None);
    }
}
