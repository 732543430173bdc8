//! Who is let in before a byte is read, and who counts as a newcomer until its client is let in.

use std::net::{IpAddr, SocketAddr};

use gate::transport::Stack;
use shards::auth::FAILED;
use shards::ids::{ConnId, ShardId};
use shards::reject::ReasonCode;
use shards::shard::Note;

use super::notes::Kind;
use super::orders::Order;
use super::{Core, Reactor};

/// Which counts have to be taken back when a connection's handshake is over.
#[derive(Clone, Copy, Debug)]
pub(super) struct Newcomer {
    pub(super) listener: u16,
    /// `None` until a proxy has said it.
    pub(super) address: Option<IpAddr>,
}

impl<C: Core> Reactor<C> {
    /// Asks whether a connection may come: its layers, or `None` in them for a plain one. Nothing if it
    /// may not.
    #[expect(clippy::option_option, reason = "whether it may come, and whether it has layers")]
    pub(super) fn admit(&mut self, listener: u16, peer: SocketAddr) -> Option<Option<Stack>> {
        let now = self.clock.now().time;
        if self.admission.is_active() {
            let address = self.source(listener, peer);
            if let Err(refusal) = self.admission.admit(now, listener, address) {
                self.notes.refused(now, Kind::Admission, peer, listener, &refusal);
                return None;
            }
            self.newcomer = Some(Newcomer { listener, address });
        }
        match self.transports.stack(listener, peer) {
            Ok(stack) => Some(stack),
            Err(error) => {
                self.notes.refused(now, Kind::Transport, peer, listener, &error);
                if let Some(newcomer) = self.newcomer.take() {
                    self.admission.end_handshake(newcomer.listener, newcomer.address);
                }
                None
            }
        }
    }

    /// The connection that was just admitted has a number now; its handshake counts until
    /// [`Self::let_in`].
    pub(super) fn newcomer(&mut self, id: ConnId) {
        if let Some(newcomer) = self.newcomer.take()
            && let Some(conn) = self.conns.find(id)
        {
            conn.is_newcomer = true;
            self.newcomers.insert(id.index, newcomer);
        }
    }

    /// The connection's client was let in, or the connection has gone before.
    pub(super) fn let_in(&mut self, id: ConnId) {
        let Some(conn) = self.conns.find(id) else { return };
        if std::mem::take(&mut conn.is_newcomer)
            && let Some(newcomer) = self.newcomers.remove(&id.index)
        {
            self.admission.end_handshake(newcomer.listener, newcomer.address);
        }
    }

    /// A proxy has said where the connection comes from. False if it may not come from there.
    pub(super) fn announced(&mut self, id: ConnId, listener: u16, peer: SocketAddr) -> bool {
        let Some(newcomer) = self.newcomers.get_mut(&id.index) else { return true };
        let now = self.clock.now().time;
        match self.admission.announced(now, listener, peer.ip()) {
            Ok(()) => {
                newcomer.address = Some(peer.ip());
                true
            }
            Err(refusal) => {
                self.notes.refused(now, Kind::Admission, peer, listener, &refusal);
                false
            }
        }
    }

    /// Counts failed authentications; all shards refuse a source that has too many.
    pub(super) fn count_failures(&mut self, notes: &[Note]) {
        if !self.admission.is_active() {
            return;
        }
        let now = self.clock.now().time;
        for note in notes {
            let is_failure = matches!(
                note.reject.reason,
                ReasonCode::BadUserNameOrPassword | ReasonCode::NotAuthorized
            );
            if !is_failure || note.reject.why != FAILED || note.origin.peer.ip().is_unspecified() {
                continue;
            }
            let (listener, address) = (note.origin.listener, note.origin.peer.ip());
            let Some(penalty) = self.admission.fail(now, listener, address) else { continue };
            for shard in (0..self.stations.shards()).map(ShardId) {
                if shard != self.shard {
                    self.stations.order(shard, Order::Penalty(penalty));
                }
            }
        }
    }

    /// Where a connection comes from, as far as that is known: not on a unix socket, and not before a
    /// proxy has said it.
    fn source(&self, listener: u16, peer: SocketAddr) -> Option<IpAddr> {
        let is_known = !peer.ip().is_unspecified() && !self.transports.has_proxy(listener);
        is_known.then(|| peer.ip())
    }
}
