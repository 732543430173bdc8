//! SIGTERM, SIGINT and SIGHUP become messages to the main thread.

use std::io;
use std::thread;

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::{Handle, Signals};

/// Waits for signals in a thread of its own until it is dropped.
#[derive(Debug)]
pub struct SignalWatch {
    handle: Handle,
    thread: Option<thread::JoinHandle<()>>,
}

impl SignalWatch {
    /// Calls `tell` with the number of each signal.
    ///
    /// # Errors
    /// If the handlers cannot be installed or the thread cannot be started.
    pub fn start(tell: impl Fn(i32) + Send + 'static) -> io::Result<Self> {
        let mut signals = Signals::new([SIGTERM, SIGINT, SIGHUP])?;
        let handle = signals.handle();
        let thread = thread::Builder::new()
            .name("muring-signals".to_owned())
            .spawn(move || signals.forever().for_each(tell))?;
        Ok(Self { handle, thread: Some(thread) })
    }
}

impl Drop for SignalWatch {
    fn drop(&mut self) {
        self.handle.close();
        if let Some(thread) = self.thread.take() {
            // It only waits and tells, so there is no panic to pass on.
            let _ = thread.join();
        }
    }
}

/// The name an operator knows.
#[must_use]
pub fn name(signal: i32) -> &'static str {
    match signal {
        SIGTERM => "SIGTERM",
        SIGINT => "SIGINT",
        SIGHUP => "SIGHUP",
        _ => "signal",
    }
}
