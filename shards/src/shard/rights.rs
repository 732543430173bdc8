//! Rules of who may do what, and what the transport knows of a client.

use std::net::SocketAddr;

use crate::auth::{Authenticate, Authorise};
use crate::ids::ConnId;
use crate::origin::Origin;

use super::Shard;

impl Shard {
    pub(super) fn on_identified(
        &mut self,
        id: ConnId,
        peer: Option<SocketAddr>,
        identity: Option<&str>,
    ) {
        let Some(conn) = self.local.conns.get_mut(id) else { return };
        if let Some(peer) = peer {
            conn.set_origin(Origin { peer, ..conn.origin() });
        }
        if let Some(identity) = identity {
            conn.extras_mut().identity = Some(identity.into());
        }
    }

    pub(super) fn on_rules(
        &mut self,
        authenticate: Box<dyn Authenticate>,
        authorise: Box<dyn Authorise>,
    ) {
        self.authenticate = authenticate;
        self.is_open = authorise.allows_everything();
        self.authorise = authorise;
    }
}
