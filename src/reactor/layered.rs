//! The way of bytes through a connection's layers, in and out.

use std::sync::atomic::Ordering;

use gate::admission::Rules;
use gate::transport::TransportError;
use rustix::io::Errno;
use shards::ids::ConnId;
use shards::shard::{Input, Output, Reading};

use super::buffers::Filled;
use super::conns::Phase;
use super::layers::{Layered, OWN_BYTES_MAX};
use super::net_ring::Socket;
use super::notes::Kind;
use super::orders::Order;
use super::{Core, Reactor, sending};

impl<C: Core> Reactor<C> {
    /// Does what other threads asked for.
    pub(super) fn hear_orders(&mut self) {
        while let Ok(order) = self.orders.try_recv() {
            match order {
                Order::Verdict { conn, verdict, is_void } => {
                    if !is_void.load(Ordering::Relaxed) {
                        self.hear(Input::Authenticated { conn, verdict });
                    }
                }
                Order::Rules { authenticate, authorise } => {
                    self.hear(Input::Rules { authenticate, authorise });
                }
                Order::Transports(transports) => self.transports = transports,
                Order::Admission(rules) => self.admission.replace(Rules::clone(&rules)),
                Order::Penalty(penalty) => {
                    self.admission.penalise(self.clock.now().time, penalty);
                }
                Order::Crossing(crossing) => self.crossings.push(crossing),
            }
        }
    }

    /// The layers of a connection that comes from another shard; `None` if they are still to come.
    pub(super) fn take_crossing(&mut self, handle: u64) -> Option<Box<Layered>> {
        debug_assert!(Socket::is_layered(handle));
        self.hear_orders();
        let index = self.crossings.iter().position(|crossing| crossing.handle == handle)?;
        Some(self.crossings.swap_remove(index).layered)
    }

    pub(super) fn on_layered_bytes(&mut self, id: ConnId, filled: Filled) {
        let Some(conn) = self.conns.find(id) else { return self.net.give_back(filled) };
        let is_open = matches!(conn.phase, Phase::Open | Phase::HalfClosed | Phase::Ended(_));
        let is_single = conn.wanted == Reading::Once;
        let Some(layered) = self.layers.find(id).filter(|_| is_open) else {
            return self.net.give_back(filled);
        };
        if layered.is_ended {
            return self.net.give_back(filled);
        }
        let mut passage = std::mem::take(&mut self.passage);
        let result = layered.stack.receive(self.net.bytes(&filled), &mut passage);
        self.net.give_back(filled);
        self.take_wire(id, &passage.wire);
        if self.identify(id) {
            self.take_plain(id, &passage.plain, is_single);
            self.end_layers(id, passage.is_ended, result, is_single);
        }
        passage.plain.clear();
        passage.wire.clear();
        passage.is_ended = false;
        self.passage = passage;
    }

    /// Keeps what the layers have to say by themselves for the end of the turn.
    fn take_wire(&mut self, id: ConnId, wire: &[u8]) {
        if wire.is_empty() {
            return;
        }
        let Some(layered) = self.layers.find_with_buffer(id) else { return };
        layered.wire.extend_from_slice(wire);
        layered.own_bytes = layered.own_bytes.saturating_add(wire.len());
        if layered.own_bytes > OWN_BYTES_MAX {
            self.refuse_layers(id, &"the peer does not read what its transport is answered");
            self.want_nothing(id);
            self.on_failed(id);
        } else {
            self.wired.push(id);
        }
    }

    /// Tells the core who is there, as soon as the layers know.
    /// False if the connection has ended over it.
    pub(super) fn identify(&mut self, id: ConnId) -> bool {
        let Some(layered) = self.layers.find(id) else { return false };
        if layered.is_told || !layered.stack.is_established() {
            return true;
        }
        layered.is_told = true;
        let announced = layered.stack.peer().address;
        let listener = layered.origin.listener;
        if let Some(address) = announced
            && !self.announced(id, listener, address)
        {
            self.on_failed(id);
            return false;
        }
        let Some(layered) = self.layers.find(id) else { return false };
        let peer = layered.stack.peer();
        if peer.address.is_some() || peer.identity.is_some() {
            let identity = peer.identity.as_deref();
            let input = Input::Identified { conn: id, peer: peer.address, identity };
            self.core.handle(self.clock.now(), input, &mut self.outbox);
            self.unflushed = true;
        }
        true
    }

    /// Gives bytes of packets to the core. Those of a single receive wait until nothing is on its way out
    /// any more: the connection may move with them.
    fn take_plain(&mut self, id: ConnId, plain: &[u8], is_single: bool) {
        if plain.is_empty() {
            return;
        }
        let Some(conn) = self.conns.find(id) else { return };
        if is_single {
            conn.wanted = Reading::Pause;
            if let Some(layered) = self.layers.find(id)
                && (conn.sending || !layered.wire.is_empty())
            {
                layered.held.extend_from_slice(plain);
                return;
            }
        }
        self.hear(Input::Received { conn: id, bytes: plain });
    }

    /// Ends the connection if the peer has ended its layers, or broken their rules.
    fn end_layers(
        &mut self,
        id: ConnId,
        is_ended: bool,
        result: Result<(), TransportError>,
        is_single: bool,
    ) {
        let Some(layered) = self.layers.find(id) else { return };
        match result {
            Ok(()) if is_ended => {
                layered.has_peer_ended = true;
                if layered.held.is_empty() {
                    self.end_of_peer(id);
                }
            }
            Ok(()) => {}
            Err(error) => {
                layered.is_ended = true;
                self.refuse_layers(id, &error);
                if is_single {
                    // The peer should be able to read why; the core's connect timeout bounds it.
                    self.finish(id);
                } else {
                    self.end_of_peer(id);
                }
            }
        }
    }

    fn refuse_layers(&mut self, id: ConnId, reason: &dyn std::fmt::Display) {
        let Some(layered) = self.layers.find(id) else { return };
        let (addr, listener) = (layered.peer(), layered.origin.listener);
        let now = self.clock.now().time;
        self.notes.refused(now, Kind::Transport, addr, listener, reason);
    }

    /// No more packets will come, as at the end of a plain connection's stream.
    pub(super) fn end_of_peer(&mut self, id: ConnId) {
        let Some(conn) = self.conns.find(id) else { return };
        conn.wanted = Reading::Pause;
        if conn.receiving && !conn.cancelling {
            conn.cancelling = true;
            self.net.cancel_receive(id);
        }
        self.on_peer_closed(id);
    }

    /// Sends the core's output through the layers, behind what they have to say themselves.
    pub(super) fn send_through(&mut self, id: ConnId, output: Output) {
        let found = self.conns.find(id).zip(self.layers.find_with_buffer(id));
        let Some((conn, layered)) = found else { return self.core.reuse(output) };
        let (phase, is_sending) = (conn.phase, conn.sending);
        match phase {
            Phase::Open | Phase::HalfClosed | Phase::Ended(_) | Phase::Finishing => {}
            Phase::Lingering | Phase::Aborting | Phase::Released => {
                return self.core.reuse(output);
            }
        }
        debug_assert!(!layered.is_core_sending, "the core asked for a second send of {id:?}");
        if output.is_empty() || layered.is_ended {
            self.core.reuse(output);
            self.drained.push(id);
            return;
        }
        layered.stack.send(sending::pieces(&output), &mut layered.wire);
        if layered.wire.is_empty() && !is_sending {
            // The peer has ended the layers: nothing can be sent through them any more.
            self.core.reuse(output);
            self.drained.push(id);
            return;
        }
        layered.is_core_sending = true;
        self.is_send_awaited |= output.is_awaited || phase != Phase::Open;
        self.core.reuse(output);
        self.send_wire(id);
    }

    /// Sends what layers had to say in this turn, unless it went with the core's output.
    pub(super) fn send_wired(&mut self) {
        if self.wired.is_empty() {
            return;
        }
        let mut wired = std::mem::take(&mut self.wired);
        for id in wired.drain(..) {
            // The handshake goes on, or held bytes come, when it has gone.
            self.is_send_awaited = true;
            self.send_wire(id);
        }
        self.wired = wired;
    }

    /// Sends what waits for the socket, unless a send is in flight: then it follows that one.
    fn send_wire(&mut self, id: ConnId) {
        let Some(conn) = self.conns.find(id) else { return };
        let Some(layered) = self.layers.find(id) else { return };
        if conn.sending || layered.wire.is_empty() {
            return;
        }
        match conn.phase {
            Phase::Open | Phase::HalfClosed | Phase::Ended(_) | Phase::Finishing => {}
            Phase::Lingering | Phase::Aborting | Phase::Released => return,
        }
        conn.sending = true;
        layered.own_bytes = 0;
        let bytes = std::mem::take(&mut layered.wire);
        self.net.send(id, &conn.socket, Output { bytes, ..Output::default() });
    }

    pub(super) fn on_layered_sent(
        &mut self,
        id: ConnId,
        output: Output,
        result: Result<(), Errno>,
    ) {
        self.layers.keep(output.bytes);
        let Some(phase) = self.conns.find(id).map(|conn| conn.phase) else { return };
        match (result, phase) {
            (Ok(()), Phase::Open | Phase::HalfClosed | Phase::Ended(_) | Phase::Finishing) => {
                self.go_on(id, phase);
            }
            (Ok(()), Phase::Lingering | Phase::Aborting | Phase::Released) => {}
            (Err(_), _) => self.on_failed(id),
        }
        self.settle(id);
    }

    /// A send has ended: what waited for that.
    fn go_on(&mut self, id: ConnId, phase: Phase) {
        let Some(layered) = self.layers.find(id) else { return };
        if !layered.wire.is_empty() {
            self.wired.push(id);
            return;
        }
        let held = std::mem::take(&mut layered.held);
        let has_peer_ended = layered.has_peer_ended;
        if std::mem::take(&mut layered.is_core_sending) {
            self.tell_drained(id);
        }
        if phase == Phase::Finishing {
            self.finishing.push(id);
        } else if !held.is_empty() {
            self.hear(Input::Received { conn: id, bytes: &held });
            if has_peer_ended {
                self.end_of_peer(id);
            }
        }
    }

    /// Ends our side of the layers once all else is sent. True if that has to be sent first.
    pub(super) fn say_goodbye(&mut self, id: ConnId) -> bool {
        let Some(layered) = self.layers.find_with_buffer(id) else { return false };
        if layered.is_ended {
            return false;
        }
        layered.is_ended = true;
        layered.stack.finish(&mut layered.wire);
        if layered.wire.is_empty() {
            return false;
        }
        self.is_send_awaited = true;
        self.send_wire(id);
        true
    }
}
