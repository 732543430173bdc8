//! What differs by the listener that a connection came through.

use crate::conn::Conn;
use crate::ids::{ConnId, Version};
use crate::limits::Settings;
use crate::mark;
use crate::reject::{ReasonCode, Reject};

use super::Shard;
use super::local::Local;

impl Settings {
    /// Gives a new connection what its listener has settled.
    pub(super) fn apply_to(&self, conn: &mut Conn) {
        let listener = self.listener(conn.listener());
        let own_max = listener.and_then(|listener| listener.packet_bytes_max);
        conn.received_bytes_max = own_max.unwrap_or(self.packet_bytes_max);
        let mount = self.mount(conn.listener());
        conn.mount_bytes = u16::try_from(mount.len()).unwrap_or(0);
    }
}

impl Local {
    /// True if there is no room for one more connection of this listener.
    pub(super) fn is_full(&self, listener: u16) -> bool {
        if self.conns.count() >= self.settings.connections_max as usize {
            return true;
        }
        let most = self.settings.listener(listener).and_then(|listener| listener.connections_max);
        let is_full = most.is_some_and(|most| self.conns.count_of(listener) >= most);
        mark!(ListenerFull if is_full);
        is_full
    }
}

impl Shard {
    /// Whether clients of this version may come through the connection's listener.
    pub(super) fn check_version(&self, id: ConnId, version: Version) -> Result<(), Reject> {
        let listener = self.local.conns.get(id).map_or(0, Conn::listener);
        let listener = self.local.settings.listener(listener);
        if listener.is_none_or(|listener| listener.versions.has(version)) {
            return Ok(());
        }
        mark!(ListenerVersionRefused);
        let why = "this version of the protocol is not spoken here";
        Err(Reject { reason: ReasonCode::UnsupportedProtocolVersion, why })
    }
}
