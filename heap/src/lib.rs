//! The broker's allocator: mimalloc, and mappings of their own for what belongs into huge pages.
//!
//! A large index is read at places that nobody can foretell, and with pages of 4 KiB most of what
//! such a read costs is finding out where the page lies. A huge page is resident as a whole, so only
//! memory that will be used as a whole may lie in one: not the heap of a small broker, not the spare
//! half of a table that has just doubled, not a payload. So the caller says it, by the shape of what
//! it asks for ([`is_for_huge_pages`]): exact multiples of a huge page, of elements that are aligned to
//! halves of cache lines or more. Nothing else in the broker asks for that by chance. Such memory is mapped at a multiple of its size, advised
//! to be huge and given back to the kernel when it is freed. All other memory is mimalloc's.
//!
//! [`pages`] says whether the kernel gives huge pages at all; if not, the same mappings consist of
//! small ones.
#![expect(unsafe_code, reason = "a global allocator is unsafe by its trait")]

pub mod pages;

use std::alloc::{GlobalAlloc, Layout};
use std::ptr;

use mimalloc::MiMalloc;

/// Bytes of a huge page. Where they have another size, the advice is of no use and does no harm.
pub const HUGE: usize = 2 * 1024 * 1024;

/// What memory for huge pages is aligned to at least: more than whatever needs it for being read.
const ALIGN_MIN: usize = 32;

/// To be declared as the global allocator of a program.
#[derive(Debug)]
pub struct Heap;

/// Whether such memory gets a mapping of its own: exact multiples of a huge page, of elements that are
/// aligned more than any plain value is.
#[must_use]
pub fn is_for_huge_pages(layout: Layout) -> bool {
    let (size, align) = (layout.size(), layout.align());
    size > 0 && size.is_multiple_of(HUGE) && (ALIGN_MIN..=HUGE).contains(&align)
}

// SAFETY: what `is_for_huge_pages` says yes to is a mapping of that size, aligned to `HUGE` and thus to
// all that may be asked of it, and nobody else's until it is freed; all else is mimalloc's. Which of the
// two it is depends on the layout alone, and callers free with the layout that they asked with.
unsafe impl GlobalAlloc for Heap {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if is_for_huge_pages(layout) {
            return map(layout.size());
        }
        // SAFETY: as promised by our caller.
        unsafe { MiMalloc.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        if is_for_huge_pages(layout) {
            // The kernel gives no other.
            return map(layout.size());
        }
        // SAFETY: as promised by our caller.
        unsafe { MiMalloc.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        if is_for_huge_pages(layout) {
            // SAFETY: `map` returned it for that size; our caller gives it up.
            return unsafe { unmap(pointer, layout.size()) };
        }
        // SAFETY: as promised by our caller.
        unsafe { MiMalloc.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: our caller promises that the size, rounded up to the alignment, is no overflow.
        let wanted = unsafe { Layout::from_size_align_unchecked(size, layout.align()) };
        if is_for_huge_pages(layout) || is_for_huge_pages(wanted) {
            // SAFETY: as promised by our caller.
            return unsafe { self.move_to(pointer, layout, wanted) };
        }
        // SAFETY: as promised by our caller.
        unsafe { MiMalloc.realloc(pointer, layout, size) }
    }
}

impl Heap {
    /// From or to a mapping, or between two.
    ///
    /// # Safety
    /// As for `realloc`.
    #[cold]
    unsafe fn move_to(&self, pointer: *mut u8, layout: Layout, wanted: Layout) -> *mut u8 {
        // SAFETY: a caller of `realloc` asks for no less than one byte.
        let fresh = unsafe { self.alloc(wanted) };
        if !fresh.is_null() {
            let count = layout.size().min(wanted.size());
            // SAFETY: both are ours and so large, and the new one is apart from the old one.
            unsafe { ptr::copy_nonoverlapping(pointer, fresh, count) };
            // SAFETY: our caller gives it up, as there is a new one.
            unsafe { self.dealloc(pointer, layout) };
        }
        fresh
    }
}

/// So many bytes, a multiple of [`HUGE`] and aligned to it, zeroed; null if there is no memory.
#[cold]
fn map(size: usize) -> *mut u8 {
    // Newer kernels align what is so large by themselves.
    let Some(found) = map_anywhere(size) else { return ptr::null_mut() };
    let pointer = if found.align_offset(HUGE) == 0 {
        found
    } else {
        // SAFETY: mapped just now with that size, and nobody else knows it.
        unsafe { unmap(found, size) };
        let Some(found) = map_aligned(size) else { return ptr::null_mut() };
        found
    };
    // SAFETY: the mapping is ours. A kernel without huge pages refuses, and the memory stays as it is.
    unsafe { libc::madvise(pointer.cast(), size, libc::MADV_HUGEPAGE) };
    pointer
}

/// Maps more than asked for, and cuts off what lies before and behind.
fn map_aligned(size: usize) -> Option<*mut u8> {
    let found = map_anywhere(size.checked_add(HUGE)?)?;
    let before = found.align_offset(HUGE);
    let start = found.wrapping_add(before);
    if before > 0 {
        // SAFETY: the first part of a mapping that nobody else knows.
        unsafe { unmap(found, before) };
    }
    // SAFETY: its last part, at least a page: `before` is less than `HUGE`, and both are whole pages.
    unsafe { unmap(start.wrapping_add(size), HUGE - before) };
    Some(start)
}

fn map_anywhere(size: usize) -> Option<*mut u8> {
    let (access, flags) =
        (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
    // SAFETY: a new mapping at an address that the kernel chooses touches no memory that is in use.
    let found = unsafe { libc::mmap(ptr::null_mut(), size, access, flags, -1, 0) };
    (found != libc::MAP_FAILED).then_some(found.cast())
}

/// # Safety
/// Whole pages that [`map_anywhere`] returned, and that nobody uses any more.
#[cold]
unsafe fn unmap(pointer: *mut u8, size: usize) {
    // SAFETY: as promised by our caller. It cannot fail for such pages but for a limit on the number of
    // mappings, and then they stay mapped, which costs memory and nothing else.
    unsafe { libc::munmap(pointer.cast(), size) };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn which_memory_is_mapped() {
        let check = |size, align, expected| {
            let layout = Layout::from_size_align(size, align).unwrap();
            assert_eq!(is_for_huge_pages(layout), expected, "{layout:?}");
        };
        check(HUGE, ALIGN_MIN, true);
        check(3 * HUGE, 4096, true);
        check(HUGE, HUGE, true);
        check(HUGE, 2 * HUGE, false);
        check(2 * HUGE, ALIGN_MIN / 2, false);
        check(HUGE + 64, 64, false);
        check(HUGE / 2, 64, false);
        check(0, 64, false);
    }

    #[test]
    fn mappings_are_aligned_and_zeroed() {
        for size in [HUGE, 3 * HUGE] {
            for found in [map(size), map_aligned(size).unwrap()] {
                assert!(!found.is_null() && found.align_offset(HUGE) == 0);
                // SAFETY: just mapped with that size, zeroed by the kernel.
                let bytes = unsafe { std::slice::from_raw_parts_mut(found, size) };
                assert!(bytes.iter().all(|&byte| byte == 0));
                bytes.fill(1);
                // SAFETY: mapped above; the slice is not used any more.
                unsafe { unmap(found, size) };
            }
        }
    }

    #[test]
    fn what_cannot_be_had_is_null() {
        assert!(map(HUGE << 40).is_null());
        assert!(map_aligned(usize::MAX - HUGE + 1).is_none());
    }
}
