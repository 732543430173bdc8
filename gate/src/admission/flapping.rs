//! Clients that connect over and over.

use std::time::Duration;

use shards::time::Time;

use super::aging::Aging;

/// Client identifiers that are remembered, per shard.
const CLIENTS_MAX: usize = 65_536;

/// When a client flaps, and for how long it is refused then.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FlappingLimits {
    /// Connects within the window that are allowed. 0: any number.
    pub connects_max: u32,
    pub window: Duration,
    pub penalty: Duration,
}

#[derive(Debug, Default)]
struct Client {
    since: Time,
    connects: u32,
    refused_until: Time,
}

/// The clients of one shard: a client identifier always comes to the same one.
#[derive(Debug)]
pub struct Flapping {
    limits: FlappingLimits,
    clients: Aging<Box<str>, Client>,
}

impl Flapping {
    #[must_use]
    pub fn new(limits: FlappingLimits) -> Self {
        let period = limits.window.max(limits.penalty).max(Duration::from_secs(1));
        Self { limits, clients: Aging::new(CLIENTS_MAX, period) }
    }

    /// Counts a connect. True if the client may come.
    pub fn admit(&mut self, now: Time, client_id: &str) -> bool {
        let limits = self.limits;
        if limits.connects_max == 0 {
            return true;
        }
        let client = self.clients.entry(now, client_id.into());
        if now < client.refused_until {
            return false;
        }
        if now.since(client.since) >= limits.window {
            client.since = now;
            client.connects = 0;
        }
        client.connects = client.connects.saturating_add(1);
        if client.connects <= limits.connects_max {
            return true;
        }
        client.refused_until = now + limits.penalty;
        client.connects = 0;
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_connects_too_often_has_to_wait() {
        let limits = FlappingLimits {
            connects_max: 3,
            window: Duration::from_secs(10),
            penalty: Duration::from_secs(30),
        };
        let mut flapping = Flapping::new(limits);
        let at = |secs: u64| Time::from_secs(1_000 + secs);
        for second in 0..3 {
            assert!(flapping.admit(at(second), "a"));
        }
        assert!(!flapping.admit(at(3), "a"));
        assert!(flapping.admit(at(3), "b"), "others may come");
        assert!(!flapping.admit(at(32), "a"));
        assert!(flapping.admit(at(33), "a"));
        for second in 0..100 {
            assert!(flapping.admit(at(100 + 5 * second), "slow"), "{second}");
        }
        let mut open = Flapping::new(FlappingLimits::default());
        assert!((0..1_000).all(|_| open.admit(at(0), "a")));
    }
}
