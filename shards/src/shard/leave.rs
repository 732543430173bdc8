//! The end of connections and sessions: DISCONNECT in both directions, lost connections, keep alive,
//! wills, expiry, shutdown (MQTT 5.0 sections 3.1.2.5, 3.14 and 4.13).

use std::time::Duration;

use crate::codec::{self, Disconnect, Framed, Packet, PacketKind};
use crate::conn::pause::PauseReason;
use crate::conn::{Conn, State};
use crate::ids::{ConnId, QoS, SessionId, Version};
use crate::mail::Mail;
use crate::mark;
use crate::planted::planted;
use crate::reject::{ReasonCode, Reject};
use crate::session::messages::{Message, Payload};
use crate::session::outgoing::{Delivery, Outgoing};
use crate::session::subscriptions::Subscriptions;
use crate::session::{SubscriptionKey, Will};
use crate::time::Now;
use crate::timers::Timer;

use super::connect::allowance;
use super::durable;
use super::effect::{Closing, Note, Outbox};
use super::fanout::Source;
use super::input::CloseCause;
use super::{Shard, Stopping};

/// Part of a connection's share of a turn that goes to taking sessions out of the index.
const VACATING_PART: u32 = 4;

/// How a connection leaves its session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    /// DISCONNECT with 0x00: no will.
    Normal,
    /// Anything else: the will is due.
    WithWill,
    /// Another connection of the same client carries the session on: a will with a delay is not due.
    TakenOver,
    /// Another connection of the same client begins anew: the session ends, so the will is due.
    TakenOverClean,
}

impl Shard {
    /// DISCONNECT from the client.
    pub(super) fn on_disconnect(
        &mut self,
        now: Now,
        id: ConnId,
        disconnect: &Disconnect<'_>,
        out: &mut Outbox,
    ) -> Result<(), Reject> {
        let Some(session) = self.local.conns.get(id).and_then(Conn::session) else { return Ok(()) };
        self.set_expiry(session, disconnect)?;
        self.detach(now, id, ending_of(disconnect), out);
        self.close(now, id, Closing::Finish, out);
        Ok(())
    }

    fn set_expiry(&mut self, id: SessionId, disconnect: &Disconnect<'_>) -> Result<(), Reject> {
        let (Some(expiry_s), Some(session)) =
            (disconnect.session_expiry_s, self.local.sessions.get_mut(id))
        else {
            return Ok(());
        };
        if session.expiry_s == 0 && expiry_s > 0 {
            return Err(Reject::protocol(
                "a session that was to end with its connection cannot be kept by DISCONNECT",
            ));
        }
        session.expiry_s = expiry_s.min(self.local.settings.session_expiry_max_s);
        Ok(())
    }

    /// The peer broke the rules: it is told why (5.0) and the connection ends.
    pub(super) fn reject(&mut self, now: Now, id: ConnId, reject: Reject, out: &mut Outbox) {
        self.disconnect(now, id, reject, Ending::WithWill, out);
    }

    /// Ends a connection from our side, with a DISCONNECT where the protocol has one.
    pub(super) fn disconnect(
        &mut self,
        now: Now,
        id: ConnId,
        reject: Reject,
        ending: Ending,
        out: &mut Outbox,
    ) {
        let Some(conn) = self.local.conns.get(id) else { return };
        if conn.state == State::Closing {
            return;
        }
        let (version, limit) = (conn.version, conn.packet_bytes_max as usize);
        let is_connected = conn.session().is_some();
        // While the connection still has its session, which knows who the client is.
        self.note(id, reject, out);
        let Some(conn) = self.local.conns.get_mut(id) else { return };
        // CONNACK was sent, or goes ahead of what is said now; behind a fence it may never be true.
        let is_connected = is_connected && (conn.is_welcomed || conn.fences == 0);
        durable::drop_fenced(conn);
        // No DISCONNECT before a CONNACK [MQTT-3.14.0-1]; none at all in 3.x.
        if version == Version::V5 && is_connected {
            let mut packet = Vec::new();
            let disconnect =
                Disconnect { reason_string: Some(reject.why), ..Disconnect::new(reject.reason) };
            disconnect.encode(version, &mut packet);
            if packet.len() > limit {
                packet.clear();
                Disconnect::new(reject.reason).encode(version, &mut packet);
            }
            if packet.len() <= limit {
                self.local.send(id, &packet, out);
            }
        }
        self.detach(now, id, ending, out);
        self.close(now, id, Closing::Finish, out);
    }

    /// Counts why a connection ends, and has it written to the log.
    pub(super) fn note(&mut self, id: ConnId, reject: Reject, out: &mut Outbox) {
        let Some(conn) = self.local.conns.get(id) else { return };
        let (client_id, user) = self.name(conn);
        let topic = String::new();
        out.notes.push(Note { origin: conn.origin(), client_id, user, topic, reject });
        self.local.counters.count_reject(reject.reason);
    }

    /// What the log calls a client: its identifier and its user name. Those of its CONNECT, if that waits
    /// for an answer.
    pub(super) fn name(&self, conn: &Conn) -> (String, String) {
        if let Some(session) = conn.session().and_then(|session| self.local.sessions.get(session)) {
            let user = session.identity.as_ref().and_then(|identity| identity.user.as_deref());
            return (session.client_id.to_string(), user.unwrap_or_default().to_owned());
        }
        let bytes =
            conn.exchange().map_or_else(|| conn.backlog.rest(), |exchange| &exchange.connect);
        let frame = codec::frame(bytes, u32::MAX);
        let Ok(Framed::Whole(frame)) = frame else { return Default::default() };
        let Ok(connect) = codec::Connect::decode(&frame) else { return Default::default() };
        (connect.client_id.to_owned(), connect.user_name.unwrap_or_default().to_owned())
    }

    /// Begins to end a connection that has no session (any more).
    pub(super) fn close(&mut self, now: Now, id: ConnId, closing: Closing, out: &mut Outbox) {
        let Some(conn) = self.local.conns.get_mut(id) else { return };
        if conn.state == State::Closing {
            return;
        }
        durable::drop_fenced(conn);
        conn.state = State::Closing;
        self.forget_check(id);
        let Some(conn) = self.local.conns.get_mut(id) else { return };
        let backlog = std::mem::take(&mut conn.backlog);
        self.local.pool.give(backlog.bytes);
        if let Some(timer) = conn.timer.take() {
            self.local.timers.cancel(timer);
        }
        if closing == Closing::Finish {
            let linger = Duration::from_millis(self.local.settings.linger_ms.into());
            let timer = Timer::Conn { index: id.index };
            conn.timer = Some(self.local.timers.set(timer, now.time + linger));
        }
        out.closes.push((id, closing));
    }

    /// The connection is gone, asked for or not.
    pub(super) fn on_closed(&mut self, now: Now, id: ConnId, _cause: CloseCause, out: &mut Outbox) {
        let ending = self.last_word(id);
        self.detach(now, id, ending, out);
        let Some(conn) = self.local.conns.remove(id) else { return };
        self.local.counters.connections_closed += 1;
        if let Some(timer) = conn.timer {
            self.local.timers.cancel(timer);
        }
        self.local.pool.give(conn.backlog.bytes);
        self.local.pool.give(conn.output.bytes);
    }

    /// A paused connection may hold a DISCONNECT that has come before its end and that nobody has
    /// looked at [MQTT-3.14.4-3]. What stands before it is not worked on any more.
    fn last_word(&mut self, id: ConnId) -> Ending {
        let Some(conn) = self.local.conns.get_mut(id) else { return Ending::WithWill };
        let packet_bytes_max = conn.received_bytes_max;
        let Some(session) = conn.session() else { return Ending::WithWill };
        let version = conn.version;
        let backlog = std::mem::take(&mut conn.backlog);
        let mut rest = backlog.rest();
        let mut ending = Ending::WithWill;
        while let Ok(Framed::Whole(frame)) = codec::frame(rest, packet_bytes_max) {
            if PacketKind::from_nibble(frame.first >> 4) == Some(PacketKind::Disconnect) {
                if let Ok(Packet::Disconnect(disconnect)) = codec::decode(&frame, version)
                    && self.set_expiry(session, &disconnect).is_ok()
                {
                    ending = ending_of(&disconnect);
                }
                break;
            }
            rest = &rest[frame.len..];
        }
        self.local.pool.give(backlog.bytes);
        ending
    }

    /// CONNECT has not come in time, or the client is silent, or a finished connection stays open.
    pub(super) fn on_conn_timer(&mut self, now: Now, index: u32, out: &mut Outbox) {
        let Some(conn) = self.local.conns.at_mut(index) else { return };
        conn.timer = None;
        let id = conn.id;
        match conn.state {
            State::AwaitConnect | State::Authenticating => {
                mark!(ConnectTimeout);
                self.local.counters.connect_timeouts += 1;
                let why = "no whole CONNECT came within the connect time-out";
                let reject = Reject { reason: ReasonCode::KeepAliveTimeout, why };
                self.note(id, reject, out);
                self.close(now, id, Closing::Abort, out);
            }
            State::Closing => {
                mark!(LingerAbort);
                out.closes.push((id, Closing::Abort));
            }
            State::Connected(_) => {
                // A client that we do not listen to cannot be heard; but one that does not read, and
                // so is not listened to, may be gone.
                let is_unheard = conn.is_read_paused && !conn.pauses.has(PauseReason::OutputFull);
                let last = if is_unheard { now.time } else { conn.last_received };
                let deadline = last + allowance(conn.keep_alive_s);
                if deadline > now.time {
                    mark!(KeepAliveProlonged);
                    conn.timer = Some(self.local.timers.set(Timer::Conn { index }, deadline));
                    return;
                }
                mark!(KeepAliveTimeout);
                self.local.counters.keep_alive_timeouts += 1;
                let why = "nothing came for one and a half times the keep alive";
                let reject = Reject { reason: ReasonCode::KeepAliveTimeout, why };
                self.disconnect(now, id, reject, Ending::WithWill, out);
            }
        }
    }

    /// Ends the connections of clients that turned out too slow while something was delivered.
    pub(super) fn evict(&mut self, now: Now, out: &mut Outbox) {
        while let Some((id, reject)) = self.local.evicted.pop() {
            self.local.counters.slow_subscribers_disconnected += 1;
            self.disconnect(now, id, reject, Ending::WithWill, out);
        }
    }

    /// Parts a connection from its session, which stays, waits for its expiry, or ends.
    pub(super) fn detach(&mut self, now: Now, id: ConnId, ending: Ending, out: &mut Outbox) {
        self.forget_check(id);
        let Some(conn) = self.local.conns.get_mut(id) else { return };
        let Some(session_id) = conn.session() else { return };
        // Whoever looks at the connection from here on finds one that is about to be closed.
        conn.state = State::AwaitConnect;
        if let Some(extras) = conn.extras.take() {
            let rate_timer = extras.meter.and_then(|meter| meter.timer);
            for timer in extras.grant_timer.into_iter().chain(rate_timer) {
                self.local.timers.cancel(timer);
            }
            self.forgo_acks(session_id, extras.acks);
        }
        let Some(session) = self.local.sessions.get_mut(session_id) else { return };
        session.conn = None;
        if planted!(InboundForgotten) && ending == Ending::TakenOver {
            session.inbound = None;
        }
        let expiry_s = session.expiry_s;
        self.sys.clients_connected -= 1;
        self.stop_stream(session_id);
        self.drop_queued_qos0(session_id);
        self.share_presence(session_id, false);
        if ending == Ending::Normal
            && !planted!(WillOnDisconnect)
            && let Some(session) = self.local.sessions.get_mut(session_id)
        {
            session.will = None;
        }
        match (ending, expiry_s) {
            (Ending::TakenOverClean, _) | (Ending::Normal | Ending::WithWill, 0) => {
                self.end_session(now, session_id, out);
            }
            // Nothing carries on a session that was to end with its connection: any will is due.
            (Ending::TakenOver, 0) => self.end_session(now, session_id, out),
            // The new connection is there already: nothing expires. A will without delay is due now,
            // one with a delay is cancelled by the new connection [MQTT-3.1.3-9].
            (Ending::TakenOver, _) => {
                let session = self.local.sessions.get_mut(session_id);
                let will = session.and_then(|session| session.will.take());
                if let Some(will) = will {
                    if will.delay_s == 0 {
                        mark!(WillAtTakeOver);
                        self.publish_will(now, session_id, &will, out);
                    } else {
                        mark!(WillDroppedAtTakeOver);
                        self.local.counters.wills_dropped += 1;
                    }
                }
            }
            (Ending::Normal | Ending::WithWill, _) => self.await_expiry(now, session_id, out),
        }
    }

    /// Sets the timers of a session without connection.
    fn await_expiry(&mut self, now: Now, id: SessionId, out: &mut Outbox) {
        let local = &mut self.local;
        local.store_terms(now, id);
        let Some(session) = local.sessions.get_mut(id) else { return };
        if session.expiry_s < u32::MAX {
            let deadline = now.time + Duration::from_secs(session.expiry_s.into());
            session.expiry_timer =
                Some(local.timers.set(Timer::SessionExpiry { session: id.0 }, deadline));
        }
        let delay_s = session.will.as_ref().map(|will| will.delay_s);
        match delay_s {
            None => {}
            Some(0) => self.on_will_delay(now, id, out),
            Some(delay_s) => {
                let deadline = now.time + Duration::from_secs(delay_s.into());
                session.will_timer =
                    Some(local.timers.set(Timer::WillDelay { session: id.0 }, deadline));
            }
        }
    }

    pub(super) fn on_will_delay(&mut self, now: Now, id: SessionId, out: &mut Outbox) {
        let Some(session) = self.local.sessions.get_mut(id) else { return };
        mark!(WillAfterDelay if session.will_timer.is_some());
        session.will_timer = None;
        if let Some(will) = session.will.take() {
            self.publish_will(now, id, &will, out);
            if planted!(WillTwice)
                && let Some(session) = self.local.sessions.get_mut(id)
            {
                session.will = Some(will);
            }
        }
    }

    pub(super) fn on_session_expiry(&mut self, now: Now, id: SessionId, out: &mut Outbox) {
        let Some(session) = self.local.sessions.get_mut(id) else { return };
        mark!(SessionExpired);
        session.expiry_timer = None;
        if planted!(SessionExpiryIgnored) {
            return;
        }
        self.local.counters.sessions_expired += 1;
        self.end_session(now, id, out);
    }

    fn publish_will(&mut self, now: Now, id: SessionId, will: &Will, out: &mut Outbox) {
        if !self.may_publish_will(id, will) {
            mark!(WillDenied);
            self.local.counters.denied_publish += 1;
            return;
        }
        self.local.counters.wills_published += 1;
        let large = will.payload.len() >= crate::limits::SPLICE_BYTES_MIN;
        let message = Message {
            topic: &will.topic,
            properties: &will.properties,
            payload: if large {
                Payload::Shared(&will.payload)
            } else {
                Payload::Inline(&will.payload)
            },
            qos: will.qos,
            retain: will.retain,
            expires: will.expiry_s.map(|secs| now.time + Duration::from_secs(secs.into())),
        };
        let source = Source { session: Some(id), publisher: None, completion: None, tried: 0 };
        self.fan_out(now, &source, message, None, out);
    }

    /// Ends a session: its will is due, its subscriptions go, what shared subscriptions still owe goes
    /// to other members.
    pub(super) fn end_session(&mut self, now: Now, id: SessionId, out: &mut Outbox) {
        let Some(session) = self.local.sessions.get_mut(id) else { return };
        debug_assert!(session.conn.is_none(), "a connection leaves its session first");
        for timer in [session.expiry_timer.take(), session.will_timer.take()] {
            timer.into_iter().for_each(|timer| self.local.timers.cancel(timer));
        }
        if let Some(will) = session.will.take() {
            mark!(WillAtSessionEnd);
            self.publish_will(now, id, &will, out);
        }
        self.stop_stream(id);
        let Some(session) = self.local.sessions.get_mut(id) else { return };
        if planted!(SubscriptionLeft) {
            let first = session.subscriptions.iter().next();
            first.map(|key| session.subscriptions.remove(&key));
        }
        let subscriptions = std::mem::take(&mut session.subscriptions);
        // At once, so that no message is given to a member that is not there.
        for group in subscriptions.groups() {
            self.leave_group(group, id);
        }
        self.index.trie.unguard(id);
        if self.local.sessions.get(id).is_some_and(|session| session.is_stored) {
            self.local.store_end(id);
        }
        let Some(session) = self.local.sessions.remove(id) else { return };
        self.vacate(id, subscriptions);
        for (_, completion) in session.unsettled.iter().flat_map(|unsettled| unsettled.iter()) {
            mark!(UnsettledForgotten);
            self.completions.remove(completion);
        }
        if let Some(outgoing) = session.outgoing {
            self.settle(now, *outgoing, out);
        }
    }

    /// A session is gone: takes it out of the index, in pieces if it stands there in many places, because
    /// everybody else would wait for the last. Meanwhile nothing is delivered to it.
    fn vacate(&mut self, id: SessionId, subscriptions: Subscriptions) {
        self.vacating.push_back((id, subscriptions));
        if self.vacating.len() == 1 {
            self.go_on_vacating();
        }
        mark!(VacatedInPieces if !self.vacating.is_empty());
    }

    /// As much of that as a turn takes. Each session has its part, so that whoever subscribes and leaves in
    /// a circle cannot fill the index faster than it is emptied.
    pub(super) fn go_on_vacating(&mut self) {
        let part = self.local.settings.turn_packets_max / VACATING_PART;
        let sessions = u32::try_from(self.vacating.len()).unwrap_or(u32::MAX);
        let mut left = part.saturating_mul(sessions);
        while let Some((id, subscriptions)) = self.vacating.front_mut() {
            let id = *id;
            match subscriptions.pop() {
                Some(SubscriptionKey::Node(node)) => {
                    let spent = self.withdraw(node, id);
                    left = left.saturating_sub(spent);
                    if left == 0 {
                        return;
                    }
                }
                // Left already.
                Some(SubscriptionKey::Group(_)) => {}
                None => {
                    self.vacating.pop_front();
                    self.local.sessions.release(id);
                }
            }
        }
    }

    /// What a session that ends leaves behind. QoS 2 deliveries that have begun go to nobody else
    /// [MQTT-4.8.2-5].
    fn settle(&mut self, now: Now, mut outgoing: Outgoing, out: &mut Outbox) {
        let left: Vec<(Delivery, bool)> = outgoing.take_all().collect();
        for (delivery, has_begun) in left {
            let may_move =
                (!has_begun || delivery.qos == QoS::AtLeastOnce) && !planted!(SharedNotRedelivered);
            if planted!(MessageLeaked) && !has_begun {
                continue;
            }
            match delivery.group.filter(|_| may_move) {
                Some(group) => self.redeliver(now, group, delivery, out),
                None => self.local.messages.release(delivery.message),
            }
        }
    }

    /// QoS 0 does not wait for a client to come back.
    fn drop_queued_qos0(&mut self, id: SessionId) {
        let local = &mut self.local;
        let outgoing = local.sessions.get_mut(id).and_then(|session| session.outgoing.as_mut());
        let Some(outgoing) = outgoing else { return };
        for delivery in
            outgoing.remove_queued(&local.messages, |delivery| delivery.qos == QoS::AtMostOnce)
        {
            mark!(Qos0DroppedOffline);
            local.counters.dropped_offline += 1;
            local.messages.release(delivery.message);
        }
        if outgoing.is_empty()
            && let Some(session) = local.sessions.get_mut(id)
        {
            session.outgoing = None;
        }
    }

    /// Shutdown. Wills go out first, to whoever is still connected; then everybody is told.
    pub(super) fn on_stop(&mut self, now: Now, out: &mut Outbox) {
        if self.stopping != Stopping::No {
            return;
        }
        self.stopping = Stopping::Fencing;
        let with_will: Vec<_> = self
            .local
            .sessions
            .iter()
            .filter(|(_, session)| session.conn.is_some() && session.will.is_some())
            .map(|(id, _)| id)
            .collect();
        for id in with_will {
            self.on_will_delay(now, id, out);
        }
        for to in self.mail.others() {
            self.post(to, &Mail::StopFence);
        }
    }

    /// Once no other shard has anything more to say, everybody is told and nothing is left to do.
    pub(super) fn finish_stop(&mut self, now: Now, out: &mut Outbox) {
        let others = self.mail.others().fold(0u64, |set, shard| set | 1 << shard.0);
        if self.stopping == Stopping::Fencing && self.fences == others {
            self.stopping = Stopping::Told;
            mark!(FencePassed if others != 0);
            let all: Vec<_> = self.local.conns.iter().map(|conn| conn.id).collect();
            let reject = Reject {
                reason: ReasonCode::ServerShuttingDown,
                why: "the broker is shutting down",
            };
            for id in all {
                // Their wills are published already.
                self.disconnect(now, id, reject, Ending::WithWill, out);
            }
            self.flush_mail(out);
        }
        if self.stopping == Stopping::Told
            && self.local.conns.count() == 0
            && self.awaited.is_empty()
            && !self.mail.has_staged()
        {
            out.stopped = true;
        }
    }
}

fn ending_of(disconnect: &Disconnect<'_>) -> Ending {
    match disconnect.reason {
        ReasonCode::Success => Ending::Normal,
        _ => Ending::WithWill,
    }
}
