//! Receive buffers of one shard, lent to the kernel through a provided-buffer ring.
//!
//! The kernel picks a buffer only when bytes are there, so an idle connection owns none. A buffer
//! is either the kernel's (its number lies in the ring) or ours (a [`Filled`] for it exists); a
//! `Filled` can be neither copied nor made elsewhere, so nobody reads what the kernel may write.
#![expect(
    unsafe_code,
    reason = "memory shared with the kernel; the invariant is in the module docs"
)]

use std::io;
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicU16, Ordering};

use io_uring::Submitter;
use io_uring::types::BufRingEntry;
use rustix::mm::{MapFlags, ProtFlags, mmap_anonymous, munmap};

/// The only buffer group of a net ring.
pub(super) const BUFFER_GROUP: u16 = 0;

/// Zeroed, page-aligned memory of its own.
#[derive(Debug)]
struct Pages {
    start: NonNull<u8>,
    bytes: usize,
}

impl Pages {
    fn new(bytes: usize) -> io::Result<Self> {
        // SAFETY: a new anonymous mapping at a place that the kernel chooses touches no other memory.
        let start = unsafe {
            mmap_anonymous(
                ptr::null_mut(),
                bytes,
                ProtFlags::READ | ProtFlags::WRITE,
                MapFlags::PRIVATE,
            )
        }?;
        let start = NonNull::new(start.cast::<u8>()).ok_or(io::ErrorKind::OutOfMemory)?;
        Ok(Self { start, bytes })
    }

    /// Address of the byte at `offset`.
    fn at(&self, offset: usize) -> *mut u8 {
        assert!(offset < self.bytes, "offset {offset} outside of {} bytes", self.bytes);
        // SAFETY: the offset lies inside the mapping, as just checked.
        unsafe { self.start.as_ptr().add(offset) }
    }
}

impl Drop for Pages {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours, and whoever registered it with the kernel has taken it back
        // (or leaks the owner instead of dropping it).
        let unmapped = unsafe { munmap(self.start.as_ptr().cast(), self.bytes) };
        debug_assert!(unmapped.is_ok());
    }
}

/// A buffer that the kernel has filled and that is ours until it is given back.
#[derive(Debug)]
pub(super) struct Filled {
    id: u16,
    bytes: u32,
}

/// All receive buffers of one net ring. Lives on its shard's thread.
#[derive(Debug)]
pub(super) struct Buffers {
    entries: Pages,
    memory: Pages,
    count: u16,
    buffer_bytes: u32,
    /// Buffers ever given to the kernel, modulo 2^16; the ring's tail.
    tail: u16,
}

impl Buffers {
    /// `count` must be a power of two, at most 32,768.
    pub(super) fn new(count: u16, buffer_bytes: u32) -> io::Result<Self> {
        if !count.is_power_of_two() || buffer_bytes == 0 {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let buffer_size = usize::try_from(buffer_bytes).map_err(|_| io::ErrorKind::InvalidInput)?;
        let entries = Pages::new(usize::from(count) * size_of::<BufRingEntry>())?;
        let memory = Pages::new(usize::from(count) * buffer_size)?;
        Ok(Self { entries, memory, count, buffer_bytes, tail: 0 })
    }

    /// Bytes of each buffer.
    pub(super) fn buffer_bytes(&self) -> u32 {
        self.buffer_bytes
    }

    /// Registers the ring with the kernel and hands over all buffers.
    pub(super) fn register(&mut self, submitter: &Submitter<'_>) -> io::Result<()> {
        let address = self.entries.start.as_ptr().expose_provenance();
        let address = u64::try_from(address).map_err(|_| io::ErrorKind::InvalidInput)?;
        // SAFETY: the memory is page-aligned, holds `count` entries, and is neither moved nor freed
        // before the net ring has unregistered it.
        unsafe { submitter.register_buf_ring_with_flags(address, self.count, BUFFER_GROUP, 0) }?;
        for id in 0..self.count {
            self.provide(id);
        }
        self.publish();
        Ok(())
    }

    /// Takes over the buffer that a completion names. Each completion must come here once.
    pub(super) fn filled(&self, id: u16, bytes: u32) -> Filled {
        assert!(id < self.count, "the kernel named buffer {id} of {}", self.count);
        assert!(bytes <= self.buffer_bytes);
        Filled { id, bytes }
    }

    /// What was received.
    pub(super) fn bytes(&self, filled: &Filled) -> &[u8] {
        let start = self.memory.at(self.offset(filled.id));
        let bytes = filled.bytes as usize;
        // SAFETY: the buffer lies inside `memory`, was zeroed at first, and the kernel does not write
        // to it before `give_back`, which takes `&mut self`.
        unsafe { std::slice::from_raw_parts(start, bytes) }
    }

    /// Lends the buffer to the kernel again.
    pub(super) fn give_back(&mut self, filled: Filled) {
        let Filled { id, bytes: _ } = filled;
        self.provide(id);
        self.publish();
    }

    fn offset(&self, id: u16) -> usize {
        usize::from(id) * self.buffer_bytes as usize
    }

    fn provide(&mut self, id: u16) {
        let slot = usize::from(self.tail & (self.count - 1));
        let address = self.memory.at(self.offset(id)).expose_provenance() as u64;
        let entry = self.entries.at(slot * size_of::<BufRingEntry>()).cast::<BufRingEntry>();
        // SAFETY: aligned (pages, 16-byte entries), inside the mapping, and the kernel does not read
        // this slot before `publish` moves the tail past it.
        let entry = unsafe { &mut *entry };
        entry.set_addr(address);
        entry.set_len(self.buffer_bytes);
        entry.set_bid(id);
        self.tail = self.tail.wrapping_add(1);
    }

    fn publish(&self) {
        let first = self.entries.start.as_ptr().cast::<BufRingEntry>().cast_const();
        // SAFETY: `first` is the first entry of the ring; the tail overlays its reserved field.
        let tail = unsafe { BufRingEntry::tail(first) };
        // SAFETY: aligned for u16 and valid as long as `self`; the kernel only reads it.
        let tail = unsafe { AtomicU16::from_ptr(tail.cast_mut()) };
        // The kernel must see the entries before it sees the tail.
        tail.store(self.tail, Ordering::Release);
    }
}
