//! Counts heap allocations of this process, and the bytes that each thread holds.
//!
//! The broker's allocator does the work, so that what is measured lies in the memory that it has there.
#![expect(unsafe_code, reason = "a global allocator is unsafe by its trait")]

use std::alloc::{GlobalAlloc, Layout};
use std::cell::Cell;
use std::sync::atomic::{AtomicU64, Ordering};

use heap::Heap;

struct Counting;

static COUNT: AtomicU64 = AtomicU64::new(0);

thread_local! {
    /// Bytes that this thread has asked for and not given back. What one thread takes and another
    /// frees is wrong in both; benchmarks are of one thread.
    static HELD: Cell<i64> = const { Cell::new(0) };
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Allocations and reallocations of all threads so far.
pub(crate) fn count() -> u64 {
    COUNT.load(Ordering::Relaxed)
}

/// Bytes that this thread holds: as asked for, without what the allocator adds.
pub(crate) fn held() -> i64 {
    HELD.get()
}

/// A thread that ends may free something when its counter is gone.
fn hold(bytes: i64) {
    let _ = HELD.try_with(|held| held.set(held.get().wrapping_add(bytes)));
}

/// No layout is larger than `isize::MAX`.
fn signed(bytes: usize) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

// SAFETY: every call is handed on to the broker's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        COUNT.fetch_add(1, Ordering::Relaxed);
        hold(signed(layout.size()));
        // SAFETY: as promised by our caller.
        unsafe { Heap.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        COUNT.fetch_add(1, Ordering::Relaxed);
        hold(signed(layout.size()));
        // SAFETY: as promised by our caller.
        unsafe { Heap.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        hold(-signed(layout.size()));
        // SAFETY: as promised by our caller.
        unsafe { Heap.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        COUNT.fetch_add(1, Ordering::Relaxed);
        hold(signed(size) - signed(layout.size()));
        // SAFETY: as promised by our caller.
        unsafe { Heap.realloc(pointer, layout, size) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_held_until_they_are_given_back() {
        let before = held();
        let mut bytes: Vec<u8> = Vec::with_capacity(1000);
        assert_eq!(held() - before, 1000);
        bytes.reserve_exact(5000);
        assert_eq!(held() - before, 5000);
        drop(bytes);
        let zeroes = vec![0_u64; 10];
        assert_eq!(held() - before, 80);
        drop(zeroes);
        assert_eq!(held(), before);
    }
}
