//! The seam to durable storage: operations out, tickets back. Records are opaque here.

/// What should be made durable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoreOp {
    /// A message was queued for a session that outlives its connection.
    Enqueue { client_id: Vec<u8>, record: Vec<u8> },
}

/// How a durable operation ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StoreOutcome {
    /// It survives a crash from here on.
    Durable,
    /// It could not be written; the message is not accepted.
    Failed,
}
