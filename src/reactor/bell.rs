//! What other threads ring to wake a shard: an eventfd that its ring watches.
//!
//! Also what shards ring among themselves after mail. A message from ring to ring would need no system
//! call of its own, but the kernel allocates a request for it on one core and frees it on another, and
//! both together cost more (`perf/results/2026-11-22-2core-vm-hop-2`).

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// A descriptor that wakes the shard which watches it; any thread may ring it.
#[derive(Debug)]
pub(super) struct Bell(OwnedFd);

impl Bell {
    pub(super) fn new() -> io::Result<Self> {
        use rustix::event::{EventfdFlags, eventfd};
        Ok(Self(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?))
    }

    pub(super) fn ring(&self) {
        // Full (EAGAIN) means rung many times over.
        let _ = rustix::io::write(&self.0, &1_u64.to_ne_bytes());
    }

    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
