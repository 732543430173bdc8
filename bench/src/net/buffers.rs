//! Receive buffers lent to the kernel through a provided-buffer ring.
//!
//! A buffer is either the kernel's (its number lies in the ring) or ours (between the completion
//! that names it and [`Buffers::give_back`]). The memory is leaked, never freed: a receive that the
//! kernel still works on when the ring goes away would otherwise write into memory of others.
#![expect(
    unsafe_code,
    reason = "memory shared with the kernel; the invariant is in the module docs"
)]

use std::io;
use std::ptr;
use std::sync::atomic::{AtomicU16, Ordering};

use io_uring::Submitter;
use io_uring::types::BufRingEntry;
use rustix::mm::{MapFlags, ProtFlags, mmap_anonymous};

/// The only buffer group of a ring.
pub(super) const GROUP: u16 = 0;

#[derive(Debug)]
pub(super) struct Buffers {
    entries: *mut BufRingEntry,
    memory: *mut u8,
    count: u16,
    bytes: u32,
    /// Buffers ever given to the kernel, modulo 2^16.
    tail: u16,
}

impl Buffers {
    /// `count` buffers, a power of two, all with the kernel.
    pub(super) fn new(count: u16, bytes: u32, submitter: &Submitter<'_>) -> io::Result<Self> {
        if !count.is_power_of_two() || bytes == 0 {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let entries = pages(usize::from(count) * size_of::<BufRingEntry>())?;
        let memory = pages(usize::from(count) * bytes as usize)?;
        let address = entries.expose_provenance() as u64;
        // SAFETY: page-aligned memory of `count` entries that is never moved nor freed.
        unsafe { submitter.register_buf_ring_with_flags(address, count, GROUP, 0) }?;
        let mut buffers = Self { entries: entries.cast(), memory, count, bytes, tail: 0 };
        for id in 0..count {
            buffers.provide(id);
        }
        buffers.publish();
        Ok(buffers)
    }

    /// The first `bytes` of a buffer that a completion has named and that was not given back since.
    pub(super) fn bytes(&self, id: u16, bytes: usize) -> &[u8] {
        assert!(id < self.count && bytes <= self.bytes as usize, "buffer {id} of {bytes} bytes");
        let offset = usize::from(id) * self.bytes as usize;
        // SAFETY: inside the mapping, as just checked.
        let start = unsafe { self.memory.add(offset) };
        // SAFETY: the kernel does not write to it before `give_back`, which takes `&mut self`.
        unsafe { std::slice::from_raw_parts(start, bytes) }
    }

    /// Lends the buffer to the kernel again.
    pub(super) fn give_back(&mut self, id: u16) {
        assert!(id < self.count);
        self.provide(id);
        self.publish();
    }

    fn provide(&mut self, id: u16) {
        let slot = usize::from(self.tail & (self.count - 1));
        let offset = usize::from(id) * self.bytes as usize;
        let address = self.memory.expose_provenance() as u64 + offset as u64;
        // SAFETY: `slot` is below `count`, the number of entries.
        let entry = unsafe { self.entries.add(slot) };
        // SAFETY: aligned, inside the mapping, and the kernel does not read it before `publish`.
        let entry = unsafe { &mut *entry };
        entry.set_addr(address);
        entry.set_len(self.bytes);
        entry.set_bid(id);
        self.tail = self.tail.wrapping_add(1);
    }

    fn publish(&self) {
        // SAFETY: the first entry of the ring, whose reserved field is the tail.
        let tail = unsafe { BufRingEntry::tail(self.entries.cast_const()) };
        // SAFETY: aligned and never freed; the kernel only reads it.
        let tail = unsafe { AtomicU16::from_ptr(tail.cast_mut()) };
        // The kernel must see the entries before it sees the tail.
        tail.store(self.tail, Ordering::Release);
    }
}

/// Zeroed pages that stay.
fn pages(bytes: usize) -> io::Result<*mut u8> {
    let protection = ProtFlags::READ | ProtFlags::WRITE;
    // SAFETY: a new mapping at a place that the kernel chooses touches no other memory.
    let start = unsafe { mmap_anonymous(ptr::null_mut(), bytes, protection, MapFlags::PRIVATE) }?;
    Ok(start.cast())
}
