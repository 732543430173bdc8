//! What other threads tell a shard: answers of checks, new rules, layers of connections that move here.
//!
//! Each shard has a queue without locks; whoever puts something in rings the shard's bell, and the shard
//! looks into it only then. Layers that follow a connection come without a bell: the mail that brings the
//! connection says that they are on their way.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use gate::admission::{Penalty, Rules};
use shards::auth::{Authenticate, Authorise, Verdict};
use shards::ids::ConnId;

use super::layers::{Layered, Transports};

/// Something for a shard to do.
#[derive(Debug)]
pub enum Order {
    /// The answer to a check that was put off.
    Verdict {
        conn: ConnId,
        verdict: Verdict,
        /// Set by the shard when nobody waits for it any more.
        is_void: Arc<AtomicBool>,
    },
    /// Who may do what, from now on; all sessions are checked anew.
    Rules { authenticate: Box<dyn Authenticate>, authorise: Box<dyn Authorise> },
    /// What layers new connections have, from now on.
    Transports(Transports),
    /// Limits on new connections, from now on: this shard's share of them.
    Admission(Arc<Rules>),
    /// Another shard refuses a source for its failures.
    Penalty(Penalty),
    /// The layers of a connection that another shard hands over.
    #[doc(hidden)]
    Crossing(Crossing),
}

/// Layers on their way to another shard. They are found by the handle that their connection came with.
#[derive(Debug)]
pub struct Crossing {
    pub(super) handle: u64,
    pub(super) layered: Box<Layered>,
}
