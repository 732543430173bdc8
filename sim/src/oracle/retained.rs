//! Retained messages: the last accepted one of each topic, and nothing else.
//!
//! Two publishers on different shards may set a topic in either order until the world rests. So a
//! topic has candidates: the last message of each publisher since the last rest, or what was there
//! before if nobody certainly sent one.

use std::collections::{BTreeMap, BTreeSet};

use shards::codec::RetainHandling;
use shards::ids::QoS;
use shards::time::Time;

use crate::client::Message;

use super::{Oracle, Rest, takes};

/// One topic.
#[derive(Debug, Default)]
struct Topic {
    /// What may be there, as of the last rest. Empty: nothing ever was.
    candidates: BTreeSet<Option<usize>>,
    /// Since then: messages and who sent them.
    log: Vec<(usize, usize)>,
}

#[derive(Debug, Default)]
pub(super) struct Retained {
    topics: BTreeMap<&'static str, Topic>,
    /// Some were refused for want of room, so any may be gone.
    refused: u64,
}

impl Retained {
    /// A message with RETAIN is sent, or sent again.
    pub(super) fn log(&mut self, topic: &'static str, number: usize, source: usize) {
        let topic = self.topics.entry(topic).or_default();
        if topic.candidates.is_empty() {
            topic.candidates.insert(None);
        }
        topic.log.push((number, source));
    }
}

impl Oracle {
    /// A retained copy must be one that may be there. `is_only_copy`: it cannot be a live message.
    pub(super) fn check_current(
        &self,
        client: usize,
        number: usize,
        message: &Message,
        is_only_copy: bool,
    ) {
        let published = &self.published[number];
        if message.dup || !is_only_copy || published.is_will {
            return;
        }
        let topic = self.retained.topics.get(published.topic).expect("it was logged");
        // Asked for since the last rest: what was superseded before that cannot be there.
        let is_new = self.sessions[client]
            .subscriptions
            .iter()
            .filter(|s| {
                s.takes(published.topic)
                    && s.options.retain_handling != RetainHandling::Never
                    && !s.is_shared()
            })
            .all(|s| s.asked > self.rest_tick);
        if is_new {
            assert!(
                topic.candidates.contains(&Some(number))
                    || topic.log.iter().any(|&(other, _)| other == number),
                "retained message {number} came to client {client}, but is not the last one"
            );
        }
        if published.repeats > 0 {
            return;
        }
        // Newer are later ones of the same publisher, and those of others with a rest in between.
        let of_topic = (published.topic, 0)..=(published.topic, usize::MAX);
        for (&(_, publisher), &live) in self.sessions[client].latest_set.range(of_topic) {
            let is_newer = publisher == published.publisher && live > number
                || self.published[live].rest_tick > published.tick;
            assert!(
                !is_newer,
                "retained message {number} came to client {client} behind the newer {live}"
            );
        }
    }

    /// The world rests: what was sent since the last rest has found its order.
    pub(super) fn settle_retained(&mut self, rest: &Rest<'_>) {
        let refused = rest.counters.retained_refused;
        let has_refused = std::mem::replace(&mut self.retained.refused, refused) != refused;
        let published = &self.published;
        let is_sure = |number: usize| {
            let message = &published[number];
            match message.qos {
                _ if message.is_will => message.is_accepted && !message.is_undated,
                QoS::AtMostOnce => rest.online.contains(&(message.publisher, message.wire)),
                QoS::AtLeastOnce => message.is_accepted,
                // Sent again, it may have counted when it was sent first.
                QoS::ExactlyOnce => message.is_accepted && message.repeats == 0,
            }
        };
        let value = |number: usize| (published[number].bytes > 0).then_some(number);
        for topic in self.retained.topics.values_mut() {
            let log = std::mem::take(&mut topic.log);
            if log.iter().any(|&(number, _)| is_sure(number)) {
                topic.candidates.clear();
            }
            for (at, &(number, source)) in log.iter().enumerate() {
                let is_superseded =
                    log[at + 1..].iter().any(|&(other, by)| by == source && is_sure(other));
                if !is_superseded {
                    topic.candidates.insert(value(number));
                }
            }
            if has_refused {
                topic.candidates.insert(None);
            }
        }
    }

    /// A quiet SUBSCRIBE with these filters has been answered, and these messages came with RETAIN. A
    /// `probe` gets each once and settles what could not be told before.
    pub fn check_retained(
        &mut self,
        client: &str,
        filters: &[&str],
        came: &[Message],
        now: Time,
        is_probe: bool,
    ) {
        let published = &self.published;
        let rules = self.rules.last().copied().unwrap_or_default();
        for (&name, topic) in &mut self.retained.topics {
            if !filters.iter().any(|filter| takes(filter, name)) {
                continue;
            }
            if !rules.lets_receive(client, name) {
                let is_it = |message: &Message| message.topic == name;
                assert!(!came.iter().any(is_it), "{client} may not receive {name}");
                continue;
            }
            let there = |candidate: Option<usize>| {
                let is_expired = candidate.map_or(Some(false), |n| published[n].is_expired(now));
                let stays = candidate.filter(|_| is_expired != Some(true));
                [stays, candidate.filter(|_| is_expired == Some(false))]
            };
            let may: BTreeSet<_> = topic.candidates.iter().copied().flat_map(there).collect();
            let got: Vec<_> = came.iter().filter(|message| message.topic == name).collect();
            let numbers: BTreeSet<_> =
                got.iter().map(|message| super::delivery::number_of(message)).collect();
            assert!(numbers.len() <= 1, "{client} got {numbers:?} retained for {name}");
            let number = numbers.first().copied();
            assert!(
                may.contains(&number) || may.is_empty() && number.is_none(),
                "{client} got {number:?} retained for {name}, which has {may:?}"
            );
            if is_probe {
                assert!(got.len() <= 1, "{client} got {} retained for {name}", got.len());
                topic.candidates = BTreeSet::from([number]);
            }
        }
        for message in came {
            assert!(
                self.retained.topics.contains_key(message.topic.as_str()),
                "{client} got a retained message on {} which never had one",
                message.topic
            );
        }
    }

    /// How many retained messages there are, after a probe.
    #[must_use]
    pub fn retained_count(&self) -> usize {
        let has = |topic: &&Topic| topic.candidates.iter().any(Option::is_some);
        self.retained.topics.values().filter(has).count()
    }
}
