//! Where a network connection comes from.

use std::net::SocketAddr;

/// What a network connection is to the core: where it comes from, and the shell's own handle, which
/// the core keeps and hands on when the connection moves to another shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Origin {
    /// The shell's name for the transport (its file descriptor). Opaque here.
    pub handle: u64,
    /// Which listener accepted it, by position in the configuration.
    pub listener: u16,
    pub peer: SocketAddr,
}
