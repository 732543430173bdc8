//! What the core asked for becomes operations of the net ring.
//!
//! The order of a round is the core's: hand-overs, reads, sends, closes, doorbells. Only large receives that are
//! asked for one by one come behind the sends ([`super::receives`]).

use rustix::net::Shutdown;
use shards::ids::{ConnId, ShardId};
use shards::shard::{Adopt, CloseCause, Closing, Input, Reading};
use shards::store::StoreOutcome;

use super::conns::Phase;
use super::net_ring::Socket;
use super::orders::Crossing;
use super::sends::Sends;
use super::{Core, Reactor};

/// A send of more tells of a subscriber to whom much comes.
const MUCH_BYTES: usize = 1024;

impl<C: Core> Reactor<C> {
    /// Applies one round of effects and forgets it.
    pub(super) fn apply(&mut self) {
        let mut round = self.applied.take().unwrap_or_default();
        std::mem::swap(&mut self.outbox, &mut round);
        // Both lists are ours, `stopped` is the core's last word.
        self.outbox.stopped = round.stopped;

        for &(conn, to) in &round.releases {
            self.release(conn, to);
        }
        self.adopts.append(&mut round.adopts);
        for &(conn, reading) in &round.reads {
            self.read(conn, reading);
        }
        for &conn in &round.sends {
            self.list(conn, round.is_contended, Sends::push);
        }
        for &conn in &round.bulk_sends {
            self.list(conn, false, Sends::push_bulk);
        }
        while let Some(conn) = self.sends.next() {
            self.send_listed(conn);
        }
        self.send_wired();
        self.receive_listed(round.is_contended);
        for &(conn, closing) in &round.closes {
            match closing {
                Closing::Finish => self.finish(conn),
                Closing::Abort => self.abort(conn),
            }
        }
        self.finish_drained();
        for &target in &round.doorbells {
            self.stations.knock(target);
        }
        if !round.notes.is_empty() {
            self.notes.write(self.clock.now().time, &round.notes);
            self.count_failures(&round.notes);
        }
        for (ticket, _) in round.stores.drain(..) {
            // There is no durable store yet, and a message must not count as safe that is not.
            self.hear(Input::Stored { ticket, outcome: StoreOutcome::Failed });
        }
        round.clear();
        self.applied = Some(round);
    }

    /// Gives connections that came from other shards a number of this one.
    pub(super) fn hear_adopts(&mut self) {
        let mut adopts = std::mem::take(&mut self.adopts);
        for Adopt { origin, bytes } in adopts.drain(..) {
            let mut layered = None;
            if Socket::is_layered(origin.handle) {
                layered = self.take_crossing(origin.handle);
                if layered.is_none() {
                    // The mail was quicker; the other shard sends its layers in this very turn.
                    self.adopts.push(Adopt { origin, bytes });
                    continue;
                }
            }
            let Some(socket) = Socket::from_handle(origin.handle) else {
                debug_assert!(false, "handle {} is no descriptor", origin.handle);
                continue;
            };
            let conn = match self.conns.open(socket, layered.is_some()) {
                Ok(conn) => conn,
                Err(socket) => {
                    self.net.close(socket);
                    continue;
                }
            };
            self.hear(Input::Opened { conn, origin });
            self.identify_user(conn, origin.listener);
            let has_peer_ended = layered.as_ref().is_some_and(|layered| layered.has_peer_ended);
            if let Some(mut layered) = layered {
                layered.is_told = false;
                self.layers.insert(conn, layered);
                self.identify(conn);
            }
            self.hear(Input::Received { conn, bytes: &bytes });
            if has_peer_ended {
                self.end_of_peer(conn);
            }
        }
        if self.adopts.is_empty() {
            self.adopts = adopts;
        }
    }

    fn release(&mut self, id: ConnId, to: ShardId) {
        let Some(conn) = self.conns.find(id) else { return };
        conn.phase = Phase::Released;
        conn.wanted = Reading::Pause;
        debug_assert!(conn.is_idle(), "a connection moves while an operation is in flight");
        if conn.receiving && !conn.cancelling {
            conn.cancelling = true;
            self.net.cancel_receive(id);
        }
        let is_layered = conn.is_layered;
        self.let_in(id);
        if is_layered && let Some(layered) = self.layers.remove(id) {
            let handle = layered.origin.handle;
            self.stations.cross(to, Crossing { handle, layered });
        }
        self.settle(id);
    }

    fn read(&mut self, id: ConnId, reading: Reading) {
        let Some(conn) = self.conns.find(id) else { return };
        if conn.phase != Phase::Open {
            return;
        }
        conn.wanted = reading;
        if conn.is_newcomer && reading == Reading::Stream {
            self.let_in(id);
        }
        let Some(conn) = self.conns.find(id) else { return };
        if reading == Reading::Pause && conn.receiving && !conn.cancelling {
            conn.cancelling = true;
            self.net.cancel_receive(id);
        }
        if reading == Reading::Once && conn.is_heard_much {
            if !std::mem::replace(&mut conn.is_receive_listed, true) {
                self.receives.push(id);
            }
            return;
        }
        self.receive_as_wanted(id);
    }

    /// Behind the sends: nobody who is sent something waits for a receive of a flood.
    fn receive_listed(&mut self, is_contended: bool) {
        self.receives.go_on(is_contended);
        while let Some(id) = self.receives.next() {
            if let Some(conn) = self.conns.find(id) {
                conn.is_receive_listed = false;
                self.receive_as_wanted(id);
            }
        }
    }

    /// While it matters, those that are sent much, or send more than their share, wait for the others.
    fn list(&mut self, id: ConnId, is_contended: bool, push: fn(&mut Sends, ConnId)) {
        let Some(conn) = self.conns.find(id) else { return };
        conn.is_listed = true;
        if is_contended && (conn.is_sent_much || conn.wanted != Reading::Stream) {
            self.sends.push_bulk(id);
        } else {
            push(&mut self.sends, id);
        }
    }

    /// Sends what the core has for a connection, unless that was done out of turn. True if it was not.
    pub(super) fn send_listed(&mut self, id: ConnId) -> bool {
        let listed = self.conns.find(id).filter(|conn| conn.is_listed);
        let Some(conn) = listed else { return false };
        conn.is_listed = false;
        self.send(id);
        true
    }

    fn send(&mut self, id: ConnId) {
        let Some(conn) = self.conns.find(id) else { return };
        let output = self.core.take_output(id);
        conn.is_sent_much = output.len() > MUCH_BYTES;
        self.sends.sent(output.len());
        if conn.is_layered {
            return self.send_through(id, output);
        }
        debug_assert!(!conn.sending, "the core asked for a second send of {id:?}");
        match conn.phase {
            Phase::Open | Phase::HalfClosed | Phase::Ended(_) | Phase::Finishing
                if !conn.sending => {}
            _ => return self.core.reuse(output),
        }
        if output.is_empty() {
            self.core.reuse(output);
            self.drained.push(id);
            return;
        }
        conn.sending = true;
        self.is_send_awaited |= output.is_awaited || conn.phase != Phase::Open;
        self.net.send(id, &conn.socket, output);
    }

    /// Ends our side once everything is sent, and waits for the peer's end.
    pub(super) fn finish(&mut self, id: ConnId) {
        self.send_listed(id);
        let Some(conn) = self.conns.find(id) else { return };
        if conn.phase != Phase::Open {
            return;
        }
        conn.phase = Phase::Finishing;
        self.is_send_awaited |= conn.sending;
        self.finishing.push(id);
        // To drop what comes in, and to see the end.
        conn.wanted = Reading::Stream;
        self.receive_as_wanted(id);
    }

    /// Ends our side of the finishing connections that have nothing more to send.
    fn finish_drained(&mut self) {
        for id in std::mem::take(&mut self.finishing) {
            // What was said last may wait for its turn.
            self.send_listed(id);
            let Some(conn) = self.conns.find(id) else { continue };
            if conn.phase != Phase::Finishing || conn.sending {
                continue;
            }
            if conn.is_layered && self.say_goodbye(id) {
                continue;
            }
            let Some(conn) = self.conns.find(id) else { continue };
            conn.socket.shutdown(Shutdown::Write);
            // Without a receive in flight the peer's end has come already.
            conn.phase = if conn.receiving { Phase::Lingering } else { Phase::Aborting };
            self.settle(id);
        }
    }

    /// Ends both sides now. The operations in flight end by themselves after that.
    pub(super) fn abort(&mut self, id: ConnId) {
        let Some(conn) = self.conns.find(id) else { return };
        match conn.phase {
            Phase::Released => return,
            // The peer was first; the core hears its cause.
            Phase::HalfClosed => conn.phase = Phase::Ended(CloseCause::Eof),
            Phase::Ended(_) => {}
            Phase::Open | Phase::Finishing | Phase::Lingering | Phase::Aborting => {
                conn.phase = Phase::Aborting;
            }
        }
        conn.wanted = Reading::Pause;
        conn.socket.shutdown(Shutdown::Both);
        self.is_send_awaited |= conn.sending;
        self.settle(id);
    }
}
