//! The filters of a SUBSCRIBE or UNSUBSCRIBE, worked off in pieces: one packet may have tens of thousands
//! of them, and everybody else would wait for the last. The connection's next packet comes after the
//! answer, which comes after the last filter.

use crate::codec::{SubscribeFilters, SubscribeOptions, Unsuback, UnsubscribeFilters};
use crate::conn::filing::{Filing, FilingKind};
use crate::ids::{ConnId, SessionId, SubscriptionId, Version};
use crate::mark;
use crate::reject::ReasonCode;
use crate::time::Now;

use super::Shard;
use super::effect::Outbox;
use super::subscribe::Subscribed;

/// A filter is as much work as so many small packets, and one more for each [`FILTER_BYTES`] and for each
/// [`FILTER_LEVELS`]: every level is a node of the index.
const FILTER_UNITS: u32 = 4;
const FILTER_BYTES: usize = 128;
const FILTER_LEVELS: usize = 2;

impl Shard {
    /// Begins with `list`, the filters of a packet that has just come.
    pub(super) fn begin_filing(
        &mut self,
        now: Now,
        id: ConnId,
        session: SessionId,
        mut filing: Filing,
        list: &[u8],
        out: &mut Outbox,
    ) {
        let rest = self.file(id, session, &mut filing, list, out);
        if rest.is_empty() {
            return self.conclude(now, id, session, filing, out);
        }
        mark!(FiltersCut);
        filing.list = rest.to_vec();
        if let Some(conn) = self.local.conns.get_mut(id) {
            conn.extras_mut().filing = Some(filing);
        }
    }

    /// Goes on with the packet that the last turn has left, if there is one.
    pub(super) fn go_on_filing(&mut self, now: Now, id: ConnId, out: &mut Outbox) {
        let Some(conn) = self.local.conns.get_mut(id) else { return };
        let Some(session) = conn.session() else { return };
        let filing = conn.extras.as_mut().and_then(|extras| extras.filing.take());
        let Some(mut filing) = filing else { return };
        let list = std::mem::take(&mut filing.list);
        let start = filing.start;
        let rest = self.file(id, session, &mut filing, &list[start..], out).len();
        if rest == 0 {
            return self.conclude(now, id, session, filing, out);
        }
        filing.start = list.len() - rest;
        filing.list = list;
        if let Some(conn) = self.local.conns.get_mut(id) {
            conn.extras_mut().filing = Some(filing);
        }
    }

    /// As many filters as the connection's turn allows; answers those that are left.
    fn file<'a>(
        &mut self,
        id: ConnId,
        session: SessionId,
        filing: &mut Filing,
        list: &'a [u8],
        out: &mut Outbox,
    ) -> &'a [u8] {
        let mut rest = list;
        while self.local.conns.get(id).is_some_and(|conn| self.local.turn_left(conn) > 0) {
            let units = match filing.kind {
                FilingKind::Subscribe(subscription_id) => {
                    let mut filters = SubscribeFilters::resume(rest);
                    let Some((text, options)) = filters.next() else { return &[] };
                    let subscribed =
                        self.file_one(id, session, text, (options, subscription_id), out);
                    filing.codes.push(subscribed.code.byte());
                    filing.retained.extend(subscribed.retained);
                    rest = filters.rest();
                    filter_units(text)
                }
                FilingKind::Unsubscribe => {
                    let mut filters = UnsubscribeFilters::resume(rest);
                    let Some(text) = filters.next() else { return &[] };
                    let code = match self.mounted_filter(id, text) {
                        Ok(full) => self.unsubscribe_one(session, &full),
                        Err(code) => code,
                    };
                    filing.codes.push(code.byte());
                    rest = filters.rest();
                    filter_units(text)
                }
            };
            if rest.is_empty() {
                break;
            }
            self.local.charge(id, units, out);
        }
        rest
    }

    fn file_one(
        &mut self,
        id: ConnId,
        session: SessionId,
        text: &str,
        (options, subscription_id): (SubscribeOptions, Option<SubscriptionId>),
        out: &mut Outbox,
    ) -> Subscribed {
        let text = match self.mounted_filter(id, text) {
            Ok(text) => text,
            Err(code) => return Subscribed { code, retained: None },
        };
        let subscribed = self.subscribe_one(session, &text, options, subscription_id);
        if subscribed.code == ReasonCode::NotAuthorized {
            self.note_denied(id, &text, "the client may not subscribe to this", out);
        }
        subscribed
    }

    /// All filters are done.
    fn conclude(
        &mut self,
        now: Now,
        id: ConnId,
        session: SessionId,
        filing: Filing,
        out: &mut Outbox,
    ) {
        let Filing { kind, packet_id, codes, retained, .. } = filing;
        if kind != FilingKind::Unsubscribe {
            self.await_retained(session, retained);
            return self.await_others(now, id, session, packet_id, codes, out);
        }
        let version = self.local.sessions.get(session).map_or(Version::V5, |s| s.version);
        let mut packet = std::mem::take(&mut self.scratch.packet);
        packet.clear();
        Unsuback::new(packet_id, &codes).encode(version, &mut packet);
        self.send_answer(now, id, &packet, out);
        self.scratch.packet = packet;
    }
}

/// How much of a turn a filter takes.
pub(super) fn filter_units(filter: &str) -> u32 {
    let levels = filter.bytes().filter(|&byte| byte == b'/').count() + 1;
    let units = filter.len() / FILTER_BYTES + levels / FILTER_LEVELS;
    u32::try_from(units).map_or(u32::MAX, |units| units.saturating_add(FILTER_UNITS))
}
