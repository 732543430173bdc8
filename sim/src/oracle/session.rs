//! Sessions as clients can know them: whether they are there, and their subscriptions over time.

use std::collections::BTreeMap;
use std::time::Duration;

use shards::codec::{RetainHandling, SubscribeOptions};
use shards::ids::QoS;
use shards::time::Time;

use super::{Leave, Oracle, SHARED, takes};

/// One subscription from its SUBSCRIBE to its end. The times are ticks of the oracle.
#[derive(Debug)]
pub struct Subscription {
    pub filter: &'static str,
    pub options: SubscribeOptions,
    pub id: Option<u32>,
    pub(super) asked: u64,
    pub(super) granted: Option<u64>,
    /// Something was written that may end it.
    pub(super) ending: Option<u64>,
    /// It has ended for sure.
    pub(super) ended: Option<u64>,
}

impl Subscription {
    /// In force since `tick` at least.
    pub(super) fn is_certain(&self, tick: u64) -> bool {
        self.granted.is_some_and(|granted| granted <= tick) && self.ending.is_none()
    }

    /// Perhaps in force at some time since `tick`.
    pub(super) fn is_possible(&self, tick: u64) -> bool {
        self.ended.is_none_or(|ended| ended >= tick)
    }

    pub(super) fn takes(&self, topic: &str) -> bool {
        takes(self.filter, topic)
    }

    pub(super) fn is_shared(&self) -> bool {
        self.filter == SHARED
    }
}

/// One client identifier.
#[derive(Debug, Default)]
pub struct Session {
    pub subscriptions: Vec<Subscription>,
    /// A session began and its end is not known.
    is_there: bool,
    /// Nobody can tell.
    is_unknown: bool,
    /// A CONNECT that was not answered may have begun it anew since the client last heard of it: what
    /// the client then sends again, the broker may take for new.
    pub may_be_anew: bool,
    /// Least and most of the expiry interval, in seconds.
    pub(super) expiry_s: (u32, u32),
    /// What DISCONNECT made of it, once it is known to be worked on.
    expiry_next_s: Option<u32>,
    /// When the connection ended: not before, and not after.
    left: Option<(Time, Option<Time>)>,
    /// When its present connection was welcomed.
    pub(super) steady_since: u64,
    /// By message: how often it came, how often without DUP, and how often it may have been a retained
    /// copy.
    pub(super) came: BTreeMap<usize, Came>,
    /// By topic: messages without payload, which have no number.
    pub(super) empty: BTreeMap<&'static str, u32>,
    /// By publisher, topic and QoS: the latest message that came for the first time.
    pub(super) latest: BTreeMap<(usize, &'static str, QoS), usize>,
    /// By topic and publisher: the latest message published with RETAIN that came live.
    pub(super) latest_set: BTreeMap<(&'static str, usize), usize>,
}

/// How often a message came to a session.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Came {
    pub(super) all: u32,
    pub(super) firsts: u32,
    /// At QoS 0 and 2.
    pub(super) once: u32,
    /// Of `firsts`: with RETAIN, perhaps for a new subscription.
    pub(super) copies: u32,
    /// Of these: what cannot be a live message.
    pub(super) only_copies: u32,
    /// Of `firsts`: what cannot be a retained copy.
    pub(super) only_live: u32,
    /// The client answered it with an error.
    pub(super) is_refused: bool,
}

impl Session {
    /// Whether CONNACK would say "session present"; `None` if that cannot be told.
    #[must_use]
    pub fn is_present(&self, now: Time) -> Option<bool> {
        let (least, most) = self.expiry_s;
        let after = |time: Time, secs: u32| time + Duration::from_secs(secs.into());
        match self.left {
            // Whether it was there or not: its time is over.
            Some((_, Some(latest))) if now >= after(latest, most) => Some(false),
            _ if self.is_unknown => None,
            _ if !self.is_there => Some(false),
            None => Some(true),
            Some((earliest, _)) if now < after(earliest, least) => Some(true),
            Some(_) => None,
        }
    }

    /// The same for a CONNECT without clean start, which ends an older connection first.
    #[must_use]
    pub fn is_resumable(&self, now: Time) -> Option<bool> {
        if self.expiry_s.1 == 0 && !self.is_unknown {
            return Some(false);
        }
        if self.left.is_none() && self.is_there && self.expiry_s.0 == 0 {
            return None;
        }
        self.is_present(now)
    }

    pub(super) fn is_over(&self, now: Time) -> bool {
        self.is_there && self.left.is_some() && self.is_present(now) == Some(false)
    }

    /// The least that its expiry interval may be has passed, and nobody has seen it since.
    pub(super) fn may_be_over(&self, now: Time) -> bool {
        self.is_there && self.left.is_some() && self.is_present(now).is_none()
    }

    /// The client is connected, and the world rests.
    pub(super) fn is_here(&mut self) {
        (self.is_there, self.is_unknown) = (true, false);
    }

    /// At rest it is known that the connection has ended, and what its DISCONNECT said holds.
    pub(super) fn confirm_leave(&mut self, now: Time) {
        if let Some((_, latest)) = self.left.as_mut() {
            latest.get_or_insert(now);
            if let Some(expiry_s) = self.expiry_next_s.take() {
                self.expiry_s = (expiry_s, expiry_s);
            }
        }
    }

    pub(super) fn certain(&self, tick: u64, topic: &str) -> impl Iterator<Item = &Subscription> {
        let takes = move |s: &&Subscription| s.is_certain(tick) && !s.is_shared() && s.takes(topic);
        self.subscriptions.iter().filter(takes)
    }

    pub(super) fn possible(&self, tick: u64, topic: &str) -> impl Iterator<Item = &Subscription> {
        let takes =
            move |s: &&Subscription| s.is_possible(tick) && !s.is_shared() && s.takes(topic);
        self.subscriptions.iter().filter(takes)
    }

    /// Something is written that may end these.
    fn may_end(&mut self, tick: u64, ends: impl Fn(&Subscription) -> bool) {
        for subscription in self.subscriptions.iter_mut().filter(|s| ends(s)) {
            subscription.ending.get_or_insert(tick);
        }
    }

    fn end_all(&mut self, tick: u64, ends: impl Fn(&Subscription) -> bool) {
        for subscription in self.subscriptions.iter_mut().filter(|s| ends(s)) {
            subscription.ending.get_or_insert(tick);
            subscription.ended.get_or_insert(tick);
        }
    }

    /// Whether every SUBSCRIBE so far had been answered at `tick`, or was over.
    pub(super) fn is_settled(&self, tick: u64) -> bool {
        let is_before = |at: Option<u64>| at.is_some_and(|at| at < tick);
        self.subscriptions.iter().all(|s| is_before(s.granted) || is_before(s.ended))
    }

    /// SUBSCRIBEs so far that were owed a retained message of this topic, or may have been.
    pub(super) fn copies_max(&self, topic: &str) -> u32 {
        let wants = |s: &&Subscription| {
            !s.is_shared() && s.options.retain_handling != RetainHandling::Never && s.takes(topic)
        };
        u32::try_from(self.subscriptions.iter().filter(wants).count()).expect("few")
    }
}

impl Oracle {
    /// CONNECT is written.
    pub fn connect(&mut self, client: usize, is_clean: bool, will: Option<(usize, u32)>) {
        let tick = self.next_tick();
        let session = &mut self.sessions[client];
        if is_clean {
            session.may_end(tick, |_| true);
            session.came.clear();
            session.empty.clear();
            session.latest.clear();
            session.latest_set.clear();
            self.disown(client);
            // What it has and has not acknowledged may reach others before its CONNACK comes.
            self.note_share_end(client);
        }
        self.ask_will(client, is_clean, will);
    }

    /// CONNACK has come; older connections of the client are over. `is_muddled`: several CONNECTs are
    /// on their way, in no known order.
    pub fn welcomed(&mut self, client: usize, expiry_s: u32, is_clean: bool, is_muddled: bool) {
        self.arm_will(client, is_clean, is_muddled);
        let tick = self.next_tick();
        let mut shared = self.sessions[client].subscriptions.iter().filter(|s| s.is_shared());
        if shared.any(|s| s.ending.is_some() && s.ended.is_none()) {
            // Perhaps the one before has ended only now, with a delivery that had begun.
            self.note_share_end(client);
        }
        let session = &mut self.sessions[client];
        session.is_there = true;
        session.steady_since = tick;
        session.is_unknown = is_muddled;
        let (least, most) = session.expiry_s;
        session.expiry_s = match is_muddled {
            // Another CONNECT may be the last.
            true => (least.min(expiry_s), most.max(expiry_s)),
            false => (expiry_s, expiry_s),
        };
        session.expiry_next_s = None;
        session.left = None;
    }

    /// The client's side of the connection has ended, or the broker has ended it.
    pub fn left(&mut self, client: usize, leave: Leave) {
        self.next_tick();
        let since = self.since;
        let session = &mut self.sessions[client];
        session.left.get_or_insert((since, None));
        if let Leave::Disconnect { expiry_s: Some(expiry_s), is_sure, .. } = leave {
            let (least, most) = session.expiry_s;
            session.expiry_s = (least.min(expiry_s), most.max(expiry_s));
            session.expiry_next_s = (is_sure && !session.is_unknown).then_some(expiry_s);
        }
        if session.expiry_s.0 == 0 {
            self.may_end(client);
        }
        self.leave_will(client, leave);
    }

    /// The connection ended before its CONNACK came: it may have had any effect, or none.
    pub fn left_unwelcomed(&mut self, client: usize, expiry_s: u32, is_clean: bool) {
        self.next_tick();
        let since = self.since;
        let now = self.now;
        let session = &mut self.sessions[client];
        let (least, most) = session.expiry_s;
        // Resumed or not, it is there.
        let is_kept = !is_clean && least > 0 && session.is_present(now) == Some(true);
        session.is_unknown = !is_kept;
        session.may_be_anew |= !is_kept;
        session.expiry_s = (least.min(expiry_s), most.max(expiry_s));
        session.expiry_next_s = None;
        session.left = Some((since, None));
        if session.expiry_s.0 == 0 {
            self.may_end(client);
        }
        self.leave_will(client, Leave::Unwelcomed);
    }

    /// From now on it cannot be told whether the session is over.
    pub(super) fn may_end(&mut self, client: usize) {
        self.sessions[client].may_end(self.tick, |_| true);
        self.note_share_end(client);
    }

    /// The session is over: nothing of it is owed any more.
    pub fn end(&mut self, client: usize) {
        let tick = self.next_tick();
        self.disown(client);
        self.note_share_end(client);
        let ended = std::mem::take(&mut self.sessions[client]);
        self.past.extend(
            ended.subscriptions.iter().filter(|s| s.ended.is_none()).map(|s| (s.filter, tick)),
        );
        // The broker's expiry interval is part of what a later will may wait for.
        self.sessions[client].expiry_s = ended.expiry_s;
        self.sessions[client].left = ended.left;
    }

    /// SUBSCRIBE is written.
    pub fn ask(
        &mut self,
        client: usize,
        filter: &'static str,
        options: SubscribeOptions,
        id: Option<u32>,
    ) -> u64 {
        let tick = self.next_tick();
        let session = &mut self.sessions[client];
        session.may_end(tick, |s| s.filter == filter);
        session.subscriptions.push(Subscription {
            filter,
            options,
            id,
            asked: tick,
            granted: None,
            ending: None,
            ended: None,
        });
        tick
    }

    /// SUBACK has come for what was asked at `asked`: it holds, and what it replaced is gone.
    pub fn granted(&mut self, client: usize, asked: u64) {
        let tick = self.next_tick();
        let session = &mut self.sessions[client];
        let Some(filter) =
            session.subscriptions.iter().find(|s| s.asked == asked).map(|s| s.filter)
        else {
            return;
        };
        session.end_all(tick, |s| s.filter == filter && s.asked < asked);
        for subscription in session.subscriptions.iter_mut().filter(|s| s.asked == asked) {
            subscription.granted = Some(tick);
        }
    }

    /// UNSUBSCRIBE is written. The answer stands for it.
    pub fn unsubscribe(&mut self, client: usize, filter: &'static str) -> u64 {
        let tick = self.next_tick();
        self.sessions[client].may_end(tick, |s| s.filter == filter);
        tick
    }

    /// UNSUBACK has come: had there been a subscription?
    pub fn unsubscribed(
        &mut self,
        client: usize,
        filter: &'static str,
        at: u64,
        was_there: Option<bool>,
    ) {
        let tick = self.next_tick();
        let session = &mut self.sessions[client];
        let of_it = |s: &&Subscription| s.filter == filter && s.asked < at && s.ended.is_none();
        let found: Vec<_> = session.subscriptions.iter().filter(of_it).collect();
        assert!(
            !found.is_empty() || was_there != Some(true),
            "client {client} had no subscription to {filter}"
        );
        let is_certain = |s: &&&Subscription| s.granted.is_some() && s.ending == Some(at);
        assert!(
            was_there != Some(false) || !found.iter().any(|s| is_certain(&s)),
            "client {client} had a subscription to {filter}"
        );
        session.end_all(tick, |s| s.filter == filter && s.asked < at);
    }

    /// Whether the client has a subscription to this filter; `None` if that cannot be told.
    #[must_use]
    pub fn has_subscription(&self, client: usize, filter: &str) -> Option<bool> {
        let subscriptions = &self.sessions[client].subscriptions;
        let of_it = || subscriptions.iter().filter(|s| s.filter == filter && s.ended.is_none());
        if of_it().any(|s| s.is_certain(self.tick)) {
            return Some(true);
        }
        of_it().next().is_none().then_some(false)
    }
}
