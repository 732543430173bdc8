//! What hangs on a node, in one word: nearly every node of a large index holds nothing, or one
//! subscriber without a subscription identifier, or another shard; those need no memory elsewhere.

use super::subscriber::{SubOptions, Subscriber};
use crate::ids::{SessionId, ShardId};

const TAG_SHIFT: u32 = 30;
const VALUE_MASK: u32 = (1 << TAG_SHIFT) - 1;
const NOTHING_OR_REMOTE: u32 = 0;
const PLAIN: u32 = 1;
const ONE: u32 = 2;
const MANY: u32 = 3;

/// Bits of [`SubOptions`]; above them lies the session.
const OPTIONS_BITS: u32 = 6;
const OPTIONS_MASK: u32 = (1 << OPTIONS_BITS) - 1;
const PLAIN_SESSION_MAX: u32 = VALUE_MASK >> OPTIONS_BITS;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Held {
    Nothing,
    /// One subscriber of this shard, as far as [`Held::plain`] makes them.
    Plain(Subscriber),
    /// One subscriber of this shard, by its place.
    One(u32),
    /// One other shard.
    Remote(ShardId),
    /// More, by its place.
    Many(u32),
}

impl Held {
    /// `None` for a subscriber that does not fit.
    pub(super) fn plain(subscriber: Subscriber) -> Option<Self> {
        let fits = subscriber.id.is_none() && subscriber.session.0 <= PLAIN_SESSION_MAX;
        fits.then_some(Self::Plain(subscriber))
    }

    /// 0 is `Nothing`.
    pub(super) fn pack(self) -> u32 {
        let (tag, value) = match self {
            Self::Nothing => (NOTHING_OR_REMOTE, 0),
            Self::Remote(shard) => (NOTHING_OR_REMOTE, u32::from(shard.0) + 1),
            Self::Plain(subscriber) => {
                let options = u32::from(subscriber.options.bits());
                (PLAIN, subscriber.session.0 << OPTIONS_BITS | options)
            }
            Self::One(one) => (ONE, one),
            Self::Many(many) => (MANY, many),
        };
        // Each place belongs to a node, and there are fewer than 2^30 of those.
        debug_assert!(value <= VALUE_MASK);
        tag << TAG_SHIFT | value
    }

    pub(super) fn unpack(packed: u32) -> Self {
        let value = packed & VALUE_MASK;
        match packed >> TAG_SHIFT {
            NOTHING_OR_REMOTE => match value.checked_sub(1) {
                None => Self::Nothing,
                Some(shard) => Self::Remote(ShardId(low_byte(shard))),
            },
            PLAIN => Self::Plain(Subscriber {
                session: SessionId(value >> OPTIONS_BITS),
                id: None,
                options: SubOptions::from_bits(low_byte(value & OPTIONS_MASK)).unwrap_or_default(),
            }),
            ONE => Self::One(value),
            _ => Self::Many(value),
        }
    }
}

fn low_byte(value: u32) -> u8 {
    let [low, ..] = value.to_le_bytes();
    low
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::{QoS, SubscriptionId};

    #[test]
    fn a_word_holds_it_all() {
        let options = SubOptions::new(QoS::ExactlyOnce, true, true).with_checked(true);
        let options = options.with_guarded(true);
        let subscriber = |session, id| Subscriber {
            session: SessionId(session),
            id: SubscriptionId::new(id),
            options,
        };
        let plain = Held::plain(subscriber(PLAIN_SESSION_MAX, 0)).unwrap();
        let helds = [
            Held::Nothing,
            Held::Remote(ShardId(0)),
            Held::Remote(ShardId(63)),
            plain,
            Held::One(0),
            Held::Many(VALUE_MASK),
        ];
        for held in helds {
            assert_eq!(Held::unpack(held.pack()), held);
        }
        assert_eq!(Held::Nothing.pack(), 0);
        assert_eq!(Held::plain(subscriber(PLAIN_SESSION_MAX + 1, 0)), None);
        assert_eq!(Held::plain(subscriber(0, 1)), None);
    }
}
