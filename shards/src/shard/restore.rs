//! Back from the store: sessions, what they subscribe to and are owed, retained messages.
//!
//! Every shard is given its records, then [`Shard::restored`]. It tells the others which filters have
//! subscribers here; nobody may connect before everybody has heard that ([`Shard::is_ready`]), or what
//! is published first would pass sessions by.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::ids::{PacketId, QoS, SessionId};
use crate::limits::SPLICE_BYTES_MIN;
use crate::mail::Mail;
use crate::mark;
use crate::planted::planted;
use crate::session::Session;
use crate::session::messages::{Message, Payload};
use crate::session::outgoing::{Delivery, RestoredExchange};
use crate::store::StoreKey;
use crate::store::record::{
    ExchangeRecord, MessageRecord, SessionRecord, SubscriptionRecord, Unreadable,
};
use crate::time::{Now, Time};
use crate::timers::Timer;
use crate::topic::{SubOptions, Subscriber, TopicFilter, check_name};

use super::Shard;
use super::connect::new_session;
use super::durable::ids_of;
use super::effect::Outbox;

/// How far a shard has come with what the store gave back.
#[derive(Debug, Default)]
pub(super) struct Restoring {
    is_begun: bool,
    is_done: bool,
    /// By session: what it is owed, until all of it is there.
    owed: BTreeMap<u32, Owed>,
}

#[derive(Debug, Default)]
struct Owed {
    /// When its connection ended.
    left: Option<u64>,
    deliveries: Vec<Delivery>,
    exchanges: Vec<RestoredExchange>,
}

impl Shard {
    /// Takes back one record of the store. Records come in ascending order of their keys, before any
    /// input, to the shard that [`StoreKey::owner`] names. What belongs to a session that is not there
    /// is passed over.
    ///
    /// # Errors
    /// [`Unreadable`]: the record is damaged or of a later version. Nothing has changed.
    pub fn restore(&mut self, now: Now, key: &StoreKey, record: &[u8]) -> Result<(), Unreadable> {
        debug_assert_eq!(key.owner(self.shards), self.id, "a record of another shard");
        self.restoring.is_begun = true;
        let session = key.client_id().and_then(|client_id| self.local.sessions.find(client_id));
        match (key, session) {
            (StoreKey::Session { client_id }, None) => self.restore_session(client_id, record),
            (StoreKey::Subscription { filter, .. }, Some(session)) => {
                self.restore_subscription(session, filter, record)
            }
            (StoreKey::Message { number, .. }, Some(session)) => {
                self.restore_message(now, session, *number, record)
            }
            (StoreKey::Exchange { packet_id, .. }, Some(session)) => {
                self.restore_exchange(session, *packet_id, record)
            }
            (StoreKey::Inbound { packet_id, .. }, Some(session)) => {
                if let Some(session) = self.local.sessions.get_mut(session) {
                    session.inbound.get_or_insert_default().insert(*packet_id);
                }
                Ok(())
            }
            (StoreKey::Retained { topic }, _) => self.restore_retained(now, topic, record),
            (_, _) => Ok(()),
        }
    }

    fn restore_session(&mut self, client_id: &str, record: &[u8]) -> Result<(), Unreadable> {
        let record = SessionRecord::read(record)?;
        let is_foreign = *record.mount != *self.mount(record.identity.as_ref());
        let id = self.local.sessions.insert(Session {
            expiry_s: record.expiry_s,
            is_stored: true,
            is_foreign,
            identity: record.identity.map(Arc::new),
            ..new_session(client_id, record.version)
        });
        self.restoring.owed.insert(id.0, Owed { left: record.left, ..Owed::default() });
        Ok(())
    }

    fn restore_subscription(
        &mut self,
        session: SessionId,
        filter: &str,
        record: &[u8],
    ) -> Result<(), Unreadable> {
        let SubscriptionRecord { options, id } = SubscriptionRecord::read(record)?;
        let options = SubOptions::from_bits(options).ok_or(Unreadable)?;
        let filter = TopicFilter::parse(filter, u16::MAX).map_err(|_| Unreadable)?;
        if options.is_guarded() {
            self.guards(session, filter.filter());
        }
        match filter.share() {
            Some(share) => self.join_group(session, filter.filter(), share, options, id),
            None => {
                self.install(session, filter.filter(), Subscriber { session, id, options });
            }
        }
        if let Some(group) = self.find_group(&filter)
            && let Some(members) = self.index.trie.group_mut(group)
        {
            members.set_online(session, false);
        }
        Ok(())
    }

    fn restore_message(
        &mut self,
        now: Now,
        session: SessionId,
        number: u64,
        record: &[u8],
    ) -> Result<(), Unreadable> {
        let record = MessageRecord::read(record)?;
        let qos = QoS::from_bits(record.delivery.qos).ok_or(Unreadable)?;
        let shared = shared_payload(&record);
        let message = view(now, &record, shared.as_ref())?;
        let group = TopicFilter::parse(record.group, u16::MAX).ok();
        mark!(RestoredShared if group.is_some());
        let delivery = Delivery {
            message: self.local.messages.keep(&message),
            qos,
            retain: record.delivery.retain,
            group: group.and_then(|filter| self.find_group(&filter)),
            ids: ids_of(record.delivery.ids),
            number,
        };
        self.restoring.owed.entry(session.0).or_default().deliveries.push(delivery);
        Ok(())
    }

    fn restore_exchange(
        &mut self,
        session: SessionId,
        packet_id: PacketId,
        record: &[u8],
    ) -> Result<(), Unreadable> {
        let ExchangeRecord { qos, number, begun, released } = ExchangeRecord::read(record)?;
        let exchange = RestoredExchange { packet_id, qos, number, begun, released };
        self.restoring.owed.entry(session.0).or_default().exchanges.push(exchange);
        Ok(())
    }

    fn restore_retained(&mut self, now: Now, topic: &str, record: &[u8]) -> Result<(), Unreadable> {
        let record = MessageRecord::read(record)?;
        if record.topic != topic || record.payload.is_empty() {
            return Err(Unreadable);
        }
        let shared = shared_payload(&record);
        let message = view(now, &record, shared.as_ref())?;
        self.keep_retained(now, &message, None);
        // The store has it.
        self.local.emitted.clear();
        Ok(())
    }

    /// Everything was given back, if there was anything. Sessions whose time is over end.
    pub fn restored(&mut self, now: Now, out: &mut Outbox) {
        self.restoring.is_begun = true;
        self.restoring.is_done = true;
        for (id, owed) in std::mem::take(&mut self.restoring.owed) {
            self.restore_owed(now, SessionId(id), owed, out);
        }
        for to in self.mail.others() {
            self.post(to, &Mail::RestoreFence);
        }
        self.flush_stores(now, None, out);
        self.flush_mail(out);
    }

    fn restore_owed(&mut self, now: Now, id: SessionId, owed: Owed, out: &mut Outbox) {
        let local = &mut self.local;
        let Some(session) = local.sessions.get_mut(id) else { return };
        let expiry_s = session.expiry_s;
        if !owed.deliveries.is_empty() || !owed.exchanges.is_empty() {
            let outgoing = session.outgoing_mut();
            let (lost, released) =
                outgoing.restore(owed.deliveries, owed.exchanges, &local.messages);
            for packet_id in lost {
                mark!(RestoredWithoutMessage);
                local.store_ended(id, packet_id, None);
            }
            for delivery in released {
                mark!(RestoredReleased);
                local.store_gone(id, delivery.number);
                local.messages.release(delivery.message);
            }
        }
        // A connection that the crash ended: its time begins now, and not again after another crash.
        let left = owed.left.unwrap_or(now.unix_secs);
        if owed.left.is_none() {
            mark!(RestoredLeft);
            local.store_terms(now, id);
        }
        if expiry_s == u32::MAX || planted!(ExpiryIgnoredAfterRestart) {
            return;
        }
        let gone_s = now.unix_secs.saturating_sub(left);
        match u64::from(expiry_s).checked_sub(gone_s).filter(|&left_s| left_s > 0) {
            Some(left_s) => {
                let timer = Timer::SessionExpiry { session: id.0 };
                let timer = local.timers.set(timer, now.time + Duration::from_secs(left_s));
                if let Some(session) = local.sessions.get_mut(id) {
                    session.expiry_timer = Some(timer);
                }
            }
            None => {
                mark!(RestoredExpired);
                self.on_session_expiry(now, id, out);
            }
        }
    }

    /// True if connections may come: what every shard got back from the store is known here.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        let others = self.mail.others().fold(0u64, |set, shard| set | 1 << shard.0);
        !self.restoring.is_begun || self.restoring.is_done && self.restore_fences == others
    }
}

fn shared_payload(record: &MessageRecord<'_>) -> Option<Bytes> {
    (record.payload.len() >= SPLICE_BYTES_MIN).then(|| Bytes::copy_from_slice(record.payload))
}

fn view<'a>(
    now: Now,
    record: &MessageRecord<'a>,
    shared: Option<&'a Bytes>,
) -> Result<Message<'a>, Unreadable> {
    check_name(record.topic, u16::MAX).map_err(|_| Unreadable)?;
    Ok(Message {
        topic: record.topic,
        properties: record.properties,
        payload: shared.map_or(Payload::Inline(record.payload), Payload::Shared),
        qos: record.qos,
        retain: record.retain,
        expires: record.expires.map(|unix_s| time_of(now, unix_s)),
    })
}

/// A moment that has passed is now: what expires then has expired.
fn time_of(now: Now, unix_s: u64) -> Time {
    now.time + Duration::from_secs(unix_s.saturating_sub(now.unix_secs))
}
