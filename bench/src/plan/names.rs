//! Client identifiers, chosen so that publisher and subscriber share a shard or never do.

use shards::slots::owner_of;
use shards::topic::topic_hash;

use super::Cross;
use crate::error::Error;

/// Chooses client identifiers for a broker with so many shards.
#[derive(Clone, Copy, Debug)]
pub(super) struct Names {
    cross: Cross,
    shards: u8,
}

/// Tries of one name. With 64 shards each try succeeds with 1 in 64, so this does not fail.
const TRIES_MAX: u32 = 100_000;

impl Names {
    pub(super) fn new(cross: Cross, shards: u8) -> Result<Self, Error> {
        if cross == Cross::All && shards < 2 {
            return Err(Error::Usage(
                "--cross all needs a broker with at least 2 shards: give their number with --shards"
                    .to_owned(),
            ));
        }
        Ok(Self { cross, shards: shards.max(1) })
    }

    /// The publishers of `group`.
    pub(super) fn publisher(self, group: u32, index: u32) -> String {
        self.name("p", index, group)
    }

    /// The subscribers that hear `group`; with `--cross all` on all other shards in turn.
    pub(super) fn subscriber(self, group: u32, index: u32) -> String {
        let shards = u32::from(self.shards);
        let shard = match self.cross {
            Cross::Local | Cross::Mixed => group,
            Cross::All => group + 1 + index % (shards - 1),
        };
        self.name("s", index, shard)
    }

    fn name(self, role: &str, index: u32, shard: u32) -> String {
        let name = format!("bench-{role}{index:07}");
        if self.cross == Cross::Mixed || self.shards == 1 {
            return name;
        }
        let shard = shard % u32::from(self.shards);
        (0..TRIES_MAX)
            .map(|salt| format!("{name}-{salt}"))
            .find(|name| {
                let owner = owner_of(topic_hash(name.as_bytes()), self.shards);
                u32::from(owner.0) == shard
            })
            .unwrap_or(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(cross: Cross, shards: u8, want: impl Fn(u8, u8) -> bool) {
        let names = Names::new(cross, shards).unwrap();
        let shard = |name: &str| owner_of(topic_hash(name.as_bytes()), shards).0;
        for group in 0..20 {
            for index in 0..20 {
                let (publisher, subscriber) =
                    (names.publisher(group, index), names.subscriber(group, index));
                assert!(want(shard(&publisher), shard(&subscriber)), "{publisher} {subscriber}");
            }
        }
    }

    #[test]
    fn shards_are_shared_or_not_as_asked() {
        for shards in [2, 3, 8] {
            check(Cross::Local, shards, |publisher, subscriber| publisher == subscriber);
            check(Cross::All, shards, |publisher, subscriber| publisher != subscriber);
        }
        check(Cross::Local, 1, |publisher, subscriber| publisher == subscriber);
        assert!(Names::new(Cross::All, 1).is_err());
    }
}
