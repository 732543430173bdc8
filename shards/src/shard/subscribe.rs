//! SUBSCRIBE and UNSUBSCRIBE (MQTT 5.0 sections 3.8 to 3.11, 4.8).

use std::num::NonZeroU64;

use crate::auth::Subscribing;
use crate::codec::{RetainHandling, Suback, Subscribe, SubscribeOptions, Unsubscribe};
use crate::conn::filing::{Filing, FilingKind};
use crate::conn::pause::PauseReason;
use crate::ids::{ConnId, PacketId, SessionId, SubscriptionId, Version};
use crate::mail::Mail;
use crate::planted::planted;
use crate::reject::{ReasonCode, Reject};
use crate::session::SubscriptionKey;
use crate::store::record::SubscriptionRecord;
use crate::time::Now;
use crate::topic::{GroupId, Installed, NodeId, SubOptions, Subscriber, TopicFilter, levels};

use super::Shard;
use super::effect::Outbox;
use super::interest::Barrier;

/// What one filter of a SUBSCRIBE led to.
pub(super) struct Subscribed {
    pub(super) code: ReasonCode,
    /// Where retained messages are due.
    pub(super) retained: Option<NodeId>,
}

impl Shard {
    pub(super) fn on_subscribe(
        &mut self,
        now: Now,
        id: ConnId,
        session_id: SessionId,
        subscribe: &Subscribe<'_>,
        out: &mut Outbox,
    ) -> Result<(), Reject> {
        self.local.counters.subscribes += 1;
        let settings = &self.local.settings;
        if subscribe.subscription_id.is_some() && !settings.subscription_ids_available {
            let why = "a subscription identifier, but CONNACK said that there are none";
            return Err(Reject { reason: ReasonCode::SubscriptionIdentifiersNotSupported, why });
        }
        let kind = FilingKind::Subscribe(subscribe.subscription_id);
        let filing = Filing::new(kind, subscribe.packet_id);
        self.begin_filing(now, id, session_id, filing, subscribe.received().rest(), out);
        Ok(())
    }

    /// Answers a SUBSCRIBE when all shards know of its filters.
    pub(super) fn await_others(
        &mut self,
        now: Now,
        id: ConnId,
        session_id: SessionId,
        packet_id: PacketId,
        codes: Vec<u8>,
        out: &mut Outbox,
    ) {
        if self.shards == 1 {
            self.send_suback(now, id, session_id, packet_id, &codes, out);
            return self.pump(now, session_id, out);
        }
        let others = self.mail.others().fold(0u64, |set, shard| set | 1 << shard.0);
        let barrier = self.barriers.insert(Barrier {
            conn: id,
            session: session_id,
            packet_id,
            codes,
            waiting: others,
            posted: vec![Box::default(); usize::from(self.shards)],
        });
        for to in self.mail.others() {
            self.post(to, &Mail::Barrier { barrier });
        }
        if let Some(session) = self.local.sessions.get_mut(session_id) {
            session.subscribing = NonZeroU64::new(barrier);
        }
        if planted!(SubackEarly) {
            let Some(barrier) = self.barriers.remove(barrier) else { return };
            if let Some(session) = self.local.sessions.get_mut(session_id) {
                session.subscribing = None;
            }
            let packet_id = barrier.packet_id;
            self.send_suback(now, id, session_id, packet_id, &barrier.codes, out);
            self.pump(now, session_id, out);
        } else {
            self.local.pause(id, PauseReason::Subscribing);
        }
    }

    pub(super) fn subscribe_one(
        &mut self,
        session: SessionId,
        text: &str,
        options: SubscribeOptions,
        id: Option<SubscriptionId>,
    ) -> Subscribed {
        let refused = |code| Subscribed { code, retained: None };
        let (filter, allowed) = match self.check_filter(session, text) {
            Ok(checked) => checked,
            Err(code) => {
                self.local.counters.denied_subscribe +=
                    u64::from(code == ReasonCode::NotAuthorized);
                return refused(code);
            }
        };
        let qos = options.qos.min(self.local.settings.maximum_qos);
        let granted = match qos {
            crate::ids::QoS::AtMostOnce => ReasonCode::Success,
            crate::ids::QoS::AtLeastOnce => ReasonCode::GrantedQoS1,
            crate::ids::QoS::ExactlyOnce => ReasonCode::GrantedQoS2,
        };
        let kept = SubOptions::new(qos, options.no_local, options.retain_as_published)
            .with_checked(allowed == Subscribing::AllowChecked)
            .with_guarded(self.guards(session, filter.filter()));
        let record = SubscriptionRecord { options: kept.bits(), id };
        if let Some(share) = filter.share() {
            self.join_group(session, filter.filter(), share, kept, id);
            self.local.store_subscription(session, text, Some(record));
            return refused(granted);
        }
        let subscriber = Subscriber { session, id, options: kept };
        let installed = self.install(session, filter.filter(), subscriber);
        self.local.store_subscription(session, text, Some(record));
        let wants_retained = match options.retain_handling {
            RetainHandling::Always => true,
            RetainHandling::IfNew => !installed.replaced || planted!(RetainHandlingIgnored),
            RetainHandling::Never => false,
        };
        Subscribed { code: granted, retained: wants_retained.then_some(installed.node) }
    }

    /// Puts an ordinary subscription into the index and tells the other shards.
    pub(super) fn install(
        &mut self,
        session: SessionId,
        filter: &str,
        subscriber: Subscriber,
    ) -> Installed {
        let installed = self.index.trie.subscribe(filter, subscriber);
        let is_told = !planted!(InterestNotRestored) || self.is_ready();
        if installed.first_here && is_told {
            for to in self.mail.others() {
                self.post(to, &Mail::Interest { filter, is_added: true });
            }
        }
        if let Some(session) = self.local.sessions.get_mut(session) {
            let is_broad = filter.starts_with(['+', '#']);
            session.subscriptions.insert(SubscriptionKey::Node(installed.node), is_broad);
            if is_broad && let Some(conn) = session.conn.and_then(|at| self.local.conns.at_mut(at))
            {
                conn.wants_everything = true;
            }
        }
        installed
    }

    /// Where the members of a shared subscription stand in the index, if there are any.
    pub(super) fn find_group(&self, filter: &TopicFilter<'_>) -> Option<GroupId> {
        self.index.trie.share_find(filter.filter(), filter.share()?)
    }

    /// Whether the client may have this subscription, and room for it.
    fn check_filter<'a>(
        &mut self,
        session: SessionId,
        text: &'a str,
    ) -> Result<(TopicFilter<'a>, Subscribing), ReasonCode> {
        let settings = &self.local.settings;
        let filter =
            TopicFilter::parse(text, settings.topic_levels_max).map_err(|reject| reject.reason)?;
        if filter.has_wildcard() && !settings.wildcard_available {
            return Err(ReasonCode::WildcardSubscriptionsNotSupported);
        }
        if filter.share().is_some() && !settings.shared_available {
            return Err(ReasonCode::SharedSubscriptionsNotSupported);
        }
        let Some(session) = self.local.sessions.get(session) else {
            return Err(ReasonCode::UnspecifiedError);
        };
        let allowed = self.authorise.may_subscribe(&session.who(), filter.filter());
        if allowed == Subscribing::Deny {
            return Err(ReasonCode::NotAuthorized);
        }
        let level_count = u16::try_from(levels(filter.filter()).count()).unwrap_or(u16::MAX);
        let is_full = session.subscriptions.len() >= settings.subscriptions_max as usize
            || !self.index.trie.has_room(level_count);
        // One that is there already may be replaced all the same.
        if is_full && self.find_key(&filter).is_none_or(|key| !session.subscriptions.contains(&key))
        {
            return Err(ReasonCode::QuotaExceeded);
        }
        Ok((filter, allowed))
    }

    /// Where subscriptions to this filter stand in the index, if there are any.
    fn find_key(&self, filter: &TopicFilter<'_>) -> Option<SubscriptionKey> {
        let trie = &self.index.trie;
        match filter.share() {
            Some(share) => trie.share_find(filter.filter(), share).map(SubscriptionKey::Group),
            None => trie.find(filter.filter()).map(SubscriptionKey::Node),
        }
    }

    /// Answers a SUBSCRIBE; from here on every shard routes to its subscriptions.
    pub(super) fn send_suback(
        &mut self,
        now: Now,
        id: ConnId,
        session: SessionId,
        packet_id: PacketId,
        codes: &[u8],
        out: &mut Outbox,
    ) {
        let version = self.local.sessions.get(session).map_or(Version::V5, |s| s.version);
        let mut packet = std::mem::take(&mut self.scratch.packet);
        packet.clear();
        Suback::new(packet_id, codes).encode(version, &mut packet);
        self.send_answer(now, id, &packet, out);
        self.scratch.packet = packet;
    }

    /// Sends an answer whose length the client decided on: it may be more than the client takes.
    pub(super) fn send_answer(&mut self, now: Now, id: ConnId, packet: &[u8], out: &mut Outbox) {
        let Some(conn) = self.local.conns.get(id) else { return };
        if packet.len() > conn.packet_bytes_max as usize {
            let why = "the answer to this packet is larger than the client takes";
            let reject = Reject { reason: ReasonCode::PacketTooLarge, why };
            return self.reject(now, id, reject, out);
        }
        self.local.send(id, packet, out);
        self.hold_if_full(id);
    }

    pub(super) fn on_unsubscribe(
        &mut self,
        now: Now,
        id: ConnId,
        session: SessionId,
        unsubscribe: &Unsubscribe<'_>,
        out: &mut Outbox,
    ) -> Result<(), Reject> {
        self.local.counters.unsubscribes += 1;
        let filing = Filing::new(FilingKind::Unsubscribe, unsubscribe.packet_id);
        self.begin_filing(now, id, session, filing, unsubscribe.received().rest(), out);
        Ok(())
    }

    pub(super) fn unsubscribe_one(&mut self, session: SessionId, text: &str) -> ReasonCode {
        let filter = match TopicFilter::parse(text, u16::MAX) {
            Ok(filter) => filter,
            Err(reject) => return reject.reason,
        };
        let Some(key) = self.find_key(&filter) else { return ReasonCode::NoSubscriptionExisted };
        self.remove_subscription(session, key, text)
    }

    pub(super) fn remove_subscription(
        &mut self,
        session: SessionId,
        key: SubscriptionKey,
        text: &str,
    ) -> ReasonCode {
        let Some(found) = self.local.sessions.get_mut(session) else {
            return ReasonCode::UnspecifiedError;
        };
        if !found.subscriptions.remove(&key) {
            return ReasonCode::NoSubscriptionExisted;
        }
        if let Some(conn) = found.conn.and_then(|index| self.local.conns.at_mut(index)) {
            conn.wants_everything = found.subscriptions.are_broad();
        }
        self.local.store_subscription(session, text, None);
        match key {
            SubscriptionKey::Node(node) => {
                self.forget_retained(session, node);
                let _ = self.withdraw(node, session);
            }
            SubscriptionKey::Group(group) => self.leave_group(group, session),
        }
        ReasonCode::Success
    }
}
