//! Rules of who may do what, and what the transport knows of a client.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::auth::{Authenticate, Authorise, Identity, Subscribing};
use crate::ids::{ConnId, SessionId};
use crate::mark;
use crate::origin::Origin;
use crate::planted::planted;
use crate::reject::{ReasonCode, Reject};
use crate::session::{SubscriptionKey, Will};
use crate::store::record::SubscriptionRecord;
use crate::time::Now;
use crate::timers::Timer;
use crate::topic::{SubOptions, Subscriber, Target, TopicFilter};

use super::Shard;
use super::effect::{Note, Outbox};
use super::leave::Ending;
use super::local::Local;

/// Sessions and subscriptions that are checked by new rules in one turn.
const RECHECKS_PER_TURN: usize = 256;

/// What new rules have still to look at.
#[derive(Debug, Default)]
pub(super) struct Recheck {
    /// All sessions from this number on.
    walk: Option<u32>,
    /// Sessions whose clients have other rights than before.
    also: Vec<SessionId>,
    /// What is left of the subscriptions of `session`.
    keys: Vec<SubscriptionKey>,
    session: SessionId,
}

impl Recheck {
    pub(super) fn is_under_way(&self) -> bool {
        self.walk.is_some() || !self.keys.is_empty() || !self.also.is_empty()
    }
}

/// Whether so many messages of one topic may go to a subscription that is wider than what its client may
/// receive; counts those that may not.
#[cold]
pub(super) fn may_receive(
    authorise: &mut dyn Authorise,
    local: &mut Local,
    target: &Target,
    topic: &str,
    count: u64,
) -> bool {
    let Some(session) = local.sessions.get(target.session) else { return false };
    if authorise.may_receive(&session.who(), topic) {
        return true;
    }
    mark!(DeliveryDenied);
    local.counters.denied_delivery += count;
    false
}

impl Shard {
    pub(super) fn on_identified(
        &mut self,
        id: ConnId,
        peer: Option<SocketAddr>,
        identity: Option<&str>,
    ) {
        let Some(conn) = self.local.conns.get_mut(id) else { return };
        if let Some(peer) = peer {
            conn.set_origin(Origin { peer, ..conn.origin() });
        }
        if let Some(identity) = identity {
            conn.extras_mut().identity = Some(identity.into());
        }
    }

    pub(super) fn on_rules(
        &mut self,
        authenticate: Box<dyn Authenticate>,
        authorise: Box<dyn Authorise>,
    ) {
        self.authenticate = authenticate;
        self.is_open = authorise.allows_everything();
        self.authorise = authorise;
        self.recheck = Recheck { walk: Some(0), ..Recheck::default() };
    }

    /// The client of one session has other rights than before.
    pub(super) fn check_rights_of(&mut self, session: SessionId) {
        self.recheck.also.push(session);
    }

    /// Goes on where the last turn has stopped.
    pub(super) fn go_on_checking(&mut self, now: Now, out: &mut Outbox) {
        for _ in 0..RECHECKS_PER_TURN {
            if let Some(key) = self.recheck.keys.pop() {
                self.check_subscription(self.recheck.session, key, out);
            } else if let Some(session) = self.recheck.also.pop() {
                self.begin_checking(session);
            } else if let Some(next) = self.recheck.walk {
                let is_end = next >= self.local.sessions.end();
                self.recheck.walk = (!is_end).then_some(next.saturating_add(1));
                self.check_client(now, SessionId(next), out);
                self.begin_checking(SessionId(next));
            } else {
                return;
            }
        }
        mark!(RecheckGoesOn);
    }

    fn begin_checking(&mut self, id: SessionId) {
        let Some(session) = self.local.sessions.get(id) else { return };
        if planted!(OfflineNotRechecked) && session.conn.is_none() {
            return;
        }
        self.recheck.session = id;
        self.recheck.keys = session.subscriptions.iter().collect();
    }

    /// Ends the connection of a client that may not be here any more. Its session stays.
    fn check_client(&mut self, now: Now, id: SessionId, out: &mut Outbox) {
        let Some(session) = self.local.sessions.get(id) else { return };
        if self.may_stay(&session.client_id, session.identity.as_deref()) {
            return;
        }
        let conn = session.conn.and_then(|index| self.local.conns.at_mut(index));
        let Some(conn) = conn.map(|conn| conn.id) else { return };
        mark!(RulesEndedConn);
        let why = "the rules have changed, and this client may not stay";
        let reject = Reject { reason: ReasonCode::NotAuthorized, why };
        self.disconnect(now, conn, reject, Ending::WithWill, out);
    }

    pub(super) fn may_stay(&self, client_id: &str, identity: Option<&Identity>) -> bool {
        let nobody = Identity::default();
        self.authenticate.is_valid(client_id, identity.unwrap_or(&nobody))
    }

    /// Asks once more for a subscription that was granted.
    fn check_subscription(&mut self, id: SessionId, key: SubscriptionKey, out: &mut Outbox) {
        let Some(session) = self.local.sessions.get(id) else { return };
        // Its client may have dropped it meanwhile.
        if !session.subscriptions.contains(&key) {
            return;
        }
        let Some((text, record)) = self.subscription(id, key) else { return };
        let Ok(filter) = TopicFilter::parse(&text, u16::MAX) else { return };
        let Some(options) = SubOptions::from_bits(record.options) else { return };
        let allowed = self.authorise.may_subscribe(&session.who(), filter.filter());
        let conn = session.conn.and_then(|index| self.local.conns.at_mut(index));
        if allowed == Subscribing::Deny {
            mark!(RulesEndedSubscription);
            self.local.counters.denied_subscribe += 1;
            if let Some(conn) = conn.map(|conn| conn.id) {
                let why = "the rules have changed, and this subscription ends";
                self.note_denied(conn, &text, why, out);
            }
            self.remove_subscription(id, key, &text);
            return;
        }
        let new = options.with_checked(allowed == Subscribing::AllowChecked);
        if new == options {
            return;
        }
        mark!(RulesChangedSubscription);
        let kept = SubscriptionRecord { options: new.bits(), ..record };
        match filter.share() {
            Some(share) => {
                self.index.trie.share_join(filter.filter(), share, id, new, record.id);
            }
            None => {
                let subscriber = Subscriber { session: id, id: record.id, options: new };
                self.index.trie.subscribe(filter.filter(), subscriber);
            }
        }
        self.local.store_subscription(id, &text, Some(kept));
    }

    /// Whether a session was begun by somebody else. A client identifier is no secret: whoever has
    /// another user name gets a session of its own, not what is kept for the first. The same goes for
    /// whoever comes to another mount point: its topics would be others.
    pub(super) fn is_of_another(&self, session: SessionId, identity: Option<&Identity>) -> bool {
        let Some(session) = self.local.sessions.get(session) else { return false };
        if session.is_foreign || self.mount(session.identity.as_deref()) != self.mount(identity) {
            mark!(SessionOfAnotherMount);
            return true;
        }
        let user = |identity: Option<&Identity>| identity.and_then(|who| who.user.clone());
        let is_another = user(session.identity.as_deref()) != user(identity);
        mark!(SessionOfAnother if is_another);
        is_another
    }

    /// The identity of a new CONNECT. Other rights than before apply to old subscriptions too.
    pub(super) fn set_identity(
        &mut self,
        id: SessionId,
        is_resumed: bool,
        identity: Option<Arc<Identity>>,
    ) {
        let Some(session) = self.local.sessions.get_mut(id) else { return };
        let is_same = session.identity == identity;
        session.identity = identity;
        if is_resumed && !is_same {
            self.check_rights_of(id);
        }
    }

    /// The connection ends after this time; never, if none is given.
    pub(super) fn limit_to(&mut self, now: Now, id: ConnId, lasts: Option<Duration>) {
        let Some(conn) = self.local.conns.get_mut(id) else { return };
        let old = conn.extras.as_mut().and_then(|extras| extras.grant_timer.take());
        if let Some(old) = old {
            self.local.timers.cancel(old);
        }
        if let Some(lasts) = lasts {
            let timer = Timer::GrantEnd { index: id.index };
            conn.extras_mut().grant_timer = Some(self.local.timers.set(timer, now.time + lasts));
        }
    }

    /// What the client was granted is over, such as the time of its token. MQTT 5.0 has a reason code for
    /// just this; the will is due, as whenever it was not the client that said good-bye.
    pub(super) fn on_grant_end(&mut self, now: Now, index: u32, out: &mut Outbox) {
        let Some(conn) = self.local.conns.at_mut(index) else { return };
        conn.extras_mut().grant_timer = None;
        mark!(GrantEnded);
        self.local.counters.grants_ended += 1;
        let reason = ReasonCode::MaximumConnectTime;
        let reject = Reject { reason, why: "the time that this connection was granted is over" };
        let id = conn.id;
        self.disconnect(now, id, reject, Ending::WithWill, out);
    }

    pub(super) fn has_kept_connect(&self, id: ConnId) -> bool {
        let extras = self.local.conns.get(id).and_then(|conn| conn.extras.as_ref());
        let exchange = extras.and_then(|extras| extras.exchange.as_ref());
        exchange.is_some_and(|exchange| !exchange.connect.is_empty())
    }

    pub(super) fn may_receive_retained(&mut self, id: SessionId, topic: &str) -> bool {
        let Some(session) = self.local.sessions.get(id) else { return false };
        let is_allowed = self.authorise.may_receive(&session.who(), topic);
        mark!(RetainedDenied if !is_allowed);
        self.local.counters.denied_delivery += u64::from(!is_allowed);
        is_allowed
    }

    /// Rules may have changed since CONNECT.
    pub(super) fn may_publish_will(&mut self, id: SessionId, will: &Will) -> bool {
        if self.is_open {
            return true;
        }
        let Some(session) = self.local.sessions.get(id) else { return false };
        self.authorise.may_publish(&session.who(), &will.topic, will.qos, will.retain)
    }

    /// Has it written to the log that a client may not do something. Its connection goes on.
    pub(super) fn note_denied(
        &mut self,
        id: ConnId,
        topic: &str,
        why: &'static str,
        out: &mut Outbox,
    ) {
        let Some(conn) = self.local.conns.get(id) else { return };
        let (client_id, user) = self.name(conn);
        out.notes.push(Note {
            origin: conn.origin(),
            client_id,
            user,
            topic: topic.to_owned(),
            reject: Reject { reason: ReasonCode::NotAuthorized, why },
        });
    }
}
