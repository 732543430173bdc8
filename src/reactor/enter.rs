//! The system call that submits, runs the kernel's deferred work and waits.
//!
//! Made here rather than by the crate `io_uring`, for two things that make it cheaper where the kernel
//! knows them. The ring is named by its number among the thread's registered rings: else each enter
//! looks up the ring's descriptor and counts a reference to it. And a sleep is not booked as waiting for
//! a disk, which costs when it begins and when it ends, and would have an idle broker seem busy to
//! whoever looks at the machine's time in I/O.
#![expect(
    unsafe_code,
    reason = "system calls without a wrapper; what their addresses point to outlives the call"
)]

use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::time::Duration;

use io_uring::IoUring;
use io_uring::types::Timespec;

// Of the kernel's interface; the crate keeps them to itself.
const ENTER_GETEVENTS: u32 = 1 << 0;
const ENTER_EXT_ARG: u32 = 1 << 3;
const ENTER_REGISTERED_RING: u32 = 1 << 4;
const ENTER_NO_IOWAIT: u32 = 1 << 7;
const REGISTER_RING_FDS: u32 = 20;
const UNREGISTER_RING_FDS: u32 = 21;

/// How to enter one ring. Belongs to the ring's owner, on the thread that made it, and is dropped
/// before the ring.
#[derive(Debug)]
pub(super) struct Door {
    descriptor: RawFd,
    /// The ring's number among those of this thread.
    registered: Option<u32>,
    /// Flags of each enter.
    flags: u32,
}

/// `struct io_uring_rsrc_update`, of which the kernel makes use for rings too.
#[repr(C)]
struct Registration {
    number: u32,
    reserved: u32,
    descriptor: u64,
}

/// `struct io_uring_getevents_arg`.
#[repr(C)]
struct Arguments {
    signals: u64,
    signals_bytes: u32,
    min_wait_micros: u32,
    timeout: u64,
}

impl Door {
    pub(super) fn new(ring: &IoUring) -> Self {
        let mut door = Self { descriptor: ring.as_raw_fd(), registered: None, flags: 0 };
        if ring.params().is_feature_no_iowait() {
            door.flags |= ENTER_NO_IOWAIT;
        }
        door.register();
        door
    }

    /// Submits so many entries; with `events` it also runs the kernel's deferred work.
    pub(super) fn submit(&self, count: u32, events: bool) -> io::Result<()> {
        let flags = if events { ENTER_GETEVENTS } else { 0 };
        self.enter(count, 0, flags, None)
    }

    /// Submits so many entries and waits until there is a completion, or `timeout` is over.
    pub(super) fn submit_and_wait(&self, count: u32, timeout: Option<Duration>) -> io::Result<()> {
        let Some(timeout) = timeout else { return self.enter(count, 1, ENTER_GETEVENTS, None) };
        let timeout = Timespec::from(timeout);
        let arguments = Arguments {
            signals: 0,
            signals_bytes: 0,
            min_wait_micros: 0,
            timeout: (&raw const timeout).expose_provenance() as u64,
        };
        self.enter(count, 1, ENTER_GETEVENTS | ENTER_EXT_ARG, Some(&arguments))
    }

    fn enter(
        &self,
        count: u32,
        wait: u32,
        flags: u32,
        arguments: Option<&Arguments>,
    ) -> io::Result<()> {
        let ring = self.registered.map_or_else(|| i64::from(self.descriptor), i64::from);
        let bytes = arguments.map_or(0, |_| size_of::<Arguments>());
        let arguments = arguments.map_or(std::ptr::null(), std::ptr::from_ref);
        // SAFETY: the arguments, and the time that they point to, are the caller's during the call.
        let result = unsafe {
            let call = libc::SYS_io_uring_enter;
            libc::syscall(call, ring, count, wait, flags | self.flags, arguments, bytes)
        };
        if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }

    /// Where the kernel refuses (it may have 16 rings of a thread, since 5.18), the descriptor serves
    /// as well.
    fn register(&mut self) {
        let Ok(descriptor) = u64::try_from(self.descriptor) else { return };
        let mut registration = Registration { number: u32::MAX, reserved: 0, descriptor };
        if self.change(REGISTER_RING_FDS, &mut registration) {
            self.registered = Some(registration.number);
            self.flags |= ENTER_REGISTERED_RING;
        }
    }

    /// True if the registration was made or undone.
    fn change(&self, what: u32, registration: &mut Registration) -> bool {
        let registration = std::ptr::from_mut(registration);
        // SAFETY: the kernel reads and writes the one registration that is announced.
        let changed = unsafe {
            libc::syscall(libc::SYS_io_uring_register, self.descriptor, what, registration, 1)
        };
        changed == 1
    }
}

impl Drop for Door {
    /// Else the ring would live as long as the thread.
    fn drop(&mut self) {
        if let Some(number) = self.registered.take() {
            let mut registration = Registration { number, reserved: 0, descriptor: 0 };
            self.change(UNREGISTER_RING_FDS, &mut registration);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ring() -> IoUring {
        IoUring::builder().setup_single_issuer().setup_defer_taskrun().build(4).unwrap()
    }

    #[test]
    fn a_ring_that_is_gone_leaves_its_number() {
        // More than a thread may have at a time.
        for _ in 0..100 {
            let ring = ring();
            let door = Door::new(&ring);
            assert!(door.registered.is_some(), "the kernel here is new enough");
            door.submit(0, true).unwrap();
        }
    }

    #[test]
    fn without_a_number_the_descriptor_serves() {
        let ring = ring();
        let mut door = Door { descriptor: ring.as_raw_fd(), registered: None, flags: 0 };
        let error = door.submit_and_wait(0, Some(Duration::from_micros(100))).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::ETIME));
        door.register();
        let error = door.submit_and_wait(0, Some(Duration::from_micros(100))).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::ETIME));
    }
}
