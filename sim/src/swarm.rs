//! Each seed draws a world of its own: how many shards and clients, which limits, how bytes are cut
//! and how often what goes wrong.
//!
//! Tiny limits and few kinds of faults at a time find more than long runs: a fault that happens all
//! the time hides what happens without it. Chance comes from named streams, all made from the one
//! seed, so that one more draw in one of them does not move the others.

use std::collections::BTreeSet;

use shards::ids::Version;
use shards::limits::{ListenerSettings, OverflowPolicy, Settings, ShareStrategy, Versions};
use shards::rng::Rng;

use crate::drive::{QOS, VERSIONS, plain};

/// What chance is drawn for. The number is part of the stream's seed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Stream {
    /// What this seed's world is like.
    Options = 1,
    /// Which of the possible steps comes next.
    Schedule,
    /// How byte streams are cut.
    Wire,
    Faults,
    /// What the clients do.
    Workload,
}

/// A stream of a seed. `part` numbers streams of the same name: each act of a play has its own, so
/// that an act left out does not change what the later ones draw.
#[must_use]
pub fn stream(seed: u64, stream: Stream, part: u64) -> Rng {
    let mut rng = Rng::new(seed.rotate_left(8) ^ ((stream as u64) << 1) ^ (part << 20));
    Rng::new(rng.next_u64())
}

/// What can go wrong in a world.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// The client ends its side; what it wrote arrives first.
    Cut,
    /// The connection breaks: both sides lose the end of what was under way.
    Reset,
    /// The client's machine is gone: nothing is read, written or closed from here on.
    HalfOpen,
    /// The client does not read for a while.
    Stall,
    /// The client reads a few bytes at a time.
    Slow,
    /// Time goes on by a drawn amount.
    Skew,
    /// A shard does not get its turn for a while.
    Freeze,
    /// A doorbell is heard late.
    LateBell,
    /// Inputs that bring nothing: a deadline too early, mail from where there is none.
    Spurious,
    /// A connection that never says what it wants.
    Mute,
}

impl Fault {
    pub const ALL: [Self; 10] = [
        Self::Cut,
        Self::Reset,
        Self::HalfOpen,
        Self::Stall,
        Self::Slow,
        Self::Skew,
        Self::Freeze,
        Self::LateBell,
        Self::Spurious,
        Self::Mute,
    ];

    /// As it is typed and printed.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Cut => "cut",
            Self::Reset => "reset",
            Self::HalfOpen => "half-open",
            Self::Stall => "stall",
            Self::Slow => "slow",
            Self::Skew => "skew",
            Self::Freeze => "freeze",
            Self::LateBell => "late-bell",
            Self::Spurious => "spurious",
            Self::Mute => "mute",
        }
    }

    /// The other way round.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|fault| fault.name() == name)
    }

    #[must_use]
    pub fn index(self) -> usize {
        self as usize
    }
}

/// What a run leaves out of what its seed would bring; empty for a seed as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Skips {
    /// Acts, by their number.
    pub acts: BTreeSet<u32>,
    /// Kinds of faults.
    pub faults: BTreeSet<Fault>,
    /// Only so many shards.
    pub shards: Option<u8>,
    /// Only so many clients.
    pub clients: Option<usize>,
}

/// What is played in a seed's world.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scene {
    /// Clients whose messages an oracle keeps book of ([`crate::play`]).
    Play,
    /// The same, stopped in the middle of everything.
    Stop,
    /// Clients that do anything, under tiny limits ([`crate::crowd`]).
    Crowd,
    /// What takes many messages ([`crate::marathon`]).
    Marathon,
    /// A process that dies, and what its store gives the next one ([`crate::crash`]).
    Crash,
}

/// Seeds of which one is a marathon: it takes as long as all the others together.
const MARATHON_EVERY: u64 = 500;
/// Seeds of which one crashes.
const CRASH_EVERY: u64 = 8;

impl Scene {
    /// Not drawn: every batch has some of each.
    #[must_use]
    pub fn of(seed: u64) -> Self {
        if seed % MARATHON_EVERY == MARATHON_EVERY - 1 {
            return Self::Marathon;
        }
        if seed % CRASH_EVERY == CRASH_EVERY - 2 {
            return Self::Crash;
        }
        match seed % 12 {
            1 | 4 | 7 | 10 => Self::Crowd,
            5 => Self::Stop,
            _ => Self::Play,
        }
    }
}

/// One seed's world.
#[derive(Clone, Debug)]
pub struct Options {
    pub seed: u64,
    pub scene: Scene,
    pub shards: u8,
    pub settings: Settings,
    /// What the clients speak, one entry each: 2 to 8.
    pub versions: Vec<Version>,
    /// Keep Alive of every client, which then pings in time; 0 is none. Seconds.
    pub keep_alive_s: u16,
    /// Receive Maximum of the clients of MQTT 5.0.
    pub receive_maximum: u16,
    /// Most bytes that one receive brings.
    pub chunk_bytes_max: usize,
    /// Not everybody may do everything, and that changes.
    pub has_rights: bool,
    /// Clients with an even number come through the second listener, which has a mount point.
    pub is_mounted: bool,
    /// Of so many groups of store operations one fails; 0 is none.
    pub store_failures_in: usize,
    /// Of 4096 steps, how many begin with this fault, by [`Fault::index`].
    pub rates: [u16; Fault::ALL.len()],
    pub skips: Skips,
}

/// The mount point of the second listener, in the worlds that have one.
pub const MOUNT: &str = "m/";

/// The most clients that a seed draws.
pub const CLIENTS_MAX: usize = 8;

/// How often a kind of fault comes in the worlds that have it, of 4096 steps.
const RATE_MAX: u64 = 40;

impl Options {
    #[must_use]
    pub fn draw(seed: u64) -> Self {
        Self::draw_as(seed, Scene::of(seed))
    }

    /// The same seed for a scene that is not its own.
    #[must_use]
    pub fn draw_as(seed: u64, scene: Scene) -> Self {
        let mut dice = Dice(stream(seed, Stream::Options, 0));
        let versions = versions(&mut dice);
        let rates = Fault::ALL.map(|_| {
            let rate = if dice.one_in(3) { 1 + dice.below(RATE_MAX) } else { 0 };
            u16::try_from(rate).expect("below its maximum")
        });
        let mut settings = settings(&mut dice);
        if scene == Scene::Crowd {
            tighten(&mut settings, &mut Dice(stream(seed, Stream::Options, 1)));
        }
        if matches!(scene, Scene::Play | Scene::Stop) {
            squeeze(&mut settings, &mut Dice(stream(seed, Stream::Options, 1)));
        }
        if scene == Scene::Marathon {
            settings = plain();
        }
        settings.is_durable |= scene == Scene::Crash;
        let is_mounted = listen(&mut settings, scene, &mut Dice(stream(seed, Stream::Options, 3)));
        Self {
            is_mounted,
            seed,
            scene,
            shards: match scene {
                // All retained messages of one shard, every other time.
                Scene::Marathon if (seed / MARATHON_EVERY).is_multiple_of(2) => 1,
                _ => 1 + u8::try_from(dice.below(8)).expect("small"),
            },
            settings,
            versions,
            keep_alive_s: match scene {
                // Time passes in large steps there.
                Scene::Crash => 0,
                _ => dice.pick(&[0, 0, 5, 20]),
            },
            receive_maximum: dice.pick(&[1, 2, 3, 10]),
            chunk_bytes_max: match scene {
                Scene::Marathon => 1 << 16,
                Scene::Play | Scene::Stop | Scene::Crowd | Scene::Crash => {
                    dice.pick(&[1, 3, 16, 64, 4096, 1 << 16])
                }
            },
            has_rights: match scene {
                Scene::Play | Scene::Stop | Scene::Crowd => {
                    Dice(stream(seed, Stream::Options, 2)).one_in(3)
                }
                Scene::Marathon | Scene::Crash => false,
            },
            store_failures_in: match scene {
                Scene::Crash => dice.pick(&[0, 0, 12]),
                Scene::Play | Scene::Stop | Scene::Crowd | Scene::Marathon => 0,
            },
            rates,
            skips: Skips::default(),
        }
    }

    /// The same world with some of it left out.
    #[must_use]
    pub fn without(mut self, skips: &Skips) -> Self {
        self.shards = skips.shards.unwrap_or(self.shards);
        self.versions.truncate(skips.clients.unwrap_or(CLIENTS_MAX));
        self.skips = skips.clone();
        self
    }

    /// Of 4096 steps, how many begin with this fault.
    #[must_use]
    pub fn rate(&self, fault: Fault) -> u16 {
        if self.skips.faults.contains(&fault) { 0 } else { self.rates[fault.index()] }
    }
}

/// Two to eight clients, mixed or all of one version.
fn versions(dice: &mut Dice) -> Vec<Version> {
    let count = 2 + dice.below(CLIENTS_MAX as u64 - 1);
    let same = dice.pick(&VERSIONS);
    let is_mixed = !dice.one_in(4);
    (0..count).map(|_| if is_mixed { dice.pick(&VERSIONS) } else { same }).collect()
}

/// Limits that are tiny or those of every day.
fn settings(dice: &mut Dice) -> Settings {
    Settings {
        mailbox_bytes: dice.pick(&[64, 64, 128, 512, 4096]),
        out_bytes_max: dice.pick(&[1, 200, 2000, 1 << 20]),
        turn_packets_max: dice.pick(&[1, 2, 5, 256]),
        inflight_max: dice.pick(&[1, 2, 5, 1024]),
        receive_maximum: dice.pick(&[1, 2, 10, 1024]),
        topic_alias_out_max: dice.pick(&[0, 1, 2, 16]),
        topic_alias_max: dice.pick(&[0, 1, 4, 64]),
        overflow: dice.pick(&[
            OverflowPolicy::DropNewest,
            OverflowPolicy::DropOldest,
            OverflowPolicy::Refuse,
            OverflowPolicy::Disconnect,
        ]),
        share_strategy: dice.pick(&[
            ShareStrategy::RoundRobin,
            ShareStrategy::Random,
            ShareStrategy::Sticky,
            ShareStrategy::HashClient,
            ShareStrategy::HashTopic,
            ShareStrategy::LeastInflight,
        ]),
        is_durable: dice.one_in(3),
        linger_ms: dice.pick(&[1, 100, 2_000]),
        ..plain()
    }
}

/// In some worlds, limits at which messages are dropped that an oracle keeps book of.
fn squeeze(settings: &mut Settings, dice: &mut Dice) {
    if dice.one_in(3) {
        settings.queue_messages_max = dice.pick(&[1, 2, 5, 20]);
        settings.queue_bytes_max = dice.pick(&[1, 100, 1 << 24, 1 << 24]);
    }
    if dice.one_in(6) {
        settings.retained_messages_max = dice.pick(&[0, 1, 2]);
    }
    if dice.one_in(4) {
        // More than all skews together.
        settings.session_expiry_max_s = dice.pick(&[10, 20, 45]);
    }
}

/// Limits at which messages are dropped, sessions end and clients are turned away.
fn tighten(settings: &mut Settings, dice: &mut Dice) {
    settings.queue_messages_max = dice.pick(&[1, 2, 5, 10_000]);
    settings.queue_bytes_max = dice.pick(&[1, 100, 1_000, 1 << 24]);
    settings.packet_bytes_max = dice.pick(&[120, 20_000, 1 << 20, 1 << 20]);
    settings.retained_messages_max = dice.pick(&[0, 1, 3, 1_000_000]);
    settings.retained_bytes_max = dice.pick(&[60, 1 << 30]);
    settings.session_expiry_max_s = dice.pick(&[5, u32::MAX, u32::MAX]);
    settings.subscriptions_max = dice.pick(&[1, 3, 100_000]);
    settings.connections_max = dice.pick(&[3, 1_000_000, 1_000_000]);
    settings.sessions_max = dice.pick(&[2, 1_000_000, 1_000_000]);
    settings.connect_timeout_ms = dice.pick(&[200, 10_000]);
    settings.keep_alive_max_s = dice.pick(&[0, 0, 4]);
    settings.topic_levels_max = dice.pick(&[1, 128, 128]);
    settings.retain_available = !dice.one_in(8);
    settings.wildcard_available = !dice.one_in(8);
    settings.shared_available = !dice.one_in(8);
    settings.subscription_ids_available = !dice.one_in(8);
    settings.maximum_qos = dice.pick(&[QOS[0], QOS[1], QOS[2], QOS[2], QOS[2]]);
}

/// In some worlds, listeners with settings of their own. True if one has a mount point.
fn listen(settings: &mut Settings, scene: Scene, dice: &mut Dice) -> bool {
    if !matches!(scene, Scene::Play | Scene::Stop | Scene::Crowd) {
        return false;
    }
    let is_mounted = dice.one_in(4);
    let is_rated = dice.one_in(5);
    if !is_mounted && !is_rated {
        return false;
    }
    let common = ListenerSettings {
        publishes_per_s: is_rated.then(|| dice.pick(&[3, 6, 20])),
        bytes_per_s: (is_rated && dice.one_in(2)).then_some(20_000),
        ..ListenerSettings::default()
    };
    let mount = is_mounted.then(|| MOUNT.into());
    let mut second = ListenerSettings { mount, ..common.clone() };
    if scene == Scene::Crowd {
        second.connections_max = dice.pick(&[None, Some(1), Some(2)]);
        let some = Versions::of(&[Version::V31, Version::V5]);
        second.versions = dice.pick(&[Versions::ALL, Versions::ALL, some]);
        second.packet_bytes_max = dice.pick(&[None, Some(150)]);
    }
    settings.listeners = vec![common, second];
    is_mounted
}

/// Draws options.
#[derive(Debug)]
struct Dice(Rng);

impl Dice {
    fn below(&mut self, end: u64) -> u64 {
        self.0.next_u64() % end
    }

    fn one_in(&mut self, count: u64) -> bool {
        self.below(count) == 0
    }

    fn pick<T: Copy>(&mut self, all: &[T]) -> T {
        all[usize::try_from(self.below(all.len() as u64)).expect("an index")]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_of_the_small_sets_is_drawn() {
        let all: Vec<_> = (0..400).map(Options::draw).collect();
        for shards in 1..=8 {
            assert!(all.iter().any(|options| options.shards == shards), "{shards} shards");
        }
        for count in 2..=CLIENTS_MAX {
            assert!(all.iter().any(|options| options.versions.len() == count), "{count} clients");
        }
        for fault in Fault::ALL {
            assert!(all.iter().any(|options| options.rate(fault) > 0), "{fault:?}");
            assert!(all.iter().any(|options| options.rate(fault) == 0), "{fault:?}");
            assert_eq!(Fault::named(fault.name()), Some(fault));
        }
    }

    #[test]
    fn streams_of_one_seed_differ() {
        let first = |name, part| stream(7, name, part).next_u64();
        let all = [
            first(Stream::Options, 0),
            first(Stream::Schedule, 0),
            first(Stream::Schedule, 1),
            first(Stream::Wire, 0),
            first(Stream::Wire, 1),
            stream(8, Stream::Wire, 1).next_u64(),
        ];
        for (at, one) in all.iter().enumerate() {
            assert!(!all[..at].contains(one), "{at}");
        }
    }
}
