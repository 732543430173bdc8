//! What the simulator looks at from outside: read-only, and in no hot path.

use super::Shard;

/// How much waits for one session.
#[derive(Clone, Copy, Debug)]
pub struct SessionView<'a> {
    pub client_id: &'a str,
    pub inflight_count: usize,
    pub inflight_bytes: usize,
    pub queue_count: usize,
    pub queue_bytes: usize,
}

impl Shard {
    /// The sessions of this shard, in no order that means anything.
    pub fn sessions(&self) -> impl Iterator<Item = SessionView<'_>> {
        self.local.sessions.iter().map(|(_, session)| {
            let outgoing = session.outgoing.as_ref();
            SessionView {
                client_id: &session.client_id,
                inflight_count: outgoing.map_or(0, |outgoing| outgoing.inflight_count()),
                queue_count: outgoing.map_or(0, |outgoing| outgoing.queue_count()),
                inflight_bytes: outgoing.map_or(0, |outgoing| outgoing.inflight_bytes()),
                queue_bytes: outgoing
                    .map_or(0, |outgoing| outgoing.held_bytes() - outgoing.inflight_bytes()),
            }
        })
    }
}
