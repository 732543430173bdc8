//! One shard: sessions, connections, index and mail, driven by inputs.

mod effect;
mod input;

pub use effect::{Adopt, Closing, Note, Outbox, Output, Reading};
pub use input::{CloseCause, Input, Origin};

use crate::auth::{Authenticate, Authorise};
use crate::ids::{ConnId, ShardId};
use crate::limits::Settings;
use crate::mailbox::Mailboxes;
use crate::time::{Now, Time};

/// What a shard is made of.
#[derive(Debug)]
pub struct ShardParts {
    /// `0..shards`.
    pub id: ShardId,
    /// How many there are in all.
    pub shards: u8,
    pub settings: Settings,
    /// Where all randomness of this shard comes from; the same seed for all shards of a process.
    pub seed: u64,
    pub mailboxes: Mailboxes,
    pub authenticate: Box<dyn Authenticate>,
    pub authorise: Box<dyn Authorise>,
}

/// One core's share of the broker. Lives on its shard's thread; nothing in it is shared.
#[derive(Debug)]
pub struct Shard {
    parts: ShardParts,
}

impl Shard {
    #[must_use]
    pub fn new(parts: ShardParts) -> Self {
        Self { parts }
    }

    /// Takes one input; everything it leads to is appended to `out`.
    pub fn handle(&mut self, now: Now, input: Input<'_>, out: &mut Outbox) {
        let _ = (now, input, out, self.parts.id);
    }

    /// Ends a batch of inputs: mail goes into the rings as far as there is room, connections that
    /// waited go on. Call it after each bounded batch, before the effects are applied.
    pub fn flush(&mut self, now: Now, out: &mut Outbox) {
        let _ = (now, out, self.parts.id);
    }

    /// The bytes to send on `conn`, in exchange for an empty buffer to fill next. From here until
    /// `Input::Drained` the connection counts them against its limit and asks for no other send.
    pub fn take_output(&mut self, conn: ConnId) -> Output {
        let _ = (conn, self.parts.id);
        Output::default()
    }

    /// Gives back a buffer that has been sent, so that its memory serves again.
    pub fn reuse(&mut self, output: Output) {
        let _ = (output, self.parts.id);
    }

    /// When to give `Input::Deadline`, at the latest.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Time> {
        let _ = self.parts.id;
        None
    }

    /// True while there is work that needs no input: mail that did not fit its ring, connections
    /// with bytes left to read. The shell then must not sleep for long.
    #[must_use]
    pub fn has_work(&self) -> bool {
        let _ = self.parts.id;
        false
    }

    /// True if the rings hold mail for this shard; asked right before sleeping.
    #[must_use]
    pub fn has_mail(&self) -> bool {
        let _ = self.parts.id;
        false
    }
}
