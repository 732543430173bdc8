//! What goes wrong by itself: before each step of a raging world a fault may happen, at the rates
//! that the seed has drawn.
//!
//! A fault leaves the world in a state that a network or a machine could leave it in; clients and
//! oracle hear of it only in ways in which they could hear of it there.

use std::time::Duration;

use shards::codec;
use shards::ids::ShardId;
use shards::rng::Rng;
use shards::shard::{Input, Output};
use shards::time::Time;

use crate::swarm::{Fault, Options, Stream, stream};
use crate::trace::Entry;
use crate::world::World;

/// Steps that a rate counts in.
const RATE_STEPS: u64 = 4096;

/// Virtual time that skews may add up to in one world: less than any expiry that a play relies on.
const SKEW_MAX: Duration = Duration::from_secs(4);

/// Connections without a CONNECT in one world.
const MUTES_MAX: u64 = 4;

/// How many of each kind.
pub type FaultCounts = [u64; Fault::ALL.len()];

/// The faults of one world. Owned by it.
#[derive(Debug)]
pub struct Chaos {
    seed: u64,
    rng: Rng,
    is_on: bool,
    keep_alive_s: u16,
    /// By fault, the draws that bring it: those below its entry and not below the one before.
    ends: [u64; Fault::ALL.len()],
    counts: FaultCounts,
    skew: Duration,
}

impl Chaos {
    #[must_use]
    pub fn new(options: &Options) -> Self {
        let mut end = 0;
        let ends = Fault::ALL.map(|fault| {
            end += u64::from(options.rate(fault));
            end
        });
        Self {
            seed: options.seed,
            rng: stream(options.seed, Stream::Faults, 0),
            is_on: false,
            keep_alive_s: options.keep_alive_s,
            ends,
            counts: FaultCounts::default(),
            skew: Duration::ZERO,
        }
    }

    /// Answers the seed.
    pub(crate) fn begin_act(&mut self, number: u32) -> u64 {
        self.rng = stream(self.seed, Stream::Faults, u64::from(number));
        self.seed
    }

    fn draw(&mut self) -> Option<Fault> {
        if !self.is_on {
            return None;
        }
        let drawn = self.rng.next_u64() % RATE_STEPS;
        let at = self.ends.iter().position(|&end| drawn < end)?;
        Some(Fault::ALL[at])
    }

    fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.rng.next_u64() % end as u64).expect("less than a usize")
    }
}

impl World {
    /// From here on things go wrong.
    pub fn rage(&mut self) {
        if let Some(chaos) = self.chaos.as_mut() {
            chaos.is_on = true;
        }
    }

    /// From here on nothing goes wrong, and what was held back goes on. Connections that are broken
    /// or whose client is gone stay so.
    pub fn calm(&mut self) {
        let Some(chaos) = self.chaos.as_mut() else { return };
        chaos.is_on = false;
        // Only a deadline ends a connection whose client is gone without a word.
        let is_ended_by_time = chaos.keep_alive_s > 0;
        self.thaw();
        for &at in &self.live {
            let wire = &mut self.wires[at];
            wire.is_slow = false;
            wire.is_stalled = false;
            if wire.is_silent && !is_ended_by_time {
                wire.is_silent = false;
                wire.is_client_gone = true;
            }
        }
    }

    /// How many faults there were, by [`Fault::index`].
    pub fn fault_counts(&self) -> FaultCounts {
        self.chaos.as_ref().map_or_else(FaultCounts::default, |chaos| chaos.counts)
    }

    /// A fault, if one is drawn.
    pub(crate) fn go_wrong(&mut self) {
        let Some(fault) = self.chaos.as_mut().and_then(|chaos| chaos.draw()) else { return };
        let place = match fault {
            Fault::Cut | Fault::Reset | Fault::HalfOpen | Fault::Stall | Fault::Slow => {
                let Some(wire) = self.draw_wire() else { return };
                self.harm(fault, wire);
                wire
            }
            Fault::Freeze | Fault::LateBell => {
                let at = self.fault_below(self.nodes.len());
                let until = self.step_count + 20 + self.fault_below(400) as u64;
                let node = &mut self.nodes[at];
                match fault {
                    Fault::Freeze => node.frozen_until = until,
                    _ => node.bell_at = until,
                }
                at
            }
            Fault::Skew => self.skew(),
            Fault::Spurious => self.spurious(),
            Fault::Mute => {
                let Some(wire) = self.mute() else { return };
                wire
            }
        };
        self.trace.entry(Entry::Fault, place, fault as u64);
        self.trace.line(|| format!("       fault: {} of {place}", fault.name()));
        if let Some(chaos) = self.chaos.as_mut() {
            chaos.counts[fault.index()] += 1;
        }
    }

    fn fault_below(&mut self, end: usize) -> usize {
        self.chaos.as_mut().map_or(0, |chaos| chaos.below(end))
    }

    /// A wire whose client still uses it.
    fn draw_wire(&mut self) -> Option<usize> {
        if self.live.is_empty() {
            return None;
        }
        let at = self.fault_below(self.live.len());
        let wire = self.live[at];
        let is_used = !self.wires[wire].is_client_gone && !self.wires[wire].is_dead();
        is_used.then_some(wire)
    }

    fn harm(&mut self, fault: Fault, at: usize) {
        match fault {
            Fault::Slow => self.wires[at].is_slow = true,
            // Reads again, if it did not.
            Fault::Stall => self.wires[at].is_stalled ^= true,
            Fault::Cut => {
                self.wires[at].is_client_gone = true;
                self.leave(at);
            }
            _ => {
                let rest = self.wires[at].sending.as_ref().map_or(0, Output::len)
                    - self.wires[at].taken_bytes;
                let taken = self.fault_below(rest + 1);
                if taken > 0 && !self.wires[at].is_stalled {
                    self.deliver(at, taken);
                }
                let arrived = self.fault_below(self.wires[at].upward.len() + 1);
                let wire = &mut self.wires[at];
                wire.upward.truncate(arrived);
                wire.is_broken = fault == Fault::Reset;
                wire.is_silent = fault == Fault::HalfOpen;
                self.leave(at);
            }
        }
    }

    /// The client has no connection any more; it hears of it before the broker does.
    fn leave(&mut self, wire: usize) {
        let client = self.wires[wire].client;
        if self.clients[client].wire == wire {
            self.clients[client].is_ended = true;
        }
    }

    fn skew(&mut self) -> usize {
        let Some(chaos) = self.chaos.as_mut() else { return 0 };
        let millis = [3, 150, 1500][chaos.below(3)];
        let by = Duration::from_millis(1 + chaos.below(millis) as u64);
        let by = by.min(SKEW_MAX.saturating_sub(chaos.skew));
        chaos.skew += by;
        // What people read may jump, back as well.
        self.now.unix_secs = 1_700_000_000 + chaos.below(1000) as u64;
        self.now.time = self.now.time + by;
        usize::try_from(by.as_millis()).expect("short")
    }

    fn spurious(&mut self) -> usize {
        let count = self.nodes.len();
        let (at, from) = (self.fault_below(count), self.fault_below(count));
        if self.fault_below(2) == 0 {
            self.give(at, Input::Deadline);
        } else if from != at {
            let from = ShardId(u8::try_from(from).expect("few"));
            self.give(at, Input::Mail { from });
        }
        at
    }

    /// Somebody connects and says nothing, or not all of it.
    fn mute(&mut self) -> Option<usize> {
        let chaos = self.chaos.as_mut()?;
        if chaos.counts[Fault::Mute.index()] == MUTES_MAX {
            return None;
        }
        let heads: [&[u8]; 4] = [b"", b"\x10", b"\x10\x0C\x00\x04MQ", b"\x10\x7F\x00\x04MQTT\x05"];
        let head = heads[chaos.below(4)];
        let client = chaos.below(self.clients.len());
        let wire = self.dial(client);
        self.wires[wire].upward.extend_from_slice(head);
        Some(wire)
    }

    /// Time goes on while everything is under way.
    pub fn pass(&mut self, by: Duration) {
        self.now.time = self.now.time + by;
        self.trace.entry(Entry::Time, 0, self.now.time.as_micros());
    }

    /// Every client that keeps its connection alive pings; answers when the next ping is due.
    pub(crate) fn ping(&mut self) -> Option<Time> {
        let keep_alive_s = self.chaos.as_ref().map_or(0, |chaos| chaos.keep_alive_s);
        if keep_alive_s == 0 {
            return None;
        }
        for client in &self.clients {
            let Some(wire) = self.wires.get_mut(client.wire) else { continue };
            if !client.is_ended && !wire.is_client_gone && !wire.is_dead() && !wire.is_closed {
                wire.upward.extend_from_slice(&codec::PINGREQ);
            }
        }
        Some(self.now.time + Duration::from_secs(u64::from(keep_alive_s)) / 2)
    }
}
