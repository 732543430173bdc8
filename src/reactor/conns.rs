//! The shell's side of each network connection: its socket and which operations are in flight.

use shards::ids::ConnId;
use shards::shard::{CloseCause, Reading};

use super::net_ring::Socket;
use super::op::ConnTag;

/// How far a connection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    Open,
    /// The peer has closed its side in this turn; our last answers may still go out.
    HalfClosed,
    /// The peer has closed its side, or the transport failed; the core does not know yet.
    Ended(CloseCause),
    /// The core wants it closed once everything is sent.
    Finishing,
    /// Everything is sent and our side has ended; the peer's has not.
    Lingering,
    /// The core wants it closed now.
    Aborting,
    /// It has moved to another shard; only a cancelled receive is still out.
    Released,
}

/// One network connection of one shard. An idle one is this and nothing else.
#[derive(Debug)]
pub(super) struct Conn {
    pub(super) socket: Socket,
    pub(super) phase: Phase,
    /// What the core asked for last.
    pub(super) wanted: Reading,
    /// A receive is in flight.
    pub(super) receiving: bool,
    /// The receive in flight has been asked to end.
    pub(super) cancelling: bool,
    pub(super) sending: bool,
    /// It waits among [`super::sends::Sends`].
    pub(super) is_listed: bool,
    /// The last receive was a large one.
    pub(super) is_heard_much: bool,
    /// It waits among [`super::receives::Receives`].
    pub(super) is_receive_listed: bool,
    /// The last send was a large one.
    pub(super) is_sent_much: bool,
    /// [`super::layers::Layers`] has an entry for it.
    pub(super) is_layered: bool,
    /// Limits count it among the handshakes in progress.
    pub(super) is_newcomer: bool,
}

const _: () = assert!(size_of::<Slot>() <= 32);

impl Conn {
    pub(super) fn is_idle(&self) -> bool {
        !self.receiving && !self.sending
    }
}

#[derive(Debug)]
struct Slot {
    generation: u32,
    conn: Option<Conn>,
}

/// All connections of one shard, by index. A slot is free again only when the kernel holds nothing
/// of its connection.
#[derive(Debug, Default)]
pub(super) struct Conns {
    slots: Vec<Slot>,
    free: Vec<u32>,
}

impl Conns {
    pub(super) fn count(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// Gives the socket a number. `Err` gives it back: 2^32 connections are open.
    pub(super) fn open(&mut self, socket: Socket, is_layered: bool) -> Result<ConnId, Socket> {
        let conn = Conn {
            socket,
            phase: Phase::Open,
            wanted: Reading::Pause,
            receiving: false,
            cancelling: false,
            sending: false,
            is_listed: false,
            is_heard_much: false,
            is_receive_listed: false,
            is_sent_much: false,
            is_layered,
            is_newcomer: false,
        };
        if let Some(index) = self.free.pop()
            && let Some(slot) = self.slots.get_mut(index as usize)
        {
            slot.conn = Some(conn);
            return Ok(ConnId { index, generation: slot.generation });
        }
        let Ok(index) = u32::try_from(self.slots.len()) else { return Err(conn.socket) };
        self.slots.push(Slot { generation: 0, conn: Some(conn) });
        Ok(ConnId { index, generation: 0 })
    }

    pub(super) fn find(&mut self, id: ConnId) -> Option<&mut Conn> {
        let slot = self.slots.get_mut(id.index as usize)?;
        if slot.generation == id.generation { slot.conn.as_mut() } else { None }
    }

    /// The connection that a completion belongs to.
    pub(super) fn identify(&self, tag: ConnTag) -> Option<ConnId> {
        let slot = self.slots.get(tag.index as usize)?;
        let id = ConnId { index: tag.index, generation: slot.generation };
        (slot.conn.is_some() && tag.is(id)).then_some(id)
    }

    /// Takes the connection out; its number will be another's, with the next generation.
    pub(super) fn remove(&mut self, id: ConnId) -> Option<Conn> {
        let slot = self.slots.get_mut(id.index as usize)?;
        if slot.generation != id.generation {
            return None;
        }
        let conn = slot.conn.take()?;
        slot.generation = slot.generation.wrapping_add(1);
        self.free.push(id.index);
        Some(conn)
    }

    /// All connections that are open now.
    pub(super) fn ids(&self) -> Vec<ConnId> {
        let ids = (0_u32..).zip(&self.slots).filter(|(_, slot)| slot.conn.is_some());
        ids.map(|(index, slot)| ConnId { index, generation: slot.generation }).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn socket() -> Socket {
        Socket::from_handle(1_000_000).unwrap()
    }

    #[test]
    fn a_late_number_finds_nobody() {
        let mut conns = Conns::default();
        let first = conns.open(socket(), false).unwrap();
        assert!(conns.find(first).is_some());
        assert!(conns.remove(first).is_some());
        assert!(conns.remove(first).is_none());
        let second = conns.open(socket(), true).unwrap();
        assert_eq!(second.index, first.index);
        assert!(conns.find(first).is_none());
        assert_eq!(conns.identify(ConnTag::new(first)), None);
        assert_eq!(conns.identify(ConnTag::new(second)), Some(second));
        assert_eq!(conns.ids(), [second]);
        assert_eq!(conns.count(), 1);
    }
}
