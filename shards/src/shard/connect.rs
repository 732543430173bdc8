//! CONNECT: who is there, where the session lives, and what goes back (MQTT 5.0 sections 3.1 and 3.2).

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::auth::{Credentials, Grant, Identity, Verdict, Who};
use crate::codec::{self, Connack, Connect, Frame, PacketKind};
use crate::conn::exchange::Step;
use crate::conn::pause::PauseReason;
use crate::conn::{Conn, State};
use crate::ids::{ConnId, QoS, SessionId, ShardId, Version};
use crate::limits::{MAIL_INLINE_BYTES_MAX, REMAINING_LENGTH_MAX};
use crate::mail::Mail;
use crate::mark;
use crate::planted::planted;
use crate::reject::{ReasonCode, Reject};
use crate::session::messages::Payload;
use crate::session::subscriptions::Subscriptions;
use crate::session::{Session, Will};
use crate::slots::owner_of;
use crate::time::Now;
use crate::timers::Timer;
use crate::topic::{check_name, topic_hash};

use super::Shard;
use super::effect::{Closing, Outbox, Reading};
use super::leave::Ending;
use super::local::METERED_RECEIVES;

/// What CONNECT grants beyond what it asked for.
struct Granted {
    session: SessionId,
    session_present: bool,
    expiry_s: u32,
    keep_alive_s: u16,
}

impl Shard {
    /// The first packet of a connection. `rest` begins with it and holds everything that was read.
    /// True if it is done: the connection is connected, or goes on with AUTH. False if it moved, waits
    /// with these bytes, or ends.
    pub(super) fn on_first(
        &mut self,
        now: Now,
        id: ConnId,
        frame: &Frame<'_>,
        rest: &[u8],
        out: &mut Outbox,
    ) -> bool {
        self.local.counters.packets_received += 1;
        if !is_connect(frame.first) {
            self.note(id, NO_CONNECT, out);
            self.close(now, id, Closing::Finish, out);
            return false;
        }
        let connect = match Connect::decode(frame) {
            Ok(connect) => connect,
            Err(reject) => {
                self.refuse_undecoded(now, id, frame, reject, out);
                return false;
            }
        };
        if let Some(conn) = self.local.conns.get_mut(id) {
            conn.version = connect.version;
            // From here on nothing is sent that is longer than the client takes.
            conn.packet_bytes_max = connect.packet_bytes_max.unwrap_or(u32::MAX);
            conn.request_problem_information = connect.request_problem_information;
        }
        match self.admit(now, id, &connect, (frame.len, rest), out) {
            Ok(is_connected) => is_connected,
            Err(reject) => {
                self.refuse(now, id, connect.version, reject, out);
                if let Some(note) = out.notes.last_mut() {
                    connect.client_id.clone_into(&mut note.client_id);
                    connect.user_name.unwrap_or_default().clone_into(&mut note.user);
                }
                false
            }
        }
    }

    fn admit(
        &mut self,
        now: Now,
        id: ConnId,
        connect: &Connect<'_>,
        (frame_bytes, rest): (usize, &[u8]),
        out: &mut Outbox,
    ) -> Result<bool, Reject> {
        self.check_version(id, connect.version)?;
        let assigned = self.check_client_id(id, connect)?;
        let client_id = assigned.as_deref().unwrap_or(connect.client_id);
        let owner = self.owner_of_client(client_id);
        if owner != self.id && !planted!(SessionOnWrongShard) {
            self.hand_over(id, owner, rest, out);
            return Ok(false);
        }
        let will_topic = connect.will.as_ref().map(|will| self.mounted_topic(id, will.topic));
        let will_topic = will_topic.unwrap_or_default();
        self.check_connect(connect, &will_topic)?;
        let asked = (connect, &rest[..frame_bytes]);
        let Some(grant) = self.authenticate(now, id, asked, client_id, out)? else {
            return Ok(self.has_kept_connect(id));
        };
        if self.waits_for_older(id, client_id, out) {
            return Ok(false);
        }
        let identity = self.identify(id, &grant);
        self.check_late(id, client_id, identity.as_deref())?;
        self.check_will(client_id, identity.as_deref(), connect, &will_topic)?;
        let granted = self.attach(now, id, connect, client_id, identity, out)?;
        if grant.lasts.is_some() {
            self.limit_to(now, id, grant.lasts);
        }
        let data = grant.data.as_deref();
        if !self.welcome(id, connect, assigned.as_deref(), (&granted, data), out) {
            // No CONNACK, so no DISCONNECT either, and no will of a client that was never let in.
            self.note(id, CONNACK_TOO_LARGE, out);
            self.detach(now, id, Ending::Normal, out);
            self.close(now, id, Closing::Finish, out);
            return Ok(false);
        }
        self.resume_session(now, id, &granted, out);
        Ok(true)
    }

    /// The identifier to use instead of an empty one.
    fn check_client_id(
        &mut self,
        id: ConnId,
        connect: &Connect<'_>,
    ) -> Result<Option<String>, Reject> {
        let invalid = |why| Err(Reject { reason: ReasonCode::ClientIdentifierNotValid, why });
        if connect.client_id.len() > usize::from(self.local.settings.client_id_bytes_max) {
            return invalid("the client identifier is longer than this broker allows");
        }
        if !connect.client_id.is_empty() {
            return Ok(None);
        }
        if !self.local.settings.empty_client_id {
            return invalid("this broker wants a client identifier");
        }
        match connect.version {
            Version::V31 => return invalid("MQTT 3.1 has no empty client identifier"),
            Version::V311 if !connect.clean_start => {
                return invalid("a kept session needs a client identifier");
            }
            Version::V311 | Version::V5 => {}
        }
        // The one that was asked about, if the answer came later.
        let extras = self.local.conns.get_mut(id).and_then(|conn| conn.extras.as_mut());
        let asked = extras.and_then(|extras| extras.assigned_client_id.take());
        if let Some(name) = asked.filter(|name| self.local.sessions.find(name).is_none()) {
            return Ok(Some(name));
        }
        // One that hashes to this shard, so that the connection stays; on average one try per shard.
        loop {
            let name = format!("muring-{:016x}", self.rng.next_u64());
            if self.owner_of_client(&name) == self.id && self.local.sessions.find(&name).is_none() {
                return Ok(Some(name));
            }
        }
    }

    /// `will_topic` with the mount point.
    fn check_connect(&self, connect: &Connect<'_>, will_topic: &str) -> Result<(), Reject> {
        let settings = &self.local.settings;
        let reject = |reason, why| Err(Reject { reason, why });
        let Some(will) = &connect.will else { return Ok(()) };
        // Before a mount point stands in front of it, it must be a name by itself.
        check_name(will.topic, settings.topic_levels_max)?;
        self.check_mounted(will_topic)?;
        if is_reserved(will_topic) {
            let why = "topics under $SYS are the broker's own";
            return reject(ReasonCode::NotAuthorized, why);
        }
        if will.qos > settings.maximum_qos {
            return reject(ReasonCode::QoSNotSupported, "the will's QoS is above the maximum here");
        }
        if will.retain && !settings.retain_available {
            return reject(ReasonCode::RetainNotSupported, "no retained messages here");
        }
        Ok(())
    }

    /// Whether the client may come in; `None` if the answer comes later.
    fn authenticate(
        &mut self,
        now: Now,
        id: ConnId,
        (connect, packet): (&Connect<'_>, &[u8]),
        client_id: &str,
        out: &mut Outbox,
    ) -> Result<Option<Grant>, Reject> {
        let Some(conn) = self.local.conns.get_mut(id) else { return Ok(None) };
        if conn.is_admitted {
            let extras = conn.extras.as_ref();
            return Ok(Some(extras.and_then(|extras| extras.grant.clone()).unwrap_or_default()));
        }
        let origin = conn.origin();
        let credentials = Credentials {
            conn: id,
            client_id,
            user_name: connect.user_name,
            password: connect.password,
            peer: origin.peer,
            listener: origin.listener,
            identity: conn.extras.as_ref().and_then(|extras| extras.identity.as_deref()),
            method: connect.authentication_method,
            data: connect.authentication_data,
        };
        let verdict = self.authenticate.check(&credentials);
        if let Verdict::Deny(reason) = verdict {
            return Err(Reject { reason, why: DENIED });
        }
        if matches!(verdict, Verdict::Challenge(_)) && connect.authentication_method.is_none() {
            let why = "a challenge for a client that named no method";
            return Err(Reject { reason: ReasonCode::ImplementationSpecificError, why });
        }
        self.begin_exchange(id, connect, client_id);
        match verdict {
            Verdict::Allow(grant) => return Ok(Some(grant)),
            Verdict::Deny(_) => {}
            Verdict::Challenge(_) | Verdict::Later => {
                self.await_verdict(now, id, (connect, packet), client_id, verdict, out);
            }
        }
        Ok(None)
    }

    /// The answer to a CONNECT takes more than one question, or its time.
    fn await_verdict(
        &mut self,
        now: Now,
        id: ConnId,
        (connect, packet): (&Connect<'_>, &[u8]),
        client_id: &str,
        verdict: Verdict,
        out: &mut Outbox,
    ) {
        let Some(conn) = self.local.conns.get_mut(id) else { return };
        if connect.client_id.is_empty() {
            conn.extras_mut().assigned_client_id = Some(client_id.to_owned());
        }
        if connect.authentication_method.is_some() {
            self.keep_connect(id, packet, Step::Server);
            return self.on_verdict(now, id, verdict, out);
        }
        conn.state = State::Authenticating;
        self.local.pause(id, PauseReason::Authenticating);
    }

    pub(super) fn on_authenticated(
        &mut self,
        now: Now,
        id: ConnId,
        verdict: Verdict,
        out: &mut Outbox,
    ) {
        let Some(conn) = self.local.conns.get_mut(id) else { return };
        let (state, version) = (conn.state, conn.version);
        if let Some(exchange) = conn.exchange_mut() {
            if exchange.step == Step::Server {
                self.on_verdict(now, id, verdict, out);
            }
            return;
        }
        if state != State::Authenticating {
            return;
        }
        match verdict {
            Verdict::Allow(grant) => {
                // Its CONNECT lies first in the backlog and is taken from the beginning.
                conn.state = State::AwaitConnect;
                conn.is_admitted = true;
                if grant != Grant::default() {
                    conn.extras_mut().grant = Some(grant);
                }
                self.local.unpause(id, PauseReason::Authenticating);
            }
            Verdict::Deny(reason) => {
                conn.pauses.remove(PauseReason::Authenticating);
                self.refuse(now, id, version, Reject { reason, why: DENIED }, out);
            }
            Verdict::Challenge(_) => {
                // It has no method that a challenge could be part of.
                conn.pauses.remove(PauseReason::Authenticating);
                let reject = Reject { reason: ReasonCode::BadAuthenticationMethod, why: DENIED };
                self.refuse(now, id, version, reject, out);
            }
            Verdict::Later => {}
        }
    }

    /// Who the client is from here on; nothing if all is as it is for anybody.
    pub(super) fn identify(&self, id: ConnId, grant: &Grant) -> Option<Arc<Identity>> {
        let listener = self.local.conns.get(id).map_or(0, Conn::listener);
        if listener == 0 && grant.user.is_none() && grant.rights.is_none() {
            return None;
        }
        let (user, rights) = (grant.user.clone(), grant.rights.clone());
        Some(Arc::new(Identity { user, rights, listener }))
    }

    /// Rules may have changed while the answer was on its way.
    fn check_late(
        &self,
        id: ConnId,
        client_id: &str,
        identity: Option<&Identity>,
    ) -> Result<(), Reject> {
        let is_late = self.local.conns.get(id).is_some_and(|conn| conn.is_admitted);
        if is_late && !self.may_stay(client_id, identity) {
            return Err(Reject { reason: ReasonCode::NotAuthorized, why: DENIED });
        }
        Ok(())
    }

    fn check_will(
        &mut self,
        client_id: &str,
        identity: Option<&Identity>,
        connect: &Connect<'_>,
        topic: &str,
    ) -> Result<(), Reject> {
        let who = Who { client_id, identity };
        match &connect.will {
            Some(will) if !self.authorise.may_publish(&who, topic, will.qos, will.retain) => {
                let why = "the client may not publish its will";
                Err(Reject { reason: ReasonCode::NotAuthorized, why })
            }
            Some(_) | None => Ok(()),
        }
    }

    /// Gives the connection its session, new or kept; ends an older connection of the same client.
    fn attach(
        &mut self,
        now: Now,
        id: ConnId,
        connect: &Connect<'_>,
        client_id: &str,
        identity: Option<Arc<Identity>>,
        out: &mut Outbox,
    ) -> Result<Granted, Reject> {
        let settings = &self.local.settings;
        let expiry_s = match connect.version {
            Version::V5 => connect.session_expiry_s.unwrap_or(0),
            Version::V31 | Version::V311 if connect.clean_start => 0,
            Version::V31 | Version::V311 => u32::MAX,
        }
        .min(settings.session_expiry_max_s);
        let keep_alive_s = match (settings.keep_alive_max_s, connect.keep_alive_s) {
            (0, asked) => asked,
            (maximum, 0) => maximum,
            (maximum, asked) => asked.min(maximum),
        };
        let mut existing = self.local.sessions.find(client_id);
        if existing.is_none() && self.local.sessions.count() >= settings.sessions_max as usize {
            let why = "this shard has as many sessions as it may";
            return Err(Reject { reason: ReasonCode::QuotaExceeded, why });
        }
        let mut was_stored = false;
        if let Some(session) = existing {
            let is_clean = connect.clean_start || self.is_of_another(session, identity.as_deref());
            was_stored = self.local.sessions.get(session).is_some_and(|s| s.is_stored);
            self.take_over(now, session, is_clean, out);
            if is_clean {
                self.end_session(now, session, out);
            }
            existing = self.local.sessions.find(client_id);
        }
        let session_present = existing.is_some();
        let session = existing
            .unwrap_or_else(|| self.local.sessions.insert(new_session(client_id, connect.version)));
        let granted = Granted { session, session_present, expiry_s, keep_alive_s };
        self.set_identity(session, session_present, identity);
        let granted = self.bind(now, id, session, connect, granted);
        self.store_bound(now, session, was_stored);
        granted
            .ok_or(Reject { reason: ReasonCode::UnspecifiedError, why: "the connection is gone" })
    }

    fn bind(
        &mut self,
        now: Now,
        id: ConnId,
        session_id: SessionId,
        connect: &Connect<'_>,
        granted: Granted,
    ) -> Option<Granted> {
        let local = &mut self.local;
        let session = local.sessions.get_mut(session_id)?;
        let conn = local.conns.get_mut(id)?;
        session.conn = Some(id.index);
        session.version = connect.version;
        session.expiry_s = granted.expiry_s;
        let mount = local.settings.mount(conn.listener());
        session.will = connect.will.as_ref().map(|will| Box::new(keep_will(will, mount)));
        mark!(WillDelayCancelled if session.will_timer.is_some());
        let will_timer = session.will_timer.take_if(|_| !planted!(WillDelayKept));
        for timer in [session.expiry_timer.take(), will_timer, conn.timer.take()] {
            timer.into_iter().for_each(|timer| local.timers.cancel(timer));
        }
        conn.state = State::Connected(session_id);
        conn.metered = METERED_RECEIVES;
        conn.wants_everything = session.subscriptions.are_broad();
        conn.keep_alive_s = granted.keep_alive_s;
        conn.window = connect.receive_maximum.unwrap_or(u16::MAX).min(local.settings.inflight_max);
        conn.alias_out_max = connect.topic_alias_max.min(local.settings.topic_alias_out_max);
        conn.alias_bytes_max = local.settings.topic_alias_bytes_max;
        if granted.keep_alive_s > 0 {
            let deadline = now.time + allowance(granted.keep_alive_s);
            conn.timer = Some(local.timers.set(Timer::Conn { index: id.index }, deadline));
        }
        conn.drop_credentials();
        local.settings.rate(conn, now.time);
        local.counters.connects_accepted += 1;
        local.counters.sessions_resumed += u64::from(granted.session_present);
        self.sys.clients_connected += 1;
        Some(granted)
    }

    /// The successful CONNACK: whatever differs from what the client would assume. False if that is
    /// more than the client takes.
    fn welcome(
        &mut self,
        id: ConnId,
        connect: &Connect<'_>,
        assigned: Option<&str>,
        (granted, data): (&Granted, Option<&[u8]>),
        out: &mut Outbox,
    ) -> bool {
        let settings = &self.local.settings;
        let received_bytes_max = self.local.conns.get(id).map(|conn| conn.received_bytes_max);
        let asked_s = connect.session_expiry_s.unwrap_or(0);
        let off = |is_available: bool| (!is_available).then_some(false);
        let connack = Connack {
            session_present: granted.session_present,
            session_expiry_s: (granted.expiry_s != asked_s).then_some(granted.expiry_s),
            receive_maximum: (settings.receive_maximum < u16::MAX)
                .then_some(settings.receive_maximum),
            maximum_qos: (settings.maximum_qos < QoS::ExactlyOnce).then_some(settings.maximum_qos),
            retain_available: off(settings.retain_available),
            packet_bytes_max: received_bytes_max.filter(|&max| max <= REMAINING_LENGTH_MAX),
            assigned_client_id: assigned,
            topic_alias_max: (settings.topic_alias_max > 0).then_some(settings.topic_alias_max),
            wildcard_available: off(settings.wildcard_available),
            subscription_ids_available: off(settings.subscription_ids_available),
            shared_available: off(settings.shared_available),
            server_keep_alive_s: (granted.keep_alive_s != connect.keep_alive_s)
                .then_some(granted.keep_alive_s),
            authentication_method: connect.authentication_method,
            authentication_data: data.filter(|_| connect.authentication_method.is_some()),
            ..Connack::default()
        };
        let limit = connect.packet_bytes_max.unwrap_or(u32::MAX) as usize;
        if connack.encoded_len(connect.version).is_none_or(|len| len > limit) {
            return false;
        }
        self.local.send_with(id, out, |buffer| connack.encode(connect.version, buffer));
        out.reads.push((id, Reading::Once));
        true
    }

    /// Sends again what the session still owes, then what has waited.
    fn resume_session(&mut self, now: Now, id: ConnId, granted: &Granted, out: &mut Outbox) {
        let session_id = granted.session;
        self.share_presence(session_id, true);
        let Some(session) = self.local.sessions.get_mut(session_id) else { return };
        let version = session.version;
        let Some(outgoing) = session.outgoing.as_mut() else { return };
        for packet_id in outgoing.resume() {
            self.local.send_with(id, out, |buffer| {
                codec::puback_into(
                    version,
                    codec::AckKind::Pubrel,
                    packet_id,
                    ReasonCode::Success,
                    buffer,
                );
            });
        }
        self.pump(now, session_id, out);
    }

    /// True if an older connection of the same client has packets here that are not worked on yet: what
    /// its client sent, a DISCONNECT perhaps, comes before the CONNECT. Nothing more is read from it.
    fn waits_for_older(&mut self, id: ConnId, client_id: &str, out: &mut Outbox) -> bool {
        let older = self.local.sessions.find(client_id);
        let older = older.and_then(|session| self.local.sessions.get(session)?.conn);
        let Some(older) = older.and_then(|index| self.local.conns.at_mut(index)) else {
            return false;
        };
        if !older.is_behind() {
            return false;
        }
        mark!(TakeOverBehind);
        if !std::mem::replace(&mut older.is_taken_over, true) {
            self.local.overtaken.push(older.id);
        }
        if !older.is_read_paused {
            older.is_read_paused = true;
            out.reads.push((older.id, Reading::Pause));
        }
        self.local.charge(id, u32::MAX, out);
        true
    }

    /// An older connection of the same client goes first.
    fn take_over(&mut self, now: Now, session: SessionId, is_clean: bool, out: &mut Outbox) {
        let Some(index) = self.local.sessions.get(session).and_then(|session| session.conn) else {
            return;
        };
        let Some(id) = self.local.conns.at_mut(index).map(|conn| conn.id) else { return };
        if planted!(OldConnectionKept) && !is_clean {
            return;
        }
        self.local.counters.sessions_taken_over += 1;
        self.mark_take_over(session, id, is_clean);
        let reject = Reject {
            reason: ReasonCode::SessionTakenOver,
            why: "another connection came with this client identifier",
        };
        let ending = if is_clean { Ending::TakenOverClean } else { Ending::TakenOver };
        self.disconnect(now, id, reject, ending, out);
    }

    /// What was under way when a connection is taken over.
    fn mark_take_over(&self, session: SessionId, id: ConnId, is_clean: bool) {
        let owed = self.local.conns.get(id).map_or(0, Conn::acks_count);
        mark!(TakeOverOwingAcks if owed > 0);
        mark!(TakeOverClean if is_clean);
        let session = self.local.sessions.get(session);
        mark!(TakeOverSubscribing if session.is_some_and(|s| s.subscribing.is_some()));
        mark!(TakeOverStreaming if session.is_some_and(|s| s.stream.is_some()));
    }

    /// Refuses a CONNECT with a CONNACK, then closes.
    pub(super) fn refuse(
        &mut self,
        now: Now,
        id: ConnId,
        version: Version,
        reject: Reject,
        out: &mut Outbox,
    ) {
        self.local.counters.connects_refused += 1;
        let Some(conn) = self.local.conns.get(id) else { return };
        let limit = conn.packet_bytes_max as usize;
        // Some errors of the codec have a reason code that CONNACK does not have [MQTT-3.2.2-8].
        let is_allowed = Connack::allows(reject.reason);
        let reason = if is_allowed { reject.reason } else { ReasonCode::UnspecifiedError };
        let connack = Connack { reason_string: Some(reject.why), ..Connack::refused(reason) };
        let mut packet = Vec::new();
        connack.encode(version, &mut packet);
        if packet.len() > limit {
            packet.clear();
            Connack::refused(reason).encode(version, &mut packet);
        }
        if packet.len() <= limit {
            self.local.send(id, &packet, out);
        }
        self.note(id, reject, out);
        self.close(now, id, Closing::Finish, out);
    }

    /// A CONNECT that is not understood: 5.0 has a CONNACK for it, 3.1.1 only for a wrong level.
    fn refuse_undecoded(
        &mut self,
        now: Now,
        id: ConnId,
        frame: &Frame<'_>,
        reject: Reject,
        out: &mut Outbox,
    ) {
        let is_level = reject.reason == ReasonCode::UnsupportedProtocolVersion;
        match codec::refused_version(frame).filter(|version| version.is_v5() || is_level) {
            Some(version) => self.refuse(now, id, version, reject, out),
            None => {
                self.local.counters.connects_refused += 1;
                self.note(id, reject, out);
                self.close(now, id, Closing::Finish, out);
            }
        }
    }

    /// Gives the connection, with all that was read from it, to the shard of its session.
    fn hand_over(&mut self, id: ConnId, to: ShardId, bytes: &[u8], out: &mut Outbox) {
        let Some(conn) = self.local.conns.remove(id) else { return };
        if let Some(timer) = conn.timer {
            self.local.timers.cancel(timer);
        }
        self.local.counters.connections_handed_over += 1;
        mark!(HandOverWithBytes if codec::frame(bytes, u32::MAX).is_ok_and(|framed| matches!(
            framed,
            codec::Framed::Whole(frame) if frame.len < bytes.len()
        )));
        mark!(HandOverParcel if bytes.len() > MAIL_INLINE_BYTES_MAX);
        out.releases.push((id, to));
        let origin = conn.origin();
        if bytes.len() > MAIL_INLINE_BYTES_MAX {
            let bytes = Bytes::copy_from_slice(bytes);
            self.post(to, &Mail::HandOver { origin, bytes: Payload::Shared(&bytes) });
        } else {
            self.post(to, &Mail::HandOver { origin, bytes: Payload::Inline(bytes) });
        }
        self.local.pool.give(conn.backlog.bytes);
    }

    /// The shard on which a client's session lives.
    pub(super) fn owner_of_client(&self, client_id: &str) -> ShardId {
        owner_of(topic_hash(client_id.as_bytes()), self.shards)
    }
}

pub(super) const NO_CONNECT: Reject = Reject {
    reason: ReasonCode::ProtocolError,
    why: "the first packet of a connection is CONNECT",
};

pub(super) const DENIED: &str = crate::auth::FAILED;

const CONNACK_TOO_LARGE: Reject = Reject {
    reason: ReasonCode::PacketTooLarge,
    why: "the CONNACK is larger than the client takes",
};

/// Whether the packet that begins with this byte is a CONNECT.
pub(super) fn is_connect(first: u8) -> bool {
    PacketKind::from_nibble(first >> 4) == Some(PacketKind::Connect)
}

/// Silence after which a client is gone: one and a half times its keep alive.
pub(super) fn allowance(keep_alive_s: u16) -> Duration {
    Duration::from_millis(u64::from(keep_alive_s) * 1500)
}

/// True for topics that only the broker publishes to.
pub(super) fn is_reserved(topic: &str) -> bool {
    topic == "$SYS" || topic.starts_with("$SYS/")
}

pub(super) fn new_session(client_id: &str, version: Version) -> Session {
    Session {
        client_id: client_id.into(),
        conn: None,
        version,
        expiry_s: 0,
        expiry_timer: None,
        will_timer: None,
        will: None,
        identity: None,
        subscriptions: Subscriptions::default(),
        outgoing: None,
        inbound: None,
        unsettled: None,
        subscribing: None,
        stream: None,
        is_stored: false,
        is_dirty: false,
        is_foreign: false,
    }
}

fn keep_will(will: &codec::Will<'_>, mount: &str) -> Will {
    let mut properties = Vec::new();
    will.properties.forward_into(&mut properties);
    Will {
        topic: [mount, will.topic].concat().into(),
        properties: properties.into(),
        payload: Bytes::copy_from_slice(will.payload),
        qos: will.qos,
        retain: will.retain,
        delay_s: will.delay_s,
        expiry_s: will.properties.message_expiry_s,
    }
}
