//! What must, may and must not reach whom: a list of sessions and a list of messages, looked at one
//! by one. Slow and obvious.
//!
//! A message is *owed* to the sessions whose subscriptions matched when it was sent and have not
//! changed since. That is certain once its publisher has the acknowledgement. What is not owed may
//! still come, as long as the session had a matching subscription at some time.

use std::collections::{BTreeMap, BTreeSet};

use shards::ids::QoS;
use shards::topic::TopicFilter;

use crate::client::Message;

/// One client identifier as the oracle sees it.
#[derive(Debug, Default)]
pub struct Session {
    pub is_there: bool,
    /// Filters and granted QoS.
    pub filters: BTreeMap<&'static str, QoS>,
    /// Everything subscribed to since the session began.
    ever: BTreeSet<&'static str>,
    /// By message: how often it came, and how often as a first copy (without DUP).
    came: BTreeMap<usize, (u32, u32)>,
    /// By publisher, topic and QoS: the latest message that came for the first time.
    latest: BTreeMap<(usize, String, QoS), usize>,
}

/// One message that was published.
#[derive(Debug)]
struct Published {
    publisher: usize,
    topic: &'static str,
    qos: QoS,
    /// Sessions that must get it, and at which QoS.
    owed: BTreeMap<usize, QoS>,
    /// It has a shared group, whose members were connected or not.
    is_shared: bool,
    /// The publisher has its acknowledgement.
    is_accepted: bool,
    /// The publisher has sent it more than once.
    is_repeated: bool,
    /// Nobody can tell any more how often it goes to the group.
    is_blurred: bool,
    is_settled: bool,
}

#[derive(Debug)]
pub struct Oracle {
    pub sessions: Vec<Session>,
    published: Vec<Published>,
}

/// The filter of the one shared subscription, and what its topics begin with.
pub const SHARED: &str = "$share/g/s/+";
const SHARED_TOPICS: &str = "s/";

impl Oracle {
    pub fn new(count: usize) -> Self {
        let sessions = (0..count).map(|_| Session::default()).collect();
        Self { sessions, published: Vec::new() }
    }

    /// A message is sent. Its number is its payload.
    pub fn publish(&mut self, publisher: usize, topic: &'static str, qos: QoS) -> usize {
        let mut owed = BTreeMap::new();
        for (at, session) in self.sessions.iter().enumerate().filter(|(_, s)| s.is_there) {
            let granted = session
                .filters
                .iter()
                .filter(|(filter, _)| **filter != SHARED && matches(filter, topic))
                .map(|(_, granted)| *granted)
                .max();
            if let Some(granted) = granted {
                owed.insert(at, granted.min(qos));
            }
        }
        self.published.push(Published {
            publisher,
            topic,
            qos,
            owed,
            is_shared: topic.starts_with(SHARED_TOPICS) && self.has_members(),
            is_accepted: false,
            is_repeated: false,
            is_blurred: false,
            is_settled: false,
        });
        self.published.len() - 1
    }

    pub fn repeated(&mut self, message: usize) {
        self.published[message].is_repeated = true;
    }

    pub fn accepted(&mut self, message: usize) {
        self.published[message].is_accepted = true;
    }

    fn has_members(&self) -> bool {
        self.sessions.iter().any(|s| s.is_there && s.filters.contains_key(SHARED))
    }

    /// The session's subscriptions change, or it ends: what is on its way may go either way.
    fn unsettle(&mut self, client: usize) {
        let had_share = self.sessions[client].filters.contains_key(SHARED);
        for message in self.published.iter_mut().filter(|message| !message.is_settled) {
            message.owed.remove(&client);
            message.is_blurred |= had_share;
        }
    }

    pub fn subscribe(&mut self, client: usize, filter: &'static str, granted: QoS) {
        self.unsettle(client);
        if filter == SHARED {
            self.published.iter_mut().for_each(|message| message.is_blurred = true);
        }
        self.sessions[client].filters.insert(filter, granted);
        self.sessions[client].ever.insert(filter);
    }

    /// A SUBSCRIBE is on its way: it may hold already or not yet.
    pub fn ask(&mut self, client: usize, filter: &'static str) {
        self.unsubscribe(client, filter);
        self.sessions[client].ever.insert(filter);
    }

    /// Its SUBACK has come: from here on every message that matches is owed.
    pub fn granted(&mut self, client: usize, filter: &'static str, granted: QoS) {
        self.sessions[client].filters.insert(filter, granted);
    }

    pub fn unsubscribe(&mut self, client: usize, filter: &'static str) {
        self.unsettle(client);
        self.sessions[client].filters.remove(filter);
    }

    pub fn begin(&mut self, client: usize) {
        self.sessions[client].is_there = true;
    }

    pub fn end(&mut self, client: usize) {
        self.unsettle(client);
        self.sessions[client] = Session::default();
    }

    /// A message came.
    pub fn receive(&mut self, client: usize, message: &Message) {
        let number: usize = message.text().parse().expect("payloads are numbers");
        let published = &self.published[number];
        assert_eq!(message.topic, published.topic);
        assert!(message.qos <= published.qos);
        let session = &mut self.sessions[client];
        assert!(
            session.ever.iter().any(|filter| matches(filter, published.topic)),
            "message {number} came to client {client}, which never asked for it"
        );
        let (count, firsts) = session.came.entry(number).or_default();
        *count += 1;
        *firsts += u32::from(!message.dup);
        let is_once = published.qos != QoS::AtLeastOnce || !published.is_repeated;
        assert!(!is_once || *firsts <= 1, "message {number} was sent twice to client {client}");
        assert!(
            message.qos == QoS::AtLeastOnce || !is_once || *count == 1,
            "message {number} at {:?} came twice to client {client}",
            message.qos
        );
        // A shared subscription keeps the order of each member; messages that move break it.
        if *count == 1 && !published.topic.starts_with(SHARED_TOPICS) {
            let key = (published.publisher, message.topic.clone(), message.qos);
            let before = session.latest.insert(key, number);
            assert!(
                before.is_none_or(|before| before < number) || published.is_repeated,
                "message {number} came to client {client} behind {before:?}"
            );
        }
    }

    /// Nothing is on its way: those in `online` have all that is certain.
    pub fn check(&mut self, online: &BTreeSet<usize>) {
        let sessions = &self.sessions;
        let count = |client: usize, number: usize| {
            sessions[client].came.get(&number).map_or(0, |(count, _)| *count)
        };
        let members: Vec<_> =
            (0..sessions.len()).filter(|&at| sessions[at].filters.contains_key(SHARED)).collect();
        for (number, message) in self.published.iter_mut().enumerate() {
            if message.is_settled || message.qos == QoS::AtMostOnce || !message.is_accepted {
                continue;
            }
            for (&client, &qos) in &message.owed {
                if online.contains(&client) && qos != QoS::AtMostOnce {
                    let came = count(client, number);
                    assert!(came >= 1, "message {number} ({qos:?}) never came to client {client}");
                }
            }
            message.owed.retain(|client, qos| *qos != QoS::AtMostOnce && !online.contains(client));
            let is_shared = message.is_shared && !message.is_blurred;
            let are_there = members.iter().all(|member| online.contains(member));
            if is_shared && are_there {
                let got = members.iter().filter(|&&member| count(member, number) > 0).count();
                let is_once = message.qos == QoS::ExactlyOnce || !message.is_repeated;
                assert!(got >= 1, "message {number} came to no member");
                assert!(!is_once || got == 1, "message {number} came to {got} members");
            }
            message.is_settled = message.owed.is_empty() && (!is_shared || are_there);
        }
    }
}

fn matches(filter: &str, topic: &str) -> bool {
    TopicFilter::parse(filter, 128).expect("a valid filter").matches(topic)
}
