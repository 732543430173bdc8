//! What must, may and must not reach whom: a list of sessions and a list of messages, looked at one
//! by one. Slow and obvious, without a trie and without shards.
//!
//! The oracle sees what clients write and read, and when the world is at rest. In between it cannot
//! know what the broker has worked on, so each statement has two sides: a subscription is *certain*
//! from its SUBACK until something that may end it is written, and *possible* from its SUBSCRIBE
//! until its end is confirmed. Who is certainly subscribed is owed the message; whoever is not even
//! possibly subscribed must not get it.

mod delivery;
mod retained;
mod session;
mod share;
mod wills;

use std::collections::BTreeSet;

use shards::counters::Counters;
use shards::ids::QoS;
use shards::reject::ReasonCode;
use shards::time::Time;
use shards::topic::TopicFilter;

pub use delivery::{Published, Receiver, payload};
pub use session::{Session, Subscription};
pub use wills::Leave;

use crate::rules::Rules;

use retained::Retained;
use wills::Wills;

/// The filter of the one shared subscription, and what its topics begin with. No other filter in use
/// matches them, so that it is known why such a message came.
pub const SHARED: &str = "$share/g/s/+";
const SHARED_TOPICS: &str = "s/";

#[derive(Debug)]
pub struct Oracle {
    pub sessions: Vec<Session>,
    published: Vec<Published>,
    retained: Retained,
    wills: Wills,
    /// Those that held so far, the present ones last.
    rules: Vec<Rules>,
    names: &'static [&'static str],
    /// Filters of subscriptions that are gone, and when that was known.
    past: Vec<(&'static str, u64)>,
    /// Counts everything that happens.
    tick: u64,
    /// When the world was last at rest.
    rest_tick: u64,
    now: Time,
    /// Since when the world may have been as it is found now: the last rest, or the last look.
    since: Time,
    look_tick: u64,
    /// What did not come though it was owed: at QoS 0, and above.
    missing: [u64; 2],
    /// The first of each, for the report.
    first_missing: [Option<(usize, usize)>; 2],
}

/// Who is there while the world is at rest.
#[derive(Debug)]
pub struct Rest<'a> {
    /// Connected clients, each with the network connection that it has.
    pub online: &'a [(usize, usize)],
    /// By client: the broker may still hold a network connection of it open.
    pub attached: &'a [bool],
    pub counters: &'a Counters,
}

impl Rest<'_> {
    fn is_online(&self, client: usize) -> bool {
        self.online.iter().any(|&(other, _)| other == client)
    }
}

impl Oracle {
    #[must_use]
    pub fn new(names: &'static [&'static str], rules: Rules, now: Time) -> Self {
        Self {
            rules: vec![rules],
            names,
            sessions: (0..names.len()).map(|_| Session::default()).collect(),
            published: Vec::new(),
            retained: Retained::default(),
            wills: Wills::default(),
            past: Vec::new(),
            tick: 1,
            rest_tick: 1,
            now,
            since: now,
            look_tick: 1,
            missing: [0; 2],
            first_missing: [None; 2],
        }
    }

    /// What comes next has happened between `since` and `now`.
    pub fn look(&mut self, since: Time, now: Time) {
        (self.since, self.now) = (since, now);
        self.look_tick = self.next_tick();
    }

    /// New rules, while the world rests.
    pub fn rule(&mut self, rules: Rules) {
        self.rules.push(rules);
    }

    /// By how many of the rules since a message was published this client may have it, and of how many.
    fn count_rules(&self, client: usize, message: &Published) -> (usize, usize) {
        let since = &self.rules[message.rule..];
        let lets = |rules: &&Rules| rules.lets_receive(self.names[client], message.topic);
        (since.iter().filter(lets).count(), since.len())
    }

    /// No rules deny it, those that came while it was on its way included.
    fn is_surely_let(&self, client: usize, message: &Published) -> bool {
        let (lets, all) = self.count_rules(client, message);
        lets == all
    }

    fn next_tick(&mut self) -> u64 {
        self.tick += 1;
        self.tick
    }

    /// The publisher's acknowledgement has come.
    pub fn acked(&mut self, number: usize, reason: ReasonCode) {
        let tick = self.next_tick();
        let message = &mut self.published[number];
        // 3.x has no way to say so.
        if reason.is_error() || message.is_denied {
            message.is_refused = true;
            return;
        }
        message.is_accepted = true;
        let message = &self.published[number];
        if reason == ReasonCode::NoMatchingSubscribers {
            let someone = self.sessions.iter().position(|session| {
                session
                    .subscriptions
                    .iter()
                    .any(|s| s.is_certain(message.tick) && s.takes(message.topic))
            });
            assert_eq!(someone, None, "message {number} matched nobody, says its acknowledgement");
        } else if message.is_told_matches && message.repeats == 0 {
            // Other shards are told of an end after it is confirmed; at the next rest they know.
            let since = message.rest_tick;
            let is_someone = self.sessions.iter().any(|session| {
                session.subscriptions.iter().any(|s| s.is_possible(since) && s.takes(message.topic))
            }) || self
                .past
                .iter()
                .any(|&(filter, end)| end >= since && takes(filter, message.topic));
            assert!(is_someone, "message {number} matched somebody, says its acknowledgement");
        }
        debug_assert!(tick > message.tick);
    }

    /// Nothing is on its way: those who are there have all that is owed to them, or its loss is
    /// counted.
    pub fn rest(&mut self, now: Time, rest: &Rest<'_>) {
        self.quiet(now, rest.attached);
        for &(client, _) in rest.online {
            self.sessions[client].is_here();
        }
        self.stamp();
        self.check_owed(rest);
        self.check_shared(rest);
        self.settle_retained(rest);
        self.check_counters(rest.counters);
        self.rest_tick = self.next_tick();
        let since = self.rest_tick;
        self.past.retain(|&(_, end)| end >= since);
    }

    /// Nothing is on its way, and time goes on: sessions expire, wills fall due.
    pub fn quiet(&mut self, now: Time, attached: &[bool]) {
        self.now = now;
        for client in (0..self.sessions.len()).filter(|&client| !attached[client]) {
            self.sessions[client].confirm_leave(now);
        }
        self.quiet_wills(attached);
        for client in 0..self.sessions.len() {
            if self.sessions[client].is_over(now) {
                self.end(client);
            } else if self.sessions[client].may_be_over(now) {
                self.may_end(client);
            }
        }
    }

    fn check_counters(&self, counters: &Counters) {
        let late = counters.dropped_queue_newest
            + counters.dropped_queue_oldest
            + counters.refused_queue_full
            + counters.dropped_too_large
            + counters.dropped_expired;
        let all = late + counters.dropped_output_full + counters.dropped_offline;
        assert!(
            self.missing[1] <= late,
            "message {:?} (message, client) never came; {} are missing and {late} drops are counted",
            self.first_missing[1],
            self.missing[1],
        );
        assert!(
            self.missing[0] + self.missing[1] <= all,
            "QoS 0 message {:?} (message, client) never came; {} are missing, {all} drops are counted",
            self.first_missing[0],
            self.missing[0] + self.missing[1],
        );
        let (least, most) = self.wills_out();
        let wills = counters.wills_published;
        assert!(wills >= least, "{wills} wills were published, {least} are due");
        assert!(
            wills <= most,
            "{wills} wills were published, at most {most} may be: {:?}",
            self.wills
        );
    }

    /// What is missing once more.
    fn note_missing(&mut self, qos: QoS, number: usize, client: usize) {
        let at = usize::from(qos != QoS::AtMostOnce);
        self.missing[at] += 1;
        self.first_missing[at].get_or_insert((number, client));
    }

    /// Sessions that are certainly there; `None` if that cannot be told.
    #[must_use]
    pub fn session_count(&self) -> Option<usize> {
        let there: Option<Vec<_>> =
            self.sessions.iter().map(|session| session.is_present(self.now)).collect();
        there.map(|there| there.into_iter().filter(|&is_there| is_there).count())
    }

    /// Subscriptions that are certainly there; `None` if that cannot be told.
    #[must_use]
    pub fn subscription_count(&self) -> Option<usize> {
        let mut filters = BTreeSet::new();
        for (client, session) in self.sessions.iter().enumerate() {
            for subscription in session.subscriptions.iter().filter(|s| s.ended.is_none()) {
                if !subscription.is_certain(self.tick) {
                    return None;
                }
                filters.insert((client, subscription.filter));
            }
        }
        Some(filters.len())
    }
}

/// Whether a filter, shared or not, matches a topic.
fn takes(filter: &str, topic: &str) -> bool {
    let filter = filter.strip_prefix("$share/g/").unwrap_or(filter);
    TopicFilter::parse(filter, 128).expect("a valid filter").matches(topic)
}
