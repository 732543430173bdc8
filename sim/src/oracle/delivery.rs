//! Messages: what is owed to whom, and whether what came may come.

use std::collections::BTreeMap;
use std::time::Duration;

use shards::codec::RetainHandling;
use shards::ids::QoS;
use shards::time::Time;

use crate::client::Message;

use super::{Oracle, Rest, SHARED_TOPICS, Session};

/// One message that was published, or a will that may be.
#[derive(Debug)]
pub struct Published {
    pub publisher: usize,
    pub topic: &'static str,
    pub qos: QoS,
    pub retain: bool,
    pub expiry_s: Option<u32>,
    /// Length of the payload, which begins with the message's number. 0: a payload without number.
    pub bytes: usize,
    /// The network connection that it was written to.
    pub wire: usize,
    pub is_will: bool,
    /// Its publisher may not publish it.
    pub is_denied: bool,
    /// The rules that held then.
    pub(super) rule: usize,
    /// Its acknowledgement says whether anybody has a matching subscription.
    pub is_told_matches: bool,
    /// Its acknowledgement may be an error; sent again, it then counts as a new message.
    pub may_be_refused: bool,
    /// It was sent again in a session that may be another one, and then counts as a new message.
    pub(super) may_be_new: bool,
    /// The publisher has sent it again so often.
    pub repeats: u32,
    /// It was worked on not before, and not after.
    pub(super) at: (Time, Option<Time>),
    pub(super) tick: u64,
    pub(super) rest_tick: u64,
    pub(super) is_accepted: bool,
    pub(super) is_refused: bool,
    /// A will of which only the rests are known between which it was published.
    pub(super) is_undated: bool,
    /// How often it came to anybody.
    pub(super) comings: u32,
    /// Who must get it, and at which QoS; `None` while it is on its way.
    owed: Option<BTreeMap<usize, QoS>>,
    pub(super) is_settled: bool,
    /// The shared group changed while it was on its way.
    pub(super) is_blurred: bool,
    /// Sessions of the shared group that it came to, those that have ended included.
    pub(super) members: Vec<usize>,
}

impl Published {
    #[must_use]
    pub fn new(publisher: usize, topic: &'static str, qos: QoS, wire: usize) -> Self {
        Self {
            publisher,
            topic,
            qos,
            retain: false,
            expiry_s: None,
            bytes: 8,
            wire,
            is_will: false,
            is_denied: false,
            rule: 0,
            is_told_matches: false,
            may_be_refused: false,
            may_be_new: false,
            repeats: 0,
            at: (Time::ZERO, None),
            tick: 0,
            rest_tick: 0,
            is_accepted: false,
            is_refused: false,
            is_undated: false,
            comings: 0,
            owed: None,
            is_settled: false,
            is_blurred: false,
            members: Vec::new(),
        }
    }

    /// How often it may go to one session.
    pub(super) fn sent_count(&self) -> u32 {
        match self.qos {
            QoS::ExactlyOnce if !self.may_be_refused && !self.may_be_new => 1,
            _ => 1 + self.repeats,
        }
    }

    /// A will is published from now on, if it has not come to anybody yet.
    pub(super) fn date_will(&mut self, ticks: (u64, u64)) {
        if self.comings == 0 {
            (self.tick, self.rest_tick) = ticks;
        }
    }

    pub(super) fn is_shared(&self) -> bool {
        self.topic.starts_with(SHARED_TOPICS)
    }

    /// Whether its time is over at `now`; `None` if that cannot be told.
    pub(super) fn is_expired(&self, now: Time) -> Option<bool> {
        let Some(secs) = self.expiry_s else { return Some(false) };
        let interval = Duration::from_secs(secs.into());
        match self.at {
            _ if self.is_will => None,
            (earliest, _) if now < earliest + interval => Some(false),
            (_, Some(latest)) if now >= latest + interval && self.repeats == 0 => Some(true),
            _ => None,
        }
    }
}

/// The payload of a message: its number, filled up.
#[must_use]
pub fn payload(number: usize, bytes: usize) -> Vec<u8> {
    if bytes == 0 {
        return Vec::new();
    }
    let mut payload = format!("{number}:").into_bytes();
    payload.resize(bytes.max(payload.len()), b'x');
    payload
}

impl Oracle {
    /// A message is sent. Answers its number.
    pub fn publish(&mut self, message: Published) -> usize {
        let tick = self.next_tick();
        let number = self.published.len();
        if message.retain && !message.is_will && !message.is_denied {
            self.retained.log(message.topic, number, message.publisher);
        }
        let (at, rest_tick) = ((self.now, None), self.rest_tick);
        let rule = self.rules.len() - 1;
        self.published.push(Published { at, tick, rest_tick, rule, ..message });
        number
    }

    #[must_use]
    pub fn published(&self, number: usize) -> &Published {
        &self.published[number]
    }

    /// The publisher sends it again on a new connection. `may_be_new`: nobody knows whether its session
    /// is still the same.
    pub fn repeated(&mut self, number: usize, wire: usize, may_be_new: bool) {
        self.next_tick();
        let message = &mut self.published[number];
        message.repeats += 1;
        message.may_be_new |= may_be_new;
        message.wire = wire;
        if message.retain && !message.is_denied {
            self.retained.log(message.topic, number, message.publisher);
        }
    }

    /// At rest: everything that was sent has been worked on.
    pub(super) fn stamp(&mut self) {
        let now = self.now;
        for message in self.published.iter_mut().rev().take_while(|message| message.at.1.is_none())
        {
            message.at.1 = Some(now);
        }
    }

    /// Nothing is owed to this session any more.
    pub(super) fn disown(&mut self, client: usize) {
        for message in self.published.iter_mut().filter(|message| !message.is_settled) {
            if let Some(owed) = message.owed.as_mut() {
                owed.remove(&client);
            }
        }
    }

    /// A message came.
    pub fn receive(&mut self, client: usize, message: &Message, who: Receiver) {
        self.next_tick();
        if message.payload.is_empty() {
            return self.receive_empty(client, message);
        }
        let number = number_of(message);
        let published = &self.published[number];
        assert_eq!(message.topic, published.topic, "message {number} came with another topic");
        assert_eq!(
            message.payload,
            payload(number, published.bytes),
            "message {number} came with another payload"
        );
        assert!(!published.is_denied, "message {number} came, which nobody may publish");
        assert!(
            self.count_rules(client, published).0 > 0,
            "message {number} came to client {client}, which may not receive it"
        );
        if published.is_will {
            self.check_will(number, who.may_lose_connection);
        }
        self.check_expiry(number, message, who);
        if published.is_shared() {
            self.receive_shared(client, number, message);
        } else {
            self.receive_own(client, number, message, who);
        }
        self.published[number].comings += 1;
    }

    fn check_expiry(&self, number: usize, message: &Message, who: Receiver) {
        let published = &self.published[number];
        if published.is_will {
            return;
        }
        let Some(secs) = published.expiry_s else {
            return assert_eq!(message.expiry_s, None, "message {number} has no expiry");
        };
        if !message.dup {
            assert!(
                published.is_expired(self.since) != Some(true),
                "message {number} came though it has expired"
            );
        }
        if who.is_v5 {
            let left = message.expiry_s.expect("a message expiry goes to MQTT 5.0 subscribers");
            let spent = self.now.since(published.at.0).as_secs();
            assert!(left <= secs, "message {number} has {left} s left of {secs}");
            assert!(
                u64::from(left) + spent + 1 >= u64::from(secs) || message.dup,
                "message {number} has {left} s left of {secs} after {spent}"
            );
        }
    }

    /// A message without payload has no number: it is only counted.
    fn receive_empty(&mut self, client: usize, message: &Message) {
        let is_it = |p: &&Published| p.bytes == 0 && p.topic == message.topic;
        let (count, topic) = self
            .published
            .iter()
            .filter(is_it)
            .fold((0, ""), |(count, _), p| (count + 1 + p.repeats, p.topic));
        assert!(count > 0, "an empty message came that nobody sent, on {}", message.topic);
        let session = &mut self.sessions[client];
        assert!(
            session.subscriptions.iter().any(|s| s.takes(topic)),
            "an empty message on {topic} came to client {client}, which never asked for it"
        );
        let came = session.empty.entry(topic).or_default();
        *came += u32::from(!message.dup);
        assert!(*came <= count, "{came} empty messages came on {topic}, of {count}");
    }

    fn receive_own(&mut self, client: usize, number: usize, message: &Message, who: Receiver) {
        let published = &self.published[number];
        let session = &self.sessions[client];
        let live = check_live(session, published, client, message, who);
        let copy = check_copy(session, published, message);
        assert!(
            live.is_ok() || copy.is_ok(),
            "message {number} to client {client}: {} and {}: {message:?}",
            live.err().unwrap_or_default(),
            copy.err().unwrap_or_default()
        );
        let (is_live, is_copy) = (live.is_ok(), copy.is_ok());
        if is_copy {
            self.check_current(client, number, message, !is_live);
        }
        let published = &self.published[number];
        let session = &mut self.sessions[client];
        let copies_max = session.copies_max(published.topic);
        // A will is out at some time; one's own may not come live.
        let may_come_twice = published.is_will
            || client == published.publisher
            || !session.is_settled(published.tick);
        let came = session.came.entry(number).or_default();
        came.all += 1;
        came.firsts += u32::from(!message.dup);
        came.once += u32::from(message.qos != QoS::AtLeastOnce);
        // A repeated QoS 2 message is not shown twice by the model.
        let is_shown_once = !message.dup || message.qos == QoS::ExactlyOnce;
        came.copies += u32::from(is_shown_once && is_copy);
        came.only_copies += u32::from(is_shown_once && !is_live);
        assert!(
            came.only_copies <= copies_max,
            "message {number} came {} times as retained to client {client}",
            came.only_copies
        );
        came.only_live += u32::from(is_shown_once && !is_copy);
        // Published when all subscriptions were there, it comes live; or, if that was dropped, retained.
        assert!(
            may_come_twice || came.only_copies == 0 || came.only_live == 0,
            "message {number} came as a live one and as a retained one to client {client}"
        );
        let spare = came.copies.min(copies_max);
        let sent = published.sent_count();
        assert!(
            came.firsts <= sent + spare || came.is_refused,
            "message {number} was sent {} times to client {client}",
            came.firsts
        );
        assert!(
            message.qos == QoS::AtLeastOnce || came.once <= sent + spare || came.is_refused,
            "message {number} at {:?} came {} times to client {client}",
            message.qos,
            came.once
        );
        came.is_refused |= message.is_refused;
        let is_first = came.all == 1;
        if is_live && !is_copy && is_first {
            self.check_order(client, number, message.qos);
        }
        if is_live && !is_copy && self.published[number].retain && !self.published[number].is_will {
            let published = &self.published[number];
            let key = (published.topic, published.publisher);
            let latest = self.sessions[client].latest_set.entry(key).or_default();
            *latest = (*latest).max(number);
        }
    }

    /// Messages of one publisher, on one topic and with one QoS, come in order.
    fn check_order(&mut self, client: usize, number: usize, qos: QoS) {
        let published = &self.published[number];
        if published.is_will || published.repeats > 0 {
            return;
        }
        let key = (published.publisher, published.topic, qos);
        let before = self.sessions[client].latest.insert(key, number);
        assert!(
            before.is_none_or(|before| before < number),
            "message {number} came to client {client} behind {before:?}"
        );
    }

    /// What is on its way has arrived: from here on it is known who is owed what.
    pub(super) fn check_owed(&mut self, rest: &Rest<'_>) {
        for number in 0..self.published.len() {
            let message = &self.published[number];
            if message.is_settled || message.is_shared() {
                continue;
            }
            if message.owed.is_none() {
                self.owe(number, rest);
            }
            let message = &self.published[number];
            let Some(owed) = message.owed.clone() else { continue };
            let has_come = |client: usize| {
                let session = &self.sessions[client];
                match message.bytes {
                    0 => session.empty.contains_key(message.topic),
                    _ => session.came.contains_key(&number),
                }
            };
            let mut open = BTreeMap::new();
            let mut missing = Vec::new();
            for (client, qos) in owed {
                if has_come(client) {
                    continue;
                }
                if rest.is_online(client) || qos == QoS::AtMostOnce {
                    missing.push((client, qos));
                } else {
                    open.insert(client, qos);
                }
            }
            self.published[number].is_settled = open.is_empty();
            self.published[number].owed = Some(open);
            for (client, qos) in missing {
                self.note_missing(qos, number, client);
            }
        }
    }

    /// Decides to whom a message is owed that has gone wherever it goes.
    fn owe(&mut self, number: usize, rest: &Rest<'_>) {
        let message = &self.published[number];
        // At QoS 0 nobody says that it was accepted: it was if the connection is still there.
        let is_sure = match message.qos {
            _ if message.is_denied => false,
            QoS::AtMostOnce => {
                message.is_accepted || rest.online.contains(&(message.publisher, message.wire))
            }
            QoS::AtLeastOnce | QoS::ExactlyOnce => message.is_accepted,
        };
        if !is_sure {
            // Refused, or lost with its connection; a will may still come.
            self.published[number].is_settled =
                message.is_refused || message.qos == QoS::AtMostOnce && !message.is_will;
            return;
        }
        let mut owed = BTreeMap::new();
        for (client, session) in self.sessions.iter().enumerate() {
            let is_own = client == message.publisher;
            let granted = session
                .certain(message.tick, message.topic)
                .filter(|s| !(is_own && s.options.no_local))
                .map(|s| s.options.qos)
                .max();
            let Some(granted) = granted.filter(|_| self.is_surely_let(client, message)) else {
                continue;
            };
            let qos = granted.min(message.qos);
            let connection = rest.online.iter().find(|&&(other, _)| other == client);
            // QoS 0 is owed only to a connection that was there all the time.
            let is_steady = connection.is_some() && session.steady_since <= message.tick;
            if qos != QoS::AtMostOnce || is_steady {
                owed.insert(client, qos);
            }
        }
        self.published[number].owed = Some(owed);
    }
}

/// What the oracle must know of who receives.
#[derive(Clone, Copy, Debug)]
pub struct Receiver {
    pub is_v5: bool,
    /// The publisher of a will may have lost its connection without anybody being told yet.
    pub may_lose_connection: bool,
}

pub(super) fn number_of(message: &Message) -> usize {
    message
        .text()
        .split(':')
        .next()
        .and_then(|n| n.parse().ok())
        .expect("payloads begin with a number")
}

/// Whether the message is what a live one looks like to this session; else why not.
fn check_live(
    session: &Session,
    published: &Published,
    client: usize,
    message: &Message,
    who: Receiver,
) -> Result<(), &'static str> {
    let takes_own = |no_local: bool| !(no_local && client == published.publisher);
    let possible: Vec<_> = session
        .possible(published.tick.min(published.rest_tick), published.topic)
        .filter(|s| takes_own(s.options.no_local))
        .collect();
    let certain: Vec<_> = session
        .certain(published.tick, published.topic)
        .filter(|s| takes_own(s.options.no_local))
        .collect();
    let Some(most) = possible.iter().map(|s| s.options.qos).max() else {
        return Err("no subscription asks for it");
    };
    let least = certain.iter().map(|s| s.options.qos).max().unwrap_or(QoS::AtMostOnce);
    if message.qos > most.min(published.qos) || message.qos < least.min(published.qos) {
        return Err("its QoS is not the lower of published and granted");
    }
    if message.retain
        && !(published.retain && possible.iter().any(|s| s.options.retain_as_published))
    {
        return Err("RETAIN is set and was not asked for");
    }
    if !message.retain && published.retain && certain.iter().any(|s| s.options.retain_as_published)
    {
        return Err("RETAIN is not set as published");
    }
    if !message.ids.iter().all(|id| possible.iter().any(|s| s.id == Some(*id))) {
        return Err("a subscription identifier is wrong");
    }
    if who.is_v5 && !certain.iter().filter_map(|s| s.id).all(|id| message.ids.contains(&id)) {
        return Err("a subscription identifier is missing");
    }
    Ok(())
}

/// Whether the message is what a retained one looks like to a new subscription; else why not.
fn check_copy(
    session: &Session,
    published: &Published,
    message: &Message,
) -> Result<(), &'static str> {
    if !message.retain || !published.retain {
        return Err("it is not retained");
    }
    let asks = |s: &&super::Subscription| {
        s.options.retain_handling != RetainHandling::Never
            && s.takes(published.topic)
            && !s.is_shared()
    };
    // What replaces a subscription says how the rest of what that one asked for comes.
    let is_told = |asking: &&super::Subscription| {
        session.subscriptions.iter().any(|s| {
            s.filter == asking.filter
                && s.asked >= asking.asked
                && message.qos == s.options.qos.min(published.qos)
                && message.ids == s.id.into_iter().collect::<Vec<_>>()
        })
    };
    match session.subscriptions.iter().filter(asks).find(is_told) {
        Some(_) => Ok(()),
        None => Err("no subscription asks for it as retained"),
    }
}
