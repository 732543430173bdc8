//! What an operation on the net ring is, packed into its 64 bits of user data.
//!
//! Layout: 8 bits kind, 24 bits generation, 32 bits index. The generation is a check on top of the
//! rule that a connection's slot is free only when no operation of it is in flight.

use shards::ids::ConnId;

const INDEX_BITS: u32 = 32;
const GENERATION_MASK: u32 = 0x00FF_FFFF;

/// Who a connection's completion belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ConnTag {
    pub(super) index: u32,
    generation: u32,
}

impl ConnTag {
    pub(super) fn new(conn: ConnId) -> Self {
        Self { index: conn.index, generation: conn.generation & GENERATION_MASK }
    }

    /// True if it was made from `conn` (or from one 2^24 generations away).
    pub(super) fn is(self, conn: ConnId) -> bool {
        self == Self::new(conn)
    }
}

/// An operation that was given to the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Op {
    /// Nobody waits for its outcome.
    Forget,
    /// Multishot accept on the listener at this position.
    Accept {
        listener: u32,
    },
    Receive(ConnTag),
    Send(ConnTag),
    /// Multishot poll of the bell's eventfd.
    Bell,
    /// Multishot poll of the eventfd that other shards ring.
    Doorbell,
    /// The timer that ends a sleep.
    Alarm,
}

impl Op {
    pub(super) fn pack(self) -> u64 {
        let (kind, generation, index) = match self {
            Self::Forget => (0_u64, 0, 0),
            Self::Accept { listener } => (1, 0, listener),
            Self::Receive(tag) => (2, tag.generation, tag.index),
            Self::Send(tag) => (3, tag.generation, tag.index),
            Self::Bell => (4, 0, 0),
            Self::Doorbell => (5, 0, 0),
            Self::Alarm => (6, 0, 0),
        };
        kind << 56 | u64::from(generation) << INDEX_BITS | u64::from(index)
    }

    /// `None` for a number that `pack` does not make.
    pub(super) fn unpack(user_data: u64) -> Option<Self> {
        let [kind, g2, g1, g0, i3, i2, i1, i0] = user_data.to_be_bytes();
        let generation = u32::from_be_bytes([0, g2, g1, g0]);
        let index = u32::from_be_bytes([i3, i2, i1, i0]);
        let tag = ConnTag { index, generation };
        match kind {
            0 => Some(Self::Forget),
            1 => Some(Self::Accept { listener: index }),
            2 => Some(Self::Receive(tag)),
            3 => Some(Self::Send(tag)),
            4 => Some(Self::Bell),
            5 => Some(Self::Doorbell),
            6 => Some(Self::Alarm),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn user_data_survives_the_kernel() {
        let tag = ConnTag::new(ConnId { index: u32::MAX, generation: 0x12AB_CDEF });
        for op in [
            Op::Forget,
            Op::Accept { listener: 7 },
            Op::Receive(tag),
            Op::Send(tag),
            Op::Bell,
            Op::Doorbell,
            Op::Alarm,
        ] {
            assert_eq!(Op::unpack(op.pack()), Some(op));
        }
        assert_eq!(Op::unpack(u64::MAX), None);
    }

    #[test]
    fn a_reused_index_is_another_connection() {
        let tag = ConnTag::new(ConnId { index: 3, generation: 8 });
        assert!(tag.is(ConnId { index: 3, generation: 8 }));
        assert!(!tag.is(ConnId { index: 3, generation: 9 }));
    }
}
