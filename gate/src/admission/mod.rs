//! Who may come at all: limits on new connections, on handshakes and on failures, before a byte is read.
//!
//! One shard's own. Limits are those of the whole broker; each shard applies its share of them to the
//! connections that it accepts (the kernel spreads those), and refusals for failures are told to all
//! shards. A source is an IPv4 address or an IPv6 network of 64 bits. Memory is bounded: the sources that
//! were quiet for longest are forgotten first.

mod aging;
mod flapping;

use std::net::IpAddr;
use std::time::Duration;

use ipnet::IpNet;
use shards::time::Time;

use self::aging::Aging;
pub use self::flapping::{Flapping, FlappingLimits};

/// Sources that are remembered, per shard.
const SOURCES_MAX: usize = 65_536;

/// How long a quiet source is remembered at least, if it is not refused for longer.
const REMEMBERED: Duration = Duration::from_secs(600);

/// What one token of a bucket is kept as.
const TOKEN: u64 = 1_000_000;

/// Limits of one listener. 0 is none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    pub connects_per_s: u32,
    pub connects_per_s_per_source: u32,
    /// Connections whose clients have not been let in yet.
    pub handshakes_max: u32,
    pub handshakes_max_per_source: u32,
    /// Failed authentications of a source that are not answered by refusing it.
    pub failures_max: u32,
    /// How long a source is refused at first; twice as long with each further failure.
    pub penalty: Duration,
    pub penalty_max: Duration,
}

impl Limits {
    /// One shard's part.
    #[must_use]
    pub fn share(self, shards: u8) -> Self {
        let share = |limit: u32| limit.div_ceil(u32::from(shards.max(1)));
        Self {
            connects_per_s: share(self.connects_per_s),
            connects_per_s_per_source: share(self.connects_per_s_per_source),
            handshakes_max: share(self.handshakes_max),
            handshakes_max_per_source: share(self.handshakes_max_per_source),
            failures_max: share(self.failures_max),
            ..self
        }
    }
}

/// What a shard goes by.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rules {
    /// By position in the configuration; a missing one has no limits.
    pub listeners: Vec<Limits>,
    pub deny_networks: Vec<IpNet>,
}

impl Rules {
    fn limits(&self, listener: u16) -> Limits {
        self.listeners.get(usize::from(listener)).copied().unwrap_or_default()
    }

    fn penalty_max(&self) -> Duration {
        self.listeners.iter().map(|limits| limits.penalty_max).max().unwrap_or_default()
    }
}

/// Where connections come from, as far as limits tell them apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Source(u64, bool);

impl Source {
    #[must_use]
    pub fn of(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(ip) => Self(u64::from(ip.to_bits()), true),
            IpAddr::V6(ip) => {
                let [a, b, c, d, ..] = ip.segments();
                let [a, b, c, d] = [a, b, c, d].map(u64::from);
                Self(a << 48 | b << 32 | c << 16 | d, false)
            }
        }
    }
}

/// A source that failed too often. To be told to all shards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Penalty {
    pub source: Source,
    pub until: Time,
    failures: u32,
}

/// Why a connection is not wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("its network is denied")]
    Denied,
    #[error("too many failed authentications from there")]
    Failures,
    #[error("too many new connections on this listener")]
    Rate,
    #[error("too many new connections from there")]
    SourceRate,
    #[error("too many handshakes on this listener")]
    Handshakes,
    #[error("too many handshakes from there")]
    SourceHandshakes,
}

/// So many things in a second, and as many at once.
#[derive(Clone, Copy, Debug, Default)]
struct Bucket {
    /// In units of a [`TOKEN`]'s part.
    spent: u64,
    since: Time,
}

impl Bucket {
    /// Takes one, if there is one.
    fn take(&mut self, now: Time, per_second: u32) -> bool {
        if per_second == 0 {
            return true;
        }
        let micros = u64::try_from(now.since(self.since).as_micros()).unwrap_or(u64::MAX);
        self.spent = self.spent.saturating_sub(micros.saturating_mul(u64::from(per_second)));
        self.since = now;
        let after = self.spent.saturating_add(TOKEN);
        let fits = after <= TOKEN.saturating_mul(u64::from(per_second));
        if fits {
            self.spent = after;
        }
        fits
    }
}

#[derive(Clone, Copy, Debug, Default)]
struct Doorway {
    connects: Bucket,
    handshakes: u32,
}

#[derive(Debug, Default)]
struct SourceState {
    connects: Bucket,
    handshakes: u32,
    failures: u32,
    failed: Time,
    refused_until: Time,
}

/// See the module's documentation.
#[derive(Debug)]
pub struct Admission {
    rules: Rules,
    is_active: bool,
    doorways: Vec<Doorway>,
    sources: Aging<Source, SourceState>,
}

impl Admission {
    /// `rules` with the shard's shares in them.
    #[must_use]
    pub fn new(rules: Rules) -> Self {
        let sources = Aging::new(SOURCES_MAX, REMEMBERED.max(rules.penalty_max()));
        let mut admission =
            Self { rules: Rules::default(), is_active: false, doorways: Vec::new(), sources };
        admission.replace(rules);
        admission
    }

    /// Goes by other rules from now on; what has been counted still counts.
    pub fn replace(&mut self, rules: Rules) {
        self.is_active = !rules.deny_networks.is_empty()
            || rules.listeners.iter().any(|limits| *limits != Limits::default());
        self.doorways.resize_with(rules.listeners.len().max(self.doorways.len()), Doorway::default);
        self.rules = rules;
    }

    /// False if everybody is let in, always: then nobody needs to ask or to tell.
    #[must_use]
    pub fn is_active(&self) -> bool {
        self.is_active
    }

    /// A connection was accepted. `address` is where it comes from; `None` if that is not known (a unix
    /// socket, or a proxy that has yet to say it: then [`Self::announced`] follows). If it may stay, its
    /// handshake counts until [`Self::end_handshake`].
    ///
    /// # Errors
    /// If it may not.
    pub fn admit(
        &mut self,
        now: Time,
        listener: u16,
        address: Option<IpAddr>,
    ) -> Result<(), Refusal> {
        let limits = self.rules.limits(listener);
        if let Some(address) = address {
            self.check_source(now, &limits, address)?;
        }
        if let Some(doorway) = self.doorways.get_mut(usize::from(listener)) {
            if limits.handshakes_max > 0 && doorway.handshakes >= limits.handshakes_max {
                return Err(Refusal::Handshakes);
            }
            if !doorway.connects.take(now, limits.connects_per_s) {
                return Err(Refusal::Rate);
            }
            doorway.handshakes = doorway.handshakes.saturating_add(1);
        }
        if let Some(address) = address {
            self.begin(now, address);
        }
        Ok(())
    }

    /// A proxy has said where an admitted connection comes from.
    ///
    /// # Errors
    /// If it may not come from there; its handshake has to be ended without an address then.
    pub fn announced(&mut self, now: Time, listener: u16, address: IpAddr) -> Result<(), Refusal> {
        let limits = self.rules.limits(listener);
        self.check_source(now, &limits, address)?;
        self.begin(now, address);
        Ok(())
    }

    /// An admitted connection's client was let in, or it has ended before.
    pub fn end_handshake(&mut self, listener: u16, address: Option<IpAddr>) {
        if let Some(doorway) = self.doorways.get_mut(usize::from(listener)) {
            doorway.handshakes = doorway.handshakes.saturating_sub(1);
        }
        if let Some(state) = address.and_then(|address| self.sources.find(&Source::of(address))) {
            state.handshakes = state.handshakes.saturating_sub(1);
        }
    }

    /// An authentication has failed.
    pub fn fail(&mut self, now: Time, listener: u16, address: IpAddr) -> Option<Penalty> {
        let limits = self.rules.limits(listener);
        if limits.failures_max == 0 || limits.penalty.is_zero() {
            return None;
        }
        let source = Source::of(address);
        let state = self.sources.entry(now, source);
        if now.since(state.failed) > REMEMBERED.max(limits.penalty_max) {
            state.failures = 0;
        }
        state.failed = now;
        state.failures = state.failures.saturating_add(1);
        let beyond = state.failures.checked_sub(limits.failures_max)?;
        // 2^31 times the shortest penalty is longer than any maximum.
        let factor = 1_u32 << beyond.min(31);
        let lasts =
            limits.penalty.saturating_mul(factor).min(limits.penalty_max.max(limits.penalty));
        let until = now + lasts;
        state.refused_until = state.refused_until.max(until);
        Some(Penalty { source, until, failures: state.failures })
    }

    /// Another shard has seen too many failures.
    pub fn penalise(&mut self, now: Time, penalty: Penalty) {
        let state = self.sources.entry(now, penalty.source);
        state.refused_until = state.refused_until.max(penalty.until);
        state.failures = state.failures.max(penalty.failures);
        state.failed = state.failed.max(now);
    }

    fn check_source(&mut self, now: Time, limits: &Limits, address: IpAddr) -> Result<(), Refusal> {
        let canonical = address.to_canonical();
        if self.rules.deny_networks.iter().any(|network| network.contains(&canonical)) {
            return Err(Refusal::Denied);
        }
        let state = self.sources.entry(now, Source::of(address));
        if now < state.refused_until {
            return Err(Refusal::Failures);
        }
        let handshakes_max = limits.handshakes_max_per_source;
        if handshakes_max > 0 && state.handshakes >= handshakes_max {
            return Err(Refusal::SourceHandshakes);
        }
        if !state.connects.take(now, limits.connects_per_s_per_source) {
            return Err(Refusal::SourceRate);
        }
        Ok(())
    }

    fn begin(&mut self, now: Time, address: IpAddr) {
        let state = self.sources.entry(now, Source::of(address));
        state.handshakes = state.handshakes.saturating_add(1);
    }
}

#[cfg(test)]
mod tests;
