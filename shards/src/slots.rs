//! Which shard owns what: one map from slots to shards, the same on every shard.

use crate::ids::ShardId;
use crate::limits::SLOTS;

/// Which shard owns what hashes to `hash`: a session by its client identifier, a retained message by
/// its topic. The hash chooses one of 4096 slots; slots are dealt out to the shards in turn.
#[must_use]
pub fn owner_of(hash: u64, shards: u8) -> ShardId {
    let slot = hash % u64::from(SLOTS);
    ShardId(u8::try_from(slot % u64::from(shards.max(1))).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_shard_owns_an_equal_share_of_the_slots() {
        for shards in [1u8, 2, 3, 8, 64] {
            let mut owned = vec![0u32; usize::from(shards)];
            for slot in 0..u64::from(SLOTS) {
                owned[owner_of(slot, shards).index()] += 1;
            }
            let (least, most) = (owned.iter().min(), owned.iter().max());
            assert!(most.zip(least).is_some_and(|(most, least)| most - least <= 1), "{owned:?}");
        }
    }
}
