//! Enhanced authentication (MQTT 5.0 section 4.12): challenges and answers over AUTH packets, before
//! CONNACK and, for a client that is in, again. What is said in them is [`crate::auth::Authenticate`]'s.

use crate::auth::{Credentials, Grant, Verdict};
use crate::codec::{self, Auth, Connect, Frame, Framed, PacketKind};
use crate::conn::State;
use crate::conn::exchange::{Exchange, Step};
use crate::conn::pause::PauseReason;
use crate::ids::{ConnId, SessionId, Version};
use crate::mark;
use crate::reject::{ReasonCode, Reject};
use crate::time::Now;

use super::Shard;
use super::connect::DENIED;
use super::effect::{Closing, Outbox, Reading};
use super::leave::Ending;

const NO_METHOD: Reject = Reject {
    reason: ReasonCode::ProtocolError,
    why: "AUTH, but the CONNECT gave no authentication method",
};

const OTHER_METHOD: Reject = Reject {
    reason: ReasonCode::ProtocolError,
    why: "AUTH with another method than that of the CONNECT",
};

const OUT_OF_TURN: Reject =
    Reject { reason: ReasonCode::ProtocolError, why: "an AUTH that nobody waits for" };

const ONLY_AUTH: Reject = Reject {
    reason: ReasonCode::ProtocolError,
    why: "before CONNACK nothing but AUTH and DISCONNECT continues an authentication",
};

const CHALLENGE_TOO_LARGE: Reject =
    Reject { reason: ReasonCode::PacketTooLarge, why: "the AUTH is larger than the client takes" };

impl Shard {
    /// Notes which method a connection's CONNECT named. Needed for as long as the connection lasts: it
    /// may authenticate again.
    pub(super) fn begin_exchange(&mut self, id: ConnId, connect: &Connect<'_>, client_id: &str) {
        let (Some(method), Some(conn)) =
            (connect.authentication_method, self.local.conns.get_mut(id))
        else {
            return;
        };
        let (method, client_id) = (method.into(), client_id.into());
        let exchange = Exchange { method, client_id, connect: Vec::new(), step: Step::Rests };
        conn.extras_mut().exchange = Some(Box::new(exchange));
    }

    /// A CONNECT that must wait for more than one answer: it is kept, so that AUTH can follow it.
    pub(super) fn keep_connect(&mut self, id: ConnId, packet: &[u8], step: Step) {
        let Some(conn) = self.local.conns.get_mut(id) else { return };
        conn.state = State::Authenticating;
        if let Some(exchange) = conn.exchange_mut() {
            exchange.connect = packet.to_vec();
            exchange.step = step;
        }
    }

    /// A packet that comes between CONNECT and CONNACK.
    pub(super) fn on_unwelcomed(
        &mut self,
        now: Now,
        id: ConnId,
        frame: &Frame<'_>,
        version: Version,
        out: &mut Outbox,
    ) {
        let auth = match frame.kind() {
            Some(PacketKind::Auth) => Auth::decode(frame, version),
            Some(PacketKind::Disconnect) => return self.close(now, id, Closing::Finish, out),
            Some(_) | None => Err(ONLY_AUTH),
        };
        if let Err(reject) = auth.and_then(|auth| self.on_auth(now, id, &auth, out)) {
            self.refuse(now, id, version, reject, out);
        }
    }

    /// AUTH from the client.
    pub(super) fn on_auth(
        &mut self,
        now: Now,
        id: ConnId,
        auth: &Auth<'_>,
        out: &mut Outbox,
    ) -> Result<(), Reject> {
        let Some(conn) = self.local.conns.get_mut(id) else { return Ok(()) };
        let (origin, is_connected) = (conn.origin(), conn.session().is_some());
        let Some(extras) = conn.extras.as_mut() else { return Err(NO_METHOD) };
        let Some(exchange) = extras.exchange.as_mut() else { return Err(NO_METHOD) };
        if auth.method != Some(&*exchange.method) {
            return Err(OTHER_METHOD);
        }
        let is_first = match (auth.reason, exchange.step) {
            (ReasonCode::ContinueAuthentication, Step::Client) => false,
            (ReasonCode::ReAuthenticate, Step::Rests) if is_connected => true,
            _ => return Err(OUT_OF_TURN),
        };
        exchange.step = Step::Server;
        let credentials = Credentials {
            conn: id,
            client_id: &exchange.client_id,
            user_name: None,
            password: None,
            peer: origin.peer,
            listener: origin.listener,
            identity: extras.identity.as_deref(),
            method: auth.method,
            data: auth.data,
        };
        let verdict = if is_first {
            mark!(ReauthBegun);
            self.authenticate.check(&credentials)
        } else {
            self.authenticate.proceed(&credentials)
        };
        self.on_verdict(now, id, verdict, out);
        Ok(())
    }

    /// What became of the client's last word.
    pub(super) fn on_verdict(&mut self, now: Now, id: ConnId, verdict: Verdict, out: &mut Outbox) {
        let Some(conn) = self.local.conns.get_mut(id) else { return };
        let (version, session) = (conn.version, conn.session());
        let Some(exchange) = conn.exchange_mut() else { return };
        match verdict {
            Verdict::Allow(grant) => {
                exchange.step = Step::Rests;
                match session {
                    Some(session) => self.grant_again(now, id, session, grant, out),
                    None => self.let_in(now, id, grant, out),
                }
            }
            Verdict::Deny(reason) => {
                exchange.step = Step::Rests;
                self.deny(now, id, version, reason, out);
            }
            Verdict::Challenge(data) => {
                exchange.step = Step::Client;
                mark!(ChallengeSent);
                self.local.unpause(id, PauseReason::Authenticating);
                let reason = ReasonCode::ContinueAuthentication;
                self.send_auth(now, id, reason, Some(&data), out);
            }
            Verdict::Later => {
                mark!(ExchangeLater);
                // A client that is in goes on meanwhile.
                if session.is_none() {
                    self.local.pause(id, PauseReason::Authenticating);
                }
            }
        }
    }

    /// A CONNECT that was kept may come in.
    fn let_in(&mut self, now: Now, id: ConnId, grant: Grant, out: &mut Outbox) {
        let Some(conn) = self.local.conns.get_mut(id) else { return };
        conn.state = State::AwaitConnect;
        conn.is_admitted = true;
        conn.extras_mut().grant = Some(grant);
        if conn.pauses.has(PauseReason::Authenticating) {
            self.local.unpause(id, PauseReason::Authenticating);
        } else {
            self.go_on_connecting(now, id, out);
        }
    }

    /// Works on the CONNECT that was kept, if its client may come in.
    pub(super) fn go_on_connecting(&mut self, now: Now, id: ConnId, out: &mut Outbox) {
        let Some(conn) = self.local.conns.get_mut(id) else { return };
        if conn.state != State::AwaitConnect || conn.pauses.any() {
            return;
        }
        let Some(exchange) = conn.exchange_mut() else { return };
        let connect = std::mem::take(&mut exchange.connect);
        let Ok(Framed::Whole(frame)) = codec::frame(&connect, u32::MAX) else { return };
        let is_connected = self.on_first(now, id, &frame, &connect, out);
        // It waits for what an older connection of its client has still to say.
        if !is_connected
            && let Some(conn) = self.local.conns.get_mut(id)
            && conn.state == State::AwaitConnect
            && let Some(exchange) = conn.exchange_mut()
        {
            mark!(KeptConnectWaits);
            exchange.connect = connect;
        }
    }

    /// Before CONNACK one receive is asked for at a time.
    pub(super) fn ask_for_auth(&mut self, id: ConnId, out: &mut Outbox) {
        let Some(conn) = self.local.conns.get_mut(id) else { return };
        if conn.state == State::Authenticating && !conn.pauses.any() {
            conn.is_read_paused = false;
            out.reads.push((id, Reading::Once));
        }
    }

    /// A client that is in has proved again who it is.
    fn grant_again(
        &mut self,
        now: Now,
        id: ConnId,
        session: SessionId,
        grant: Grant,
        out: &mut Outbox,
    ) {
        let identity = self.identify(id, &grant);
        let Some(found) = self.local.sessions.get_mut(session) else { return };
        let user_before = found.identity.as_ref().and_then(|identity| identity.user.as_deref());
        if user_before != grant.user.as_deref() {
            let why = "authentication again, as somebody else";
            let reject = Reject { reason: ReasonCode::NotAuthorized, why };
            return self.disconnect(now, id, reject, Ending::WithWill, out);
        }
        mark!(ReauthDone);
        if found.identity != identity {
            found.identity = identity;
            self.local.store_terms(now, session);
            self.check_rights_of(session);
        }
        self.limit_to(now, id, grant.lasts);
        self.send_auth(now, id, ReasonCode::Success, grant.data.as_deref(), out);
    }

    /// The client is not who it says, or nobody that may come in.
    fn deny(
        &mut self,
        now: Now,
        id: ConnId,
        version: Version,
        reason: ReasonCode,
        out: &mut Outbox,
    ) {
        if self.local.conns.get(id).is_some_and(|conn| conn.session().is_none()) {
            return self.refuse(now, id, version, Reject { reason, why: DENIED }, out);
        }
        mark!(ReauthDenied);
        // The reason codes are CONNACK's; DISCONNECT has this one for all of them.
        let reject = Reject { reason: ReasonCode::NotAuthorized, why: DENIED };
        self.disconnect(now, id, reject, Ending::WithWill, out);
    }

    fn send_auth(
        &mut self,
        now: Now,
        id: ConnId,
        reason: ReasonCode,
        data: Option<&[u8]>,
        out: &mut Outbox,
    ) {
        let Some(conn) = self.local.conns.get_mut(id) else { return };
        let (version, limit) = (conn.version, conn.packet_bytes_max as usize);
        let is_connected = conn.session().is_some();
        let Some(exchange) = conn.exchange_mut() else { return };
        let mut packet = Vec::new();
        Auth { data, ..Auth::new(reason, &exchange.method) }.encode(version, &mut packet);
        match (packet.len() <= limit, is_connected) {
            (true, _) => self.local.send(id, &packet, out),
            (false, true) => self.reject(now, id, CHALLENGE_TOO_LARGE, out),
            (false, false) => self.refuse(now, id, version, CHALLENGE_TOO_LARGE, out),
        }
    }

    /// The connection ends or parts from its session: nobody waits for an answer any more.
    pub(super) fn forget_check(&mut self, id: ConnId) {
        let Some(conn) = self.local.conns.get_mut(id) else { return };
        let was_asked = conn.pauses.remove(PauseReason::Authenticating);
        let was_under_way = conn.exchange_mut().is_some_and(|exchange| {
            std::mem::replace(&mut exchange.step, Step::Rests) != Step::Rests
        });
        if was_asked || was_under_way {
            mark!(CheckForgotten);
            self.authenticate.forget(id);
        }
    }
}
