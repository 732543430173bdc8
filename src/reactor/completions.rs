//! What ended in the kernel becomes an input of the core.

use rustix::io::Errno;
use rustix::net::Shutdown;
use shards::ids::ConnId;
use shards::shard::{CloseCause, Input, Origin, Output, Reading};

use super::buffers::Filled;
use super::conns::Phase;
use super::layers::Layered;
use super::net_ring::{Completion, Socket};
use super::op::ConnTag;
use super::{Core, Reactor};

/// A receive of so many tells of a client that sends much.
const MUCH_BYTES: usize = 8 * 1024;

impl<C: Core> Reactor<C> {
    pub(super) fn on_completion(&mut self, completion: Completion) {
        match completion {
            Completion::Accepted { listener, result, armed } => {
                self.on_accepted(listener, result, armed);
            }
            Completion::Received { tag, result, armed } => self.on_received(tag, result, armed),
            Completion::Sent { tag, output, result } => self.on_sent(tag, output, result),
            Completion::Bell { armed } => {
                self.hear_orders();
                if !armed && let Some(bell) = self.stations.bell(self.shard) {
                    self.net.watch_bell(bell);
                }
            }
            Completion::DoorbellEnded => {
                if let Some(doorbell) = self.stations.doorbell(self.shard) {
                    self.net.watch_doorbell(doorbell);
                }
            }
            Completion::Nothing => {}
        }
    }

    fn on_accepted(&mut self, listener: u32, result: Result<Socket, Errno>, armed: bool) {
        let position = self.listeners.position(listener);
        let now = self.clock.now();
        let error = result.as_ref().err().copied();
        self.listeners.on_accepted(listener, error, armed, now.time, &mut self.net);
        let Ok(socket) = result else { return };
        // A peer that is gone already has no address; nobody needs to hear of it.
        let Ok(peer) = socket.peer() else { return self.net.close(socket) };
        if self.listeners.is_stopping() {
            return self.net.close(socket);
        }
        let Some(stack) = self.admit(position, peer) else { return self.net.close(socket) };
        let handle = socket.handle(stack.is_some());
        let origin = Origin { handle, listener: position, peer };
        match self.conns.open(socket, stack.is_some()) {
            Ok(conn) => {
                self.newcomer(conn);
                self.hear(Input::Opened { conn, origin });
                self.identify_user(conn, position);
                if let Some(stack) = stack {
                    self.layers.insert(conn, Box::new(Layered::new(stack, origin)));
                }
            }
            Err(socket) => self.net.close(socket),
        }
    }

    /// Tells the core which user is at the other end of a unix socket, where that is who a client is.
    pub(super) fn identify_user(&mut self, id: ConnId, listener: u16) {
        let Some(accounts) = self.listeners.accounts(listener) else { return };
        let Some(conn) = self.conns.find(id) else { return };
        // Without an answer there is no identity, and so nobody is let in for it.
        let Ok(user) = conn.socket.peer_user() else { return };
        let identity = accounts.identity(user);
        self.hear(Input::Identified { conn: id, peer: None, identity: Some(&identity) });
    }

    fn on_received(&mut self, tag: ConnTag, result: Result<Option<Filled>, Errno>, armed: bool) {
        let Some(id) = self.conns.identify(tag) else {
            debug_assert!(false, "a receive outlived its connection");
            if let Ok(Some(filled)) = result {
                self.net.give_back(filled);
            }
            return;
        };
        if let Some(conn) = self.conns.find(id)
            && !armed
        {
            conn.receiving = false;
            conn.cancelling = false;
        }
        match result {
            Ok(Some(filled)) => self.on_bytes(id, filled),
            Ok(None) => {
                self.want_nothing(id);
                self.on_peer_closed(id);
            }
            // No buffer was free, or the receive was cancelled and may be wanted again by now.
            Err(Errno::NOBUFS | Errno::CANCELED | Errno::INTR | Errno::AGAIN) => {}
            Err(_) => {
                self.want_nothing(id);
                self.on_failed(id);
            }
        }
        self.receive_as_wanted(id);
        self.settle(id);
    }

    fn on_bytes(&mut self, id: ConnId, filled: Filled) {
        let Some(conn) = self.conns.find(id) else { return self.net.give_back(filled) };
        conn.is_heard_much = self.net.bytes(&filled).len() >= MUCH_BYTES;
        if conn.is_layered {
            return self.on_layered_bytes(id, filled);
        }
        if conn.wanted == Reading::Once {
            conn.wanted = Reading::Pause;
        }
        match conn.phase {
            Phase::Open | Phase::HalfClosed | Phase::Ended(_) => {
                let bytes = self.net.bytes(&filled);
                let input = Input::Received { conn: id, bytes };
                self.core.handle(self.clock.now(), input, &mut self.outbox);
                self.unflushed = true;
            }
            Phase::Finishing | Phase::Lingering | Phase::Aborting => {}
            Phase::Released => {
                tracing::error!(shard = self.shard.0, "bytes came for a connection that has moved");
            }
        }
        self.net.give_back(filled);
    }

    pub(super) fn on_peer_closed(&mut self, id: ConnId) {
        let Some(conn) = self.conns.find(id) else { return };
        match conn.phase {
            Phase::Open => {
                conn.phase = Phase::HalfClosed;
                self.ended.push(id);
            }
            Phase::Lingering => conn.phase = Phase::Aborting,
            // What is left to send may still find a reader; the core's deadline bounds it.
            Phase::Finishing => {}
            Phase::HalfClosed | Phase::Ended(_) | Phase::Aborting | Phase::Released => {}
        }
    }

    pub(super) fn want_nothing(&mut self, id: ConnId) {
        if let Some(conn) = self.conns.find(id) {
            conn.wanted = Reading::Pause;
        }
    }

    /// The transport failed. What had come in before can still be read, and may matter (a
    /// DISCONNECT ahead of the reset), so the receive in flight is not cancelled: with both sides
    /// shut down, it ends after the last byte.
    pub(super) fn on_failed(&mut self, id: ConnId) {
        let Some(conn) = self.conns.find(id) else { return };
        match conn.phase {
            Phase::Open | Phase::HalfClosed => conn.phase = Phase::Ended(CloseCause::Failed),
            Phase::Finishing | Phase::Lingering => conn.phase = Phase::Aborting,
            Phase::Ended(_) | Phase::Aborting | Phase::Released => {}
        }
        if conn.phase != Phase::Released {
            conn.socket.shutdown(Shutdown::Both);
        }
    }

    pub(super) fn on_sent(&mut self, tag: ConnTag, output: Output, result: Result<(), Errno>) {
        let Some(id) = self.conns.identify(tag) else {
            debug_assert!(false, "a send outlived its connection");
            return self.core.reuse(output);
        };
        let Some(conn) = self.conns.find(id) else { return self.core.reuse(output) };
        conn.sending = false;
        if conn.is_layered {
            return self.on_layered_sent(id, output, result);
        }
        self.core.reuse(output);
        match (result, conn.phase) {
            (Ok(()), Phase::Open | Phase::HalfClosed | Phase::Ended(_)) => self.tell_drained(id),
            (Ok(()), Phase::Finishing) => {
                self.tell_drained(id);
                self.finishing.push(id);
            }
            (Ok(()), Phase::Lingering | Phase::Aborting | Phase::Released) => {}
            (Err(_), _) => self.on_failed(id),
        }
        self.settle(id);
    }

    pub(super) fn tell_drained(&mut self, conn: ConnId) {
        self.hear(Input::Drained { conn });
    }

    /// Arms the receive that the core wants, unless one is in flight.
    pub(super) fn receive_as_wanted(&mut self, id: ConnId) {
        let Some(conn) = self.conns.find(id) else { return };
        if conn.receiving {
            return;
        }
        match conn.wanted {
            Reading::Pause => return,
            Reading::Once => self.net.receive_once(id, &conn.socket),
            Reading::Stream => self.net.receive_stream(id, &conn.socket),
        }
        conn.receiving = true;
    }

    /// Ends connections whose peer closed in the turn before: the answers to its last bytes went out
    /// with that turn's enter, as far as the socket's buffer had room.
    pub(super) fn end_peers(&mut self, ended: &[ConnId]) {
        for &id in ended {
            if self.end_later(id) {
                continue;
            }
            if self.send_listed(id) {
                self.ended.push(id);
                continue;
            }
            let Some(conn) = self.conns.find(id) else { continue };
            if conn.phase == Phase::HalfClosed && conn.is_layered && self.say_goodbye(id) {
                self.ended.push(id);
                continue;
            }
            let Some(conn) = self.conns.find(id) else { continue };
            if conn.phase == Phase::HalfClosed {
                conn.phase = Phase::Ended(CloseCause::Eof);
                if conn.sending {
                    conn.socket.shutdown(Shutdown::Both);
                }
            }
            self.settle(id);
        }
    }

    /// True if the core has still to work on what came before the end, which is tried again then.
    fn end_later(&mut self, id: ConnId) -> bool {
        if self.core.is_behind(id) {
            self.ended.push(id);
        } else if self.core.is_late(id) {
            if !self.late.contains(&id) {
                self.late.push(id);
            }
        } else {
            return false;
        }
        true
    }

    /// Closes the connection if it has ended and the kernel holds nothing of it any more.
    pub(super) fn settle(&mut self, id: ConnId) {
        let Some(conn) = self.conns.find(id) else { return };
        if !conn.is_idle() {
            return;
        }
        let cause = match conn.phase {
            Phase::Open | Phase::HalfClosed | Phase::Finishing | Phase::Lingering => return,
            Phase::Ended(cause) => {
                if self.end_later(id) {
                    return;
                }
                Some(cause)
            }
            Phase::Aborting => Some(CloseCause::Asked),
            Phase::Released => None,
        };
        self.let_in(id);
        let Some(conn) = self.conns.remove(id) else { return };
        if conn.is_layered {
            self.layers.remove(id);
        }
        // The other shard owns the socket of a released connection.
        if let Some(cause) = cause {
            self.net.close(conn.socket);
            self.listeners.on_closed(&mut self.net);
            self.hear(Input::Closed { conn: id, cause });
        }
    }
}
