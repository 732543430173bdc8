//! What a shard needs to deliver to its own clients: connections, sessions, kept messages, buffers.
//! Apart from the index and the mail, so that an answer of the index can be walked while it delivers.

use crate::conn::pause::PauseReason;
use crate::conn::{self, Conn, Conns, Pool, Sending, State};
use crate::counters::Counters;
use crate::ids::ConnId;
use crate::limits::{Settings, UNIT_BYTES};
use crate::mark;
use crate::planted::planted;
use crate::reject::Reject;
use crate::session::Sessions;
use crate::session::messages::Messages;
use crate::timers::Timers;

use super::durable::Emitted;
use super::effect::{Outbox, Reading};
use super::render::Rendered;

/// Backlog of a paused connection above which the shell is told to stop receiving. Short pauses, such
/// as that of a SUBSCRIBE on its way, then cost no system call.
const BACKLOG_BYTES_PAUSE: usize = 16 * 1024;

/// Part of a whole share that a metered connection gets in a turn while others wait that want little, and
/// part of one that all of them get together.
const METERED_PART: u32 = 8;
const METERED_TOGETHER_PART: u32 = 4;

/// Receives in a row that must bring little before a metered connection is read as it comes again. One
/// would be the end of any burst, and the kernel would hand out the next burst as a whole.
pub(super) const METERED_RECEIVES: u8 = 16;

/// What a receive brings at most that counts as little, in packets: half of the shell's buffers.
const LITTLE: u32 = 16;

/// What a client has said at most in a turn that others must not keep waiting, in packets.
pub(super) const QUIET: u32 = 2;

/// For so many turns after such a client was heard, connections that had their share get less.
const CONTENDED_TURNS: u32 = 64;

/// [`QUIET`] for what comes at once from another shard, which may be from and for several clients.
const QUIET_MAIL: u32 = 4;

/// The part of a shard that faces its own clients.
#[derive(Debug)]
pub(super) struct Local {
    pub(super) settings: Settings,
    pub(super) conns: Conns,
    pub(super) sessions: Sessions,
    pub(super) messages: Messages,
    pub(super) timers: Timers,
    pub(super) counters: Counters,
    pub(super) pool: Pool,
    pub(super) rendered: Rendered,
    /// Connections that no reason holds any longer; they go on at the end of the batch.
    pub(super) resumable: Vec<ConnId>,
    /// The number of the turn, from 1, modulo 2^32: a flush ends it.
    pub(super) turn: u32,
    /// Connections that nothing more is read from for this turn: a newer one of the same client waits.
    pub(super) overtaken: Vec<ConnId>,
    /// Connections that have had their share of this turn.
    pub(super) spent: Vec<ConnId>,
    /// There were such in the turn before.
    pub(super) was_spent: bool,
    /// What metered connections may still do in this turn, in packets. Those that find nothing left go on
    /// in a later one, in the order in which they came.
    pub(super) metered_left: u32,
    /// Turns for which those that want little come first.
    pub(super) contended_turns: u32,
    /// Operations for the store, until the end of the message or input at hand.
    pub(super) emitted: Vec<Emitted>,
    /// Connections to be ended because their client is too slow; done when the delivery is.
    pub(super) evicted: Vec<(ConnId, Reject)>,
}

impl Local {
    /// Sends bytes that are not a PUBLISH.
    pub(super) fn send(&mut self, id: ConnId, bytes: &[u8], out: &mut Outbox) {
        let Some(conn) = self.conns.get_mut(id) else { return };
        conn::append(&mut conn.output, &mut self.pool, bytes);
        list(conn, out);
    }

    /// Sends what `write` appends.
    pub(super) fn send_with(
        &mut self,
        id: ConnId,
        out: &mut Outbox,
        write: impl FnOnce(&mut Vec<u8>),
    ) {
        let Some(conn) = self.conns.get_mut(id) else { return };
        if conn.output.bytes.capacity() == 0 {
            conn.output.bytes = self.pool.take();
        }
        write(&mut conn.output.bytes);
        list(conn, out);
    }

    /// Works on nothing more of this connection until the reason is gone.
    pub(super) fn pause(&mut self, id: ConnId, reason: PauseReason) {
        if let Some(conn) = self.conns.get_mut(id)
            && conn.pauses.add(reason)
        {
            self.counters.count_pause(reason);
        }
    }

    pub(super) fn unpause(&mut self, id: ConnId, reason: PauseReason) {
        if let Some(conn) = self.conns.get_mut(id)
            && conn.pauses.remove(reason)
            && !conn.pauses.any()
        {
            conn.is_resumable = true;
            self.resumable.push(id);
        }
    }

    /// What a connection may do in a turn, in packets. Large shares make large batches, which cost less:
    /// small ones are for when somebody else would wait for them.
    fn turn_share(&self, conn: &Conn) -> u32 {
        let most = self.settings.turn_packets_max;
        if conn.is_metered() && self.is_contended() { (most / METERED_PART).max(1) } else { most }
    }

    /// A metered connection has more to be done, and others have done what such may do in this turn.
    pub(super) fn must_wait(&self, id: ConnId) -> bool {
        self.metered_left == 0 && self.conns.get(id).is_some_and(Conn::is_metered)
    }

    /// Some clients send more than a turn takes, and others very little.
    pub(super) fn is_contended(&self) -> bool {
        self.contended_turns > 0
    }

    /// A receive of this connection is worked on. If it was little, and others bring more than a turn
    /// takes, they are the ones that wait.
    #[inline]
    pub(super) fn weigh(&mut self, id: ConnId) {
        if self.was_spent || !self.spent.is_empty() {
            self.weigh_in_flood(id);
        }
    }

    /// The same for mail, which is for clients that may never send anything here.
    #[inline]
    pub(super) fn weigh_mail(&mut self, units: u32) {
        if (self.was_spent || !self.spent.is_empty()) && (1..=QUIET_MAIL).contains(&units) {
            mark!(ContendedByMail);
            self.contended_turns = CONTENDED_TURNS;
        }
    }

    #[cold]
    fn weigh_in_flood(&mut self, id: ConnId) {
        let Some(conn) = self.conns.get(id) else { return };
        if self.turn_share(conn).saturating_sub(self.turn_left(conn)) <= QUIET {
            mark!(Contended);
            self.contended_turns = CONTENDED_TURNS;
        }
    }

    /// What a connection may still do in this turn, in packets.
    pub(super) fn turn_left(&self, conn: &Conn) -> u32 {
        if conn.turn == self.turn { conn.turn_left } else { self.turn_share(conn) }
    }

    /// A metered connection is read on: as it comes, if what came was little for a turn.
    pub(super) fn read_metered(&mut self, id: ConnId, received_bytes: usize, out: &mut Outbox) {
        let is_little = units(received_bytes) <= LITTLE;
        let Some(conn) = self.conns.get_mut(id) else { return };
        if conn.pauses.any() || conn.is_resumable || conn.is_taken_over {
            return;
        }
        if matches!(conn.state, State::Connected(_)) {
            let left = conn.metered.saturating_sub(1);
            conn.metered = if is_little { left } else { METERED_RECEIVES };
            conn.is_read_paused = false;
            out.reads.push((id, if conn.is_metered() { Reading::Once } else { Reading::Stream }));
        }
    }

    /// Takes work off a connection's turn. With nothing left it waits for the next one, and so does
    /// what else comes from it, in its socket.
    pub(super) fn charge(&mut self, id: ConnId, units: u32, out: &mut Outbox) {
        let Some(conn) = self.conns.get(id) else { return };
        let mut left = self.turn_left(conn).saturating_sub(units);
        if conn.is_metered() {
            self.metered_left = self.metered_left.saturating_sub(units);
            // More is left than a share if that has become smaller within the turn.
            let share = self.turn_share(conn);
            if self.metered_left == 0 && !(share.saturating_sub(QUIET)..=share).contains(&left) {
                left = 0;
            }
        }
        let Some(conn) = self.conns.get_mut(id) else { return };
        conn.turn = self.turn;
        conn.turn_left = left;
        if left == 0 {
            self.end_turn(id, out);
        }
    }

    /// A connection has had its share of this turn, whatever it was.
    pub(super) fn end_turn(&mut self, id: ConnId, out: &mut Outbox) {
        let Some(conn) = self.conns.get_mut(id) else { return };
        conn.turn = self.turn;
        conn.turn_left = 0;
        if conn.state != State::Closing && !conn.pauses.has(PauseReason::TurnSpent) {
            mark!(TurnSpent);
            conn.metered = METERED_RECEIVES;
            if !conn.is_read_paused {
                conn.is_read_paused = true;
                out.reads.push((id, Reading::Pause));
            }
            self.pause(id, PauseReason::TurnSpent);
            self.spent.push(id);
        }
    }

    /// Begins the next turn: who had spent the last goes on.
    pub(super) fn next_turn(&mut self) {
        self.turn = self.turn.wrapping_add(1);
        // The newer connection asks again in this turn, unless it is gone.
        for id in std::mem::take(&mut self.overtaken) {
            let Some(conn) = self.conns.get_mut(id) else { continue };
            conn.is_taken_over = false;
            if conn.is_read_paused && !conn.pauses.any() && !conn.is_resumable {
                conn.is_resumable = true;
                self.resumable.push(id);
            }
        }
        self.was_spent = !self.spent.is_empty();
        self.contended_turns = self.contended_turns.saturating_sub(1);
        self.metered_left = if self.is_contended() {
            (self.settings.turn_packets_max / METERED_TOGETHER_PART).max(1)
        } else {
            u32::MAX
        };
        if !self.was_spent {
            return;
        }
        let mut spent = std::mem::take(&mut self.spent);
        for id in spent.drain(..) {
            self.unpause(id, PauseReason::TurnSpent);
        }
        self.spent = spent;
    }

    /// Keeps bytes for later; tells the shell to stop receiving if they grow while nobody may work on
    /// them.
    pub(super) fn stash(&mut self, id: ConnId, bytes: &[u8], out: &mut Outbox) {
        let Some(conn) = self.conns.get_mut(id) else { return };
        if bytes.is_empty() || conn.state == State::Closing {
            return;
        }
        if conn.backlog.is_empty() {
            self.pool.give(std::mem::take(&mut conn.backlog.bytes));
            conn.backlog.start = 0;
            conn.backlog.bytes = self.pool.take();
        }
        conn.backlog.push(bytes);
        if conn.pauses.any()
            && !conn.is_read_paused
            && conn.backlog.rest().len() > BACKLOG_BYTES_PAUSE
        {
            conn.is_read_paused = true;
            out.reads.push((id, Reading::Pause));
        }
    }
}

/// How much of a turn so many bytes take, of one packet.
pub(super) fn units(bytes: usize) -> u32 {
    u32::try_from(bytes / UNIT_BYTES).map_or(u32::MAX, |units| units.saturating_add(1))
}

/// Notes that a connection has something to send, once.
pub(super) fn list(conn: &mut Conn, out: &mut Outbox) {
    if conn.sending == Sending::No && (conn.fences == 0 || planted!(FenceIgnored)) {
        conn.sending = Sending::Listed;
        if conn.wants_everything {
            out.bulk_sends.push(conn.id);
        } else {
            out.sends.push(conn.id);
        }
    }
}
