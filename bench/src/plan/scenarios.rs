//! Each scenario's clients, topics and defaults. The shapes are those of the open MQTT benchmark
//! suite and of muMQ's throughput test; the default sizes fit two cores.

use std::net::Ipv4Addr;
use std::time::Duration;

use shards::ids::{QoS, Version};

use super::names::Names;
use super::{
    ClientPlan, Course, Cross, DISTURBERS, Disturbance, NUMBER_DIGITS, Numbered, Pace, Plan,
    PublisherPlan, Scenario, Times, Wire,
};
use crate::cli::Knobs;
use crate::error::Error;
use crate::load::sources_for;

/// What a scenario is if nothing is said.
#[derive(Debug)]
struct Defaults {
    publishers: u32,
    subscribers: u32,
    pace: Pace,
    qos: u8,
}

const fn defaults(scenario: Scenario) -> Defaults {
    let (publishers, subscribers, pace, qos) = match scenario {
        Scenario::Stream => (10, 10, Pace::Closed { window: 1000 }, 0),
        Scenario::P2p => (1000, 1000, Pace::Open { per_s: 10.0 }, 0),
        Scenario::Fanout => (5, 1000, Pace::Open { per_s: 20.0 }, 0),
        Scenario::Fanin => (1000, 5, Pace::Open { per_s: 10.0 }, 1),
        Scenario::Connect => (0, 5000, Pace::Closed { window: 1 }, 0),
        Scenario::Retained => (1, 10, Pace::Closed { window: 100 }, 1),
        Scenario::Wildcards => (10, 10, Pace::Closed { window: 100 }, 0),
        Scenario::Persistent => (50, 50, Pace::Open { per_s: 100.0 }, 1),
        Scenario::Overload => (10, 10, Pace::Closed { window: 100 }, 0),
    };
    Defaults { publishers, subscribers, pace, qos }
}

/// Resolves a scenario.
///
/// # Errors
/// If the flags do not fit together.
pub(crate) fn plan(scenario: Scenario, wire: WireKind, knobs: &Knobs) -> Result<Plan, Error> {
    let defaults = defaults(scenario);
    let wire = wire_of(wire, knobs);
    let mut publishers = knobs.publishers.unwrap_or(defaults.publishers);
    let mut subscribers = knobs.subscribers.unwrap_or(defaults.subscribers);
    match scenario {
        Scenario::Stream | Scenario::P2p | Scenario::Overload | Scenario::Persistent => {
            subscribers = knobs.subscribers.or(knobs.publishers).unwrap_or(defaults.subscribers);
            publishers = knobs.publishers.unwrap_or(subscribers);
            if publishers != subscribers {
                return Err(Error::Usage(format!(
                    "{}: pairs have as many publishers as subscribers",
                    scenario.name()
                )));
            }
        }
        Scenario::Retained => publishers = 1,
        Scenario::Connect => {
            publishers = 0;
            subscribers = knobs.publishers.or(knobs.subscribers).unwrap_or(defaults.subscribers);
        }
        Scenario::Fanout | Scenario::Fanin | Scenario::Wildcards => {}
    }
    let names = Names::new(knobs.cross.unwrap_or(Cross::Mixed), knobs.shards.unwrap_or(1))?;
    let shape = Shape { scenario, publishers, subscribers, names, knobs };
    shape.check(wire)?;
    let pace = match (knobs.rate, knobs.window, defaults.pace) {
        (Some(rate), _, _) => Pace::Open { per_s: positive(rate, "--rate")? },
        (None, Some(window), _) => Pace::Closed { window },
        (None, None, pace) => pace,
    };
    let (pace, inflight) = match pace {
        Pace::Open { per_s } => (
            Pace::Open { per_s: per_s * f64::from(publishers) },
            knobs.inflight.unwrap_or(INFLIGHT),
        ),
        closed @ Pace::Closed { window } => {
            (closed, knobs.inflight.unwrap_or_else(|| window.max(INFLIGHT)))
        }
    };
    if let Pace::Closed { window } = pace
        && window > inflight
    {
        return Err(Error::Usage(format!("--window {window} is above --inflight {inflight}")));
    }
    let qos = QoS::from_bits(knobs.qos.unwrap_or(defaults.qos)).unwrap_or(QoS::AtMostOnce);
    let mut clients = shape.clients();
    let disturbance = knobs.disturb.then(|| shape.disturb(&mut clients));
    Ok(Plan {
        scenario,
        wire,
        qos,
        clients,
        disturbance,
        publishers: shape.publisher_plans(),
        fanout: shape.fanout(),
        is_shared: scenario == Scenario::Fanin,
        may_lose: scenario == Scenario::Overload,
        payload_bytes: knobs.payload.unwrap_or(64) as usize,
        pace,
        inflight,
        connecting_max: knobs.connecting.unwrap_or(128) as usize,
        course: shape.course()?,
        times: times(knobs)?,
        is_traced: false,
        knobs: knobs.clone(),
    })
}

/// What the target speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WireKind {
    Mqtt,
    Floor,
}

fn wire_of(kind: WireKind, knobs: &Knobs) -> Wire {
    match (kind, knobs.protocol.as_deref()) {
        (WireKind::Floor, _) => Wire::Floor,
        (WireKind::Mqtt, Some("5.0")) => Wire::Mqtt(Version::V5),
        (WireKind::Mqtt, _) => Wire::Mqtt(Version::V311),
    }
}

fn times(knobs: &Knobs) -> Result<Times, Error> {
    let tick = Duration::from_micros(u64::from(knobs.tick_us.unwrap_or(50)));
    Ok(Times {
        setup_max: seconds(knobs.setup_max.unwrap_or(60.0), "--setup-max")?,
        warm_up: seconds(knobs.warm_up.unwrap_or(1.0), "--warm-up")?,
        measure: seconds(knobs.duration.unwrap_or(4.0), "--duration")?,
        drain_max: seconds(knobs.drain_max.unwrap_or(3.0), "--drain-max")?,
        tick,
    })
}

/// Longest of the times that can be asked for: everything here is bounded.
const SECONDS_MAX: f64 = 3600.0;

fn seconds(value: f64, flag: &str) -> Result<Duration, Error> {
    if (0.0..=SECONDS_MAX).contains(&value) {
        return Ok(Duration::from_secs_f64(value));
    }
    Err(Error::Usage(format!("{flag} is a number of seconds from 0 to {SECONDS_MAX}")))
}

fn positive(value: f64, flag: &str) -> Result<f64, Error> {
    if value > 0.0 && value <= 1e9 {
        return Ok(value);
    }
    Err(Error::Usage(format!("{flag} is a number above 0, at most 1e9")))
}

/// Who publishes and who hears it.
#[derive(Debug)]
struct Shape<'a> {
    scenario: Scenario,
    publishers: u32,
    subscribers: u32,
    names: Names,
    knobs: &'a Knobs,
}

impl Shape<'_> {
    fn check(&self, wire: Wire) -> Result<(), Error> {
        if wire == Wire::Floor && matches!(self.scenario, Scenario::Retained | Scenario::Persistent)
        {
            return Err(Error::Usage(format!(
                "{}: a floor keeps nothing, so there is nothing to compare with",
                self.scenario.name()
            )));
        }
        if self.knobs.aliases.is_some() && self.knobs.protocol.as_deref() != Some("5.0") {
            return Err(Error::Usage(
                "--aliases: only --protocol 5.0 has topic aliases".to_owned(),
            ));
        }
        if self.scenario == Scenario::Retained && self.knobs.qos == Some(0) {
            return Err(Error::Usage(
                "retained: at QoS 0 nothing says when the messages are stored".to_owned(),
            ));
        }
        let can_disturb =
            matches!(self.scenario, Scenario::Stream | Scenario::P2p | Scenario::Fanout);
        if self.knobs.disturb && !can_disturb {
            return Err(Error::Usage(format!(
                "{}: --disturb belongs to stream, p2p and fanout",
                self.scenario.name()
            )));
        }
        if self.knobs.disturb && self.knobs.aliases.is_some() {
            return Err(Error::Usage(
                "--disturb counts bytes, and --aliases changes how many a delivery has".to_owned(),
            ));
        }
        if self.scenario == Scenario::Wildcards && self.filters() < self.subscribers {
            return Err(Error::Usage("wildcards: fewer filters than subscribers".to_owned()));
        }
        Ok(())
    }

    fn filters(&self) -> u32 {
        self.knobs.filters.unwrap_or(10_000)
    }

    /// Filters of each subscriber, all the same number.
    fn filters_each(&self) -> u32 {
        (self.filters() / self.subscribers.max(1)).max(1)
    }

    fn is_paired(&self) -> bool {
        match self.scenario {
            Scenario::Stream | Scenario::P2p | Scenario::Overload | Scenario::Persistent => true,
            Scenario::Fanout
            | Scenario::Fanin
            | Scenario::Connect
            | Scenario::Retained
            | Scenario::Wildcards => false,
        }
    }

    fn fanout(&self) -> u32 {
        match self.scenario {
            Scenario::Fanout => self.subscribers,
            // They are stored first and delivered afterwards.
            Scenario::Retained => 0,
            Scenario::Stream
            | Scenario::P2p
            | Scenario::Fanin
            | Scenario::Connect
            | Scenario::Wildcards
            | Scenario::Persistent
            | Scenario::Overload => 1,
        }
    }

    /// Subscribers first: a message must not be sent before its subscriber is there.
    fn clients(&self) -> Vec<ClientPlan> {
        let count = (self.subscribers + self.publishers) as usize;
        let needed = u32::try_from(sources_for(count)).unwrap_or(SOURCES_MAX).min(SOURCES_MAX);
        let sources = self.knobs.sources.map_or(needed, u32::from);
        let subscribers = (0..self.subscribers).map(|index| self.subscriber(index));
        let publishers = (0..self.publishers).map(|index| {
            let group = if self.is_paired() { index } else { 0 };
            let id = self.names.publisher(group, index);
            let channels = vec![index];
            (id, Vec::new(), (0, 0), channels)
        });
        subscribers
            .chain(publishers)
            .zip(0_u32..)
            .map(|((id, filters, heard, channels), index)| {
                let last = u8::try_from(index % sources).unwrap_or(0).saturating_add(1);
                let source = Ipv4Addr::new(127, 0, 0, last);
                ClientPlan { id, filters, heard, channels, source }
            })
            .collect()
    }

    /// Appends the clients of a disturbance, which have a topic and a channel of their own.
    fn disturb(&self, clients: &mut Vec<ClientPlan>) -> Disturbance {
        let at = clients.len();
        let (group, topic) = (self.publishers, pair_topic(self.publishers));
        let subscriber = |index| (self.names.subscriber(group, index), vec![topic.clone()]);
        let own: [_; DISTURBERS] = [
            (self.names.publisher(group, self.publishers), Vec::new()),
            subscriber(self.subscribers),
            subscriber(self.subscribers + 1),
        ];
        clients.extend(own.into_iter().map(|(id, filters)| ClientPlan {
            id,
            filters,
            heard: (0, 0),
            channels: vec![group],
            source: Ipv4Addr::LOCALHOST,
        }));
        Disturbance { publisher: at, subscriber: at + 1, stalled: at + 2, topic }
    }

    /// Identifier, filters, publishers heard, channels of a floor.
    fn subscriber(&self, index: u32) -> (String, Vec<String>, (u32, u32), Vec<u32>) {
        let group = if self.is_paired() { index } else { 0 };
        let id = self.names.subscriber(group, index);
        let every = |remainder: u32| {
            (0..self.publishers).filter(move |p| p % self.subscribers == remainder).collect()
        };
        let all = (0, self.publishers);
        match self.scenario {
            Scenario::Stream | Scenario::P2p | Scenario::Overload | Scenario::Persistent => {
                (id, vec![pair_topic(index)], (index, 1), vec![index])
            }
            Scenario::Fanout => {
                let filters = (0..self.publishers).map(pair_topic).collect();
                (id, filters, all, (0..self.publishers).collect())
            }
            Scenario::Fanin => (id, vec!["$share/bench/b/+".to_owned()], all, every(index)),
            Scenario::Connect => {
                let bytes = self.knobs.filter_bytes.map(usize::from);
                let filter = || own_filter(index, bytes.unwrap_or(OWN_FILTER_BYTES));
                let filters = self.knobs.subscribe.then(filter).into_iter().collect();
                (id, filters, (0, 0), Vec::new())
            }
            // It subscribes when its time comes.
            Scenario::Retained => (id, Vec::new(), all, Vec::new()),
            Scenario::Wildcards => {
                let filters =
                    (0..self.filters_each()).map(|number| wild_filter(index, number)).collect();
                (id, filters, all, every(index))
            }
        }
    }

    fn publisher_plans(&self) -> Vec<PublisherPlan> {
        (0..self.publishers)
            .map(|index| {
                let client = (self.subscribers + index) as usize;
                let (topic, numbered) = match self.scenario {
                    Scenario::Wildcards => {
                        let topic = wild_topic(index % self.subscribers);
                        let count = self.filters_each();
                        (topic, Some(Numbered { offset: WILD_NUMBER_AT, count }))
                    }
                    Scenario::Retained => {
                        let count = self.knobs.filters.unwrap_or(RETAINED);
                        (pair_topic(0), Some(Numbered { offset: PAIR_NUMBER_AT, count }))
                    }
                    _ => (pair_topic(index), None),
                };
                PublisherPlan { client, topic, numbered }
            })
            .collect()
    }

    fn course(&self) -> Result<Course, Error> {
        let ms = |value: Option<u32>, default| {
            Duration::from_millis(u64::from(value.unwrap_or(default)))
        };
        Ok(match self.scenario {
            Scenario::Connect => {
                Course::Connect { hold: seconds(self.knobs.hold.unwrap_or(4.0), "--hold")? }
            }
            Scenario::Retained => {
                Course::Retained { messages: self.knobs.filters.unwrap_or(RETAINED) }
            }
            Scenario::Persistent => Course::Persistent {
                period: ms(self.knobs.churn_ms, 100),
                away: ms(self.knobs.away_ms, 500),
            },
            Scenario::Overload => {
                Course::Overload { factor: positive(self.knobs.factor.unwrap_or(1.5), "--factor")? }
            }
            Scenario::Stream
            | Scenario::P2p
            | Scenario::Fanout
            | Scenario::Fanin
            | Scenario::Wildcards => Course::Steady,
        })
    }
}

/// Unacknowledged messages of a publisher, if nothing is said.
const INFLIGHT: u32 = 1000;

/// Source addresses 127.0.0.1 to 127.0.0.254.
const SOURCES_MAX: u32 = 254;

/// Retained messages, if nothing is said.
const RETAINED: u32 = 1000;

fn pair_topic(number: u32) -> String {
    format!("b/{number:0digits$}", digits = NUMBER_DIGITS)
}

const PAIR_NUMBER_AT: usize = 2;

/// A client's own filter, which has so many bytes; the number comes last.
fn own_filter(client: u32, bytes: usize) -> String {
    format!("b/{client:0digits$}", digits = bytes.saturating_sub(PAIR_NUMBER_AT))
}

/// As long as the topics of pairs.
const OWN_FILTER_BYTES: usize = PAIR_NUMBER_AT + NUMBER_DIGITS;

/// A filter of its own for each subscriber and number, with both wildcards.
fn wild_filter(subscriber: u32, number: u32) -> String {
    format!("w/{subscriber:0digits$}/{number:0digits$}/+/v/#", digits = NUMBER_DIGITS)
}

/// Its number is filled in for each message.
fn wild_topic(subscriber: u32) -> String {
    format!("w/{subscriber:0digits$}/{:0digits$}/x/v/y", 0, digits = NUMBER_DIGITS)
}

const WILD_NUMBER_AT: usize = 2 + NUMBER_DIGITS + 1;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_filters_are_as_long_as_asked_for_and_differ() {
        for bytes in [OWN_FILTER_BYTES, 24, 300] {
            assert_eq!(own_filter(7, bytes).len(), bytes);
            assert_ne!(own_filter(7, bytes), own_filter(8, bytes));
        }
        assert_eq!(own_filter(7, OWN_FILTER_BYTES), pair_topic(7));
    }
}
