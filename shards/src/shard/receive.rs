//! From bytes to packets: framing, cut packets, and what may come in which state.

use bytes::Bytes;

use crate::codec::{
    self, Ack, AckKind, Auth, Disconnect, Frame, Framed, PacketKind, Publish, Subscribe,
    Unsubscribe,
};
use crate::conn::pause::PauseReason;
use crate::conn::{Conn, Sending, State};
use crate::ids::{ConnId, SessionId, Version};
use crate::limits::{SPLICE_BYTES_MIN, Settings};
use crate::mark;
use crate::origin::Origin;
use crate::reject::{ReasonCode, Reject};
use crate::session::Session;
use crate::time::{Now, Time};
use crate::timers::Timer;

use super::Shard;
use super::connect::{NO_CONNECT, is_connect};
use super::effect::{Closing, Outbox, Reading};
use super::local::{QUIET, units};
use super::publish::Arrived;
use super::runs::Ran;

/// A cut packet is given memory for this much more than has come: a header that announces 256 MiB costs
/// nothing until the bytes are there.
const CUT_BYTES_AHEAD: usize = 64 * 1024;

/// What must come of a cut packet to count as a sign of life; else a byte now and then would keep a
/// connection whose client never says anything. A large packet on a slow link counts as it comes.
const CUT_BYTES_HEARD: usize = 1024;

/// Nodes of the index, or targets, that are about as much work as a small packet.
const WORK_PER_UNIT: u64 = 128;

const SECOND_CONNECT: Reject =
    Reject { reason: ReasonCode::ProtocolError, why: "second CONNECT on one network connection" };

const NO_TYPE: Reject = Reject { reason: ReasonCode::MalformedPacket, why: "packet type 0" };

/// A whole packet, and what is needed to make sense of it.
#[derive(Clone, Copy, Debug)]
struct Incoming<'a> {
    frame: &'a Frame<'a>,
    /// With its fixed header.
    packet: &'a [u8],
    /// The same in a buffer of its own, if it came in pieces.
    owned: Option<&'a Bytes>,
    version: Version,
    /// Of the connection's mount point; 0 if it has none.
    mount_bytes: u16,
}

const FULL: Reject = Reject {
    reason: ReasonCode::ServerBusy,
    why: "this shard has as many connections as it may, here or of this listener",
};

impl Shard {
    pub(super) fn on_opened(&mut self, now: Now, id: ConnId, origin: Origin, out: &mut Outbox) {
        let local = &mut self.local;
        local.counters.connections_accepted += 1;
        let mut conn = Conn::new(id, origin, now.time);
        local.settings.apply_to(&mut conn);
        let is_full = local.is_full(origin.listener);
        if is_full || self.stopping != super::Stopping::No {
            mark!(OpenedStopping if !is_full);
            local.counters.connections_refused += 1;
            conn.state = State::Closing;
            local.conns.insert(conn);
            if is_full {
                self.note(id, FULL, out);
            }
            out.closes.push((id, Closing::Abort));
            return;
        }
        let deadline =
            now.time + std::time::Duration::from_millis(local.settings.connect_timeout_ms.into());
        conn.timer = Some(local.timers.set(Timer::Conn { index: id.index }, deadline));
        local.conns.insert(conn);
        out.reads.push((id, Reading::Once));
    }

    pub(super) fn on_received(&mut self, now: Now, id: ConnId, bytes: &[u8], out: &mut Outbox) {
        let Some(conn) = self.local.conns.get_mut(id) else { return };
        if conn.state == State::Closing {
            return;
        }
        let heard_before = std::mem::replace(&mut conn.last_received, now.time);
        self.local.counters.bytes_received += bytes.len() as u64;
        // The shell has made the one receive that it was asked for.
        let is_metered = conn.is_metered();
        conn.is_read_paused |= is_metered;
        if conn.pauses.any() || conn.is_resumable {
            mark!(ReceivedPaused);
            self.local.stash(id, bytes, out);
            return;
        }
        if is_metered && units(bytes.len()) > QUIET && self.local.must_wait(id) {
            return self.wait_for_turn(id, bytes, out);
        }
        let Some(conn) = self.local.conns.get_mut(id) else { return };
        let cut_before = conn.backlog.rest().len();
        let mut is_cut = cut_before > 0;
        if is_cut {
            if let Some(rest) = self.complete_cut(now, id, bytes, out) {
                let used = self.consume(now, id, rest, out);
                self.local.stash(id, &rest[used..], out);
                is_cut = false;
            }
        } else {
            let used = self.consume(now, id, bytes, out);
            self.local.stash(id, &bytes[used..], out);
            is_cut = used == 0;
        }
        if is_cut {
            self.unhear(id, cut_before, heard_before);
        }
        if is_metered {
            self.local.read_metered(id, bytes.len(), out);
        }
        self.local.weigh(id);
        self.ask_for_more(id, out);
    }

    /// Others have done what metered connections may do in this turn: what came waits for the next one.
    fn wait_for_turn(&mut self, id: ConnId, bytes: &[u8], out: &mut Outbox) {
        mark!(ReceivedWaited);
        self.local.stash(id, bytes, out);
        if let Some(conn) = self.local.conns.get_mut(id) {
            conn.is_resumable = true;
            self.local.resumable.push(id);
        }
    }

    /// No packet has become whole. Takes back that the client was heard, unless enough of one has come.
    fn unhear(&mut self, id: ConnId, cut_before: usize, heard_before: Time) {
        let Some(conn) = self.local.conns.get_mut(id) else { return };
        // A whole packet has come, and waits.
        if conn.pauses.has(PauseReason::RateLimited) || conn.pauses.has(PauseReason::TurnSpent) {
            return;
        }
        if conn.backlog.rest().len() / CUT_BYTES_HEARD == cut_before / CUT_BYTES_HEARD {
            conn.last_received = heard_before;
        }
    }

    /// Before CONNECT each receive is asked for.
    fn ask_for_more(&mut self, id: ConnId, out: &mut Outbox) {
        if self.local.conns.get(id).is_some_and(|conn| conn.state == State::AwaitConnect) {
            out.reads.push((id, Reading::Once));
        }
        self.ask_for_auth(id, out);
    }

    /// Goes on with a connection that no reason holds any longer.
    pub(super) fn resume_reading(&mut self, now: Now, id: ConnId, out: &mut Outbox) {
        let Some(conn) = self.local.conns.get_mut(id) else { return };
        conn.is_resumable = false;
        if conn.pauses.any() || conn.state == State::Closing {
            return;
        }
        let mut backlog = std::mem::take(&mut conn.backlog);
        self.go_on_filing(now, id, out);
        self.go_on_connecting(now, id, out);
        let used = self.consume(now, id, backlog.rest(), out);
        backlog.start += used;
        let Some(conn) = self.local.conns.get_mut(id) else { return };
        if conn.state == State::Closing || backlog.is_empty() {
            self.local.pool.give(backlog.bytes);
        } else {
            conn.backlog = backlog;
        }
        let Some(conn) = self.local.conns.get_mut(id) else { return };
        if conn.state == State::Authenticating {
            return self.ask_for_auth(id, out);
        }
        let goes_on = conn.is_read_paused && !conn.is_taken_over && !conn.pauses.any();
        if goes_on && conn.state != State::Closing {
            conn.is_read_paused = false;
            let reading = if conn.is_metered() { Reading::Once } else { Reading::Stream };
            out.reads.push((id, reading));
        }
    }

    /// Works on whole packets at the front of `bytes`, as far as the connection's turn goes; answers
    /// how many bytes they were.
    fn consume(&mut self, now: Now, id: ConnId, bytes: &[u8], out: &mut Outbox) -> usize {
        let mut used = 0;
        // Up to here packets go one by one, though they look alike.
        let mut split_until = 0;
        while used < bytes.len() {
            let Some(conn) = self.local.conns.get(id) else { return bytes.len() };
            match conn.state {
                State::Closing => return bytes.len(),
                State::AwaitConnect | State::Authenticating | State::Connected(_) => {}
            }
            if conn.pauses.any() {
                return used;
            }
            let rest = &bytes[used..];
            match codec::frame(rest, packet_bytes_max(conn, &self.local.settings)) {
                Ok(Framed::Whole(frame)) => {
                    let len = frame.len;
                    if conn.state == State::AwaitConnect {
                        if !self.on_first(now, id, &frame, rest, out) {
                            // Moved to its owner, with all these bytes; or it waits with them.
                            return if self.local.conns.get(id).is_some() {
                                used
                            } else {
                                bytes.len()
                            };
                        }
                    } else {
                        let is_rated = conn.meter().is_some();
                        if used >= split_until && rest.get(len) == Some(&frame.first) {
                            match self.on_run(now, id, rest, out) {
                                Ran::NoRun => {}
                                Ran::Split(run_len) => split_until = used + run_len,
                                Ran::Done(run_len) => {
                                    used += run_len;
                                    continue;
                                }
                                Ran::Later => return used,
                            }
                        }
                        if is_rated && !self.takes(now, id, frame.first, len, out) {
                            return used;
                        }
                        self.on_frame(now, id, &frame, (&rest[..len], None), out);
                        if std::mem::take(&mut self.is_to_be_repeated) {
                            return used;
                        }
                    }
                    used += len;
                    self.local.charge(id, units(len), out);
                }
                // Whoever does not begin with CONNECT is not given time and memory to go on.
                Ok(Framed::Cut { .. })
                    if conn.state == State::AwaitConnect && !is_connect(rest[0]) =>
                {
                    self.reject(now, id, NO_CONNECT, out);
                    return bytes.len();
                }
                Ok(Framed::Cut { .. }) => return used,
                Err(reject) => {
                    self.reject(now, id, reject, out);
                    return bytes.len();
                }
            }
        }
        used
    }

    /// Completes the packet whose head is in the backlog and works on it. Answers the bytes behind it,
    /// or nothing if it is still cut.
    fn complete_cut<'a>(
        &mut self,
        now: Now,
        id: ConnId,
        mut bytes: &'a [u8],
        out: &mut Outbox,
    ) -> Option<&'a [u8]> {
        let conn = self.local.conns.get_mut(id)?;
        let packet_bytes_max = packet_bytes_max(conn, &self.local.settings);
        if conn.backlog.start > 0 {
            conn.backlog.bytes.drain(..conn.backlog.start);
            conn.backlog.start = 0;
        }
        loop {
            let cut = &mut conn.backlog.bytes;
            let missing = match codec::frame(cut, packet_bytes_max) {
                Ok(Framed::Whole(_)) => break,
                Ok(Framed::Cut { needed: Some(needed) }) => needed - cut.len(),
                // The length itself is cut: it is at most four bytes long.
                Ok(Framed::Cut { needed: None }) => 1,
                Err(reject) => {
                    self.reject(now, id, reject, out);
                    return None;
                }
            };
            let (taken, rest) = bytes.split_at(missing.min(bytes.len()));
            if cut.capacity() - cut.len() < taken.len() {
                let ahead = missing.min(taken.len() + cut.len().max(CUT_BYTES_AHEAD));
                cut.reserve_exact(ahead);
            }
            cut.extend_from_slice(taken);
            bytes = rest;
            if taken.len() < missing {
                return None;
            }
        }
        if conn.meter().is_some() {
            let (first, len) = (conn.backlog.bytes[0], conn.backlog.bytes.len());
            if !self.takes(now, id, first, len, out) {
                mark!(RateLimitedWhole);
                self.local.stash(id, bytes, out);
                return None;
            }
        }
        let conn = self.local.conns.get_mut(id)?;
        let whole = std::mem::take(&mut conn.backlog.bytes);
        let is_first = conn.state == State::AwaitConnect;
        if is_first {
            self.on_cut_first(now, id, whole, bytes, out)
        } else if let Some(whole) = self.on_whole(now, id, whole, out) {
            self.local.pool.give(whole);
            Some(bytes)
        } else {
            self.local.stash(id, bytes, out);
            None
        }
    }

    /// A CONNECT that came in pieces.
    fn on_cut_first<'a>(
        &mut self,
        now: Now,
        id: ConnId,
        mut whole: Vec<u8>,
        rest: &'a [u8],
        out: &mut Outbox,
    ) -> Option<&'a [u8]> {
        mark!(ConnectCut);
        let connect_bytes = whole.len();
        whole.extend_from_slice(rest);
        // Its length was checked when it was put together.
        let Ok(Framed::Whole(frame)) = codec::frame(&whole, u32::MAX) else { return None };
        debug_assert_eq!(frame.len, connect_bytes);
        if self.on_first(now, id, &frame, &whole, out) {
            self.local.pool.give(whole);
            return Some(rest);
        }
        if let Some(conn) = self.local.conns.get_mut(id).filter(|conn| conn.state != State::Closing)
        {
            conn.backlog.bytes = whole;
        }
        None
    }

    /// A packet that came in pieces, in a buffer of its own: a large payload is shared, not copied. Answers
    /// a buffer to use again; `None` if the packet waits for the next turn.
    fn on_whole(
        &mut self,
        now: Now,
        id: ConnId,
        whole: Vec<u8>,
        out: &mut Outbox,
    ) -> Option<Vec<u8>> {
        let len = whole.len();
        let whole = if len < SPLICE_BYTES_MIN {
            if let Ok(Framed::Whole(frame)) = codec::frame(&whole, u32::MAX) {
                self.on_frame(now, id, &frame, (&whole, None), out);
            }
            whole
        } else {
            mark!(WholeShared);
            // Whoever keeps a payload pins the packet, but not the rest of a buffer from the pool.
            let whole = Bytes::from(whole.into_boxed_slice());
            if let Ok(Framed::Whole(frame)) = codec::frame(&whole, u32::MAX) {
                self.on_frame(now, id, &frame, (&whole, Some(&whole)), out);
            }
            if !self.is_to_be_repeated {
                self.local.charge(id, units(len), out);
                return Some(Vec::new());
            }
            Vec::from(whole)
        };
        if std::mem::take(&mut self.is_to_be_repeated) {
            if let Some(conn) = self.local.conns.get_mut(id) {
                conn.backlog.bytes = whole;
            }
            return None;
        }
        self.local.charge(id, units(len), out);
        Some(whole)
    }

    /// A whole packet of a connection that has sent its CONNECT.
    fn on_frame(
        &mut self,
        now: Now,
        id: ConnId,
        frame: &Frame<'_>,
        (packet, owned): (&[u8], Option<&Bytes>),
        out: &mut Outbox,
    ) {
        self.local.counters.packets_received += 1;
        let Some(conn) = self.local.conns.get(id) else { return };
        let (session, version, mount_bytes) = (conn.session(), conn.version, conn.mount_bytes);
        let Some(session) = session else {
            return self.on_unwelcomed(now, id, frame, version, out);
        };
        let incoming = Incoming { frame, packet, owned, version, mount_bytes };
        let work_before = self.index.cache.work();
        if let Err(reject) = self.on_packet(now, id, session, &incoming, out) {
            self.reject(now, id, reject, out);
        }
        self.charge_work(id, work_before, out);
    }

    /// A topic that many filters match, or that reaches very many, is more work than its packet.
    #[inline]
    pub(super) fn charge_work(&mut self, id: ConnId, work_before: u64, out: &mut Outbox) {
        let work = self.index.cache.work() - work_before;
        if work >= WORK_PER_UNIT {
            mark!(WorkCharged);
            let units = u32::try_from(work / WORK_PER_UNIT).unwrap_or(u32::MAX);
            self.local.charge(id, units, out);
        }
    }

    /// Each type is decoded where it is handled: a value that could be any packet is large, and moved.
    fn on_packet(
        &mut self,
        now: Now,
        id: ConnId,
        session: SessionId,
        incoming: &Incoming<'_>,
        out: &mut Outbox,
    ) -> Result<(), Reject> {
        let Incoming { frame, packet, owned, version, mount_bytes } = *incoming;
        let ack = |kind| Ack::decode(kind, frame, version);
        match frame.kind().ok_or(NO_TYPE)? {
            PacketKind::Publish => {
                let publish = &Publish::decode(frame, version)?;
                let arrived = Arrived { publish, packet, owned, version, mount_bytes };
                self.on_publish(now, id, session, &arrived, out)
            }
            PacketKind::Puback => self.on_puback(now, session, &ack(AckKind::Puback)?, out),
            PacketKind::Pubrec => self.on_pubrec(now, id, session, &ack(AckKind::Pubrec)?, out),
            PacketKind::Pubrel => self.on_pubrel(id, session, &ack(AckKind::Pubrel)?, out),
            PacketKind::Pubcomp => self.on_pubcomp(now, session, &ack(AckKind::Pubcomp)?, out),
            PacketKind::Subscribe => {
                self.on_subscribe(now, id, session, &Subscribe::decode(frame, version)?, out)
            }
            PacketKind::Unsubscribe => {
                self.on_unsubscribe(now, id, session, &Unsubscribe::decode(frame, version)?, out)
            }
            PacketKind::Pingreq => {
                frame.expect_bare(version)?;
                self.local.send(id, &codec::PINGRESP, out);
                self.hold_if_full(id);
                Ok(())
            }
            PacketKind::Disconnect => {
                self.on_disconnect(now, id, &Disconnect::decode(frame, version)?, out)
            }
            PacketKind::Auth => self.on_auth(now, id, &Auth::decode(frame, version)?, out),
            // Whatever its form [MQTT-3.1.0-2], whose errors have reason codes that DISCONNECT has not.
            PacketKind::Connect => Err(SECOND_CONNECT),
            PacketKind::Connack
            | PacketKind::Suback
            | PacketKind::Unsuback
            | PacketKind::Pingresp => Err(Reject::protocol("a packet that only a server may send")),
        }
    }

    /// A client that sends requests and does not read the answers is not listened to any further.
    pub(super) fn hold_if_full(&mut self, id: ConnId) {
        let limit = self.local.settings.out_bytes_max as usize;
        if self.local.conns.get(id).is_some_and(|conn| conn.out_bytes() > limit) {
            mark!(OutputFullPaused);
            self.local.pause(id, PauseReason::OutputFull);
        }
    }

    pub(super) fn on_drained(&mut self, now: Now, id: ConnId, out: &mut Outbox) {
        let Some(conn) = self.local.conns.get_mut(id) else { return };
        conn.sending = Sending::No;
        conn.sending_bytes = 0;
        if !conn.output.is_empty() {
            super::local::list(conn, out);
        }
        let limit = self.local.settings.out_bytes_max as usize;
        if conn.pauses.has(PauseReason::OutputFull) && conn.out_bytes() <= limit / 2 {
            mark!(OutputFullOver);
            self.local.unpause(id, PauseReason::OutputFull);
        }
        let Some(session) = self.local.conns.get(id).and_then(Conn::session) else { return };
        let waits = self.local.sessions.get(session).is_some_and(Session::waits);
        if waits {
            self.pump(now, session, out);
        }
    }
}

/// Before CONNECT has come whole nobody has shown a right to much memory.
fn packet_bytes_max(conn: &Conn, settings: &Settings) -> u32 {
    match conn.state {
        State::AwaitConnect | State::Authenticating => {
            settings.connect_packet_bytes_max.min(conn.received_bytes_max)
        }
        State::Connected(_) | State::Closing => conn.received_bytes_max,
    }
}
