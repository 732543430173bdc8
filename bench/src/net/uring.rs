//! [`Net`] over io_uring: multishot accept and receive, a provided-buffer ring, one enter for each
//! turn, completions only inside of it (`SINGLE_ISSUER`, `DEFER_TASKRUN`).
//!
//! Memory that the kernel reads (bytes being sent) stays in its connection's slot until the
//! completion is in; a slot is free only when nothing of it is in flight, and what is in flight when
//! everything ends is leaked.
#![expect(
    unsafe_code,
    reason = "submission entries carry addresses; the invariant is in the module docs"
)]

use std::io;
use std::net::TcpListener;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::time::Duration;

use io_uring::squeue::Entry;
use io_uring::types::{Fd, SubmitArgs, Timespec};
use io_uring::{IoUring, cqueue, opcode};
use rustix::io::Errno;
use rustix::net::Shutdown;

use super::buffers::{Buffers, GROUP};
use super::{Ending, Handler, Key, Net, Outs};

const SUBMISSIONS: u32 = 4096;
const COMPLETIONS: u32 = 4 * SUBMISSIONS;
const BUFFERS: u16 = 256;
const BUFFER_BYTES: u32 = 64 * 1024;

/// Bytes of one send: its length is a `u32`, its result an `i32`.
const SEND_BYTES_MAX: usize = 1 << 30;

pub(crate) struct Uring {
    ring: IoUring,
    buffers: Buffers,
    listener: Option<TcpListener>,
    conns: Vec<Conn>,
    free: Vec<Key>,
    outs: Outs,
    batch: Vec<Raw>,
}

/// A connection, or a place for one. It stays where its memory is until nothing is in flight.
#[derive(Debug, Default)]
struct Conn {
    socket: Option<OwnedFd>,
    /// With the kernel while `is_sending`.
    sending: Vec<u8>,
    sent: usize,
    is_sending: bool,
    is_receiving: bool,
    connecting: bool,
    paused: bool,
    /// Why it is over, once it is.
    over: Option<Option<Errno>>,
}

/// What a completion belongs to; 8 bits kind, 32 bits connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Op {
    Accept,
    Receive(Key),
    Send(Key),
    Connect(Key),
    Forget,
}

#[derive(Clone, Copy, Debug)]
struct Raw {
    user_data: u64,
    result: i32,
    flags: u32,
}

impl Op {
    fn pack(self) -> u64 {
        let (kind, index) = match self {
            Self::Forget => (0_u64, 0),
            Self::Accept => (1, 0),
            Self::Receive(key) => (2, key.0),
            Self::Send(key) => (3, key.0),
            Self::Connect(key) => (4, key.0),
        };
        kind << 32 | u64::from(index)
    }

    fn unpack(user_data: u64) -> Self {
        let [a, b, c, d, kind, ..] = user_data.to_le_bytes();
        let key = Key(u32::from_le_bytes([a, b, c, d]));
        match kind {
            1 => Self::Accept,
            2 => Self::Receive(key),
            3 => Self::Send(key),
            4 => Self::Connect(key),
            _ => Self::Forget,
        }
    }
}

impl Uring {
    /// To be called on the thread that will use it.
    pub(crate) fn new() -> io::Result<Self> {
        let ring = IoUring::builder()
            .setup_single_issuer()
            .setup_defer_taskrun()
            .setup_submit_all()
            .setup_cqsize(COMPLETIONS)
            .build(SUBMISSIONS)?;
        let buffers = Buffers::new(BUFFERS, BUFFER_BYTES, &ring.submitter())?;
        Ok(Self {
            ring,
            buffers,
            listener: None,
            conns: Vec::new(),
            free: Vec::new(),
            outs: Outs::default(),
            batch: Vec::new(),
        })
    }

    fn insert(&mut self, socket: OwnedFd, connecting: bool) -> io::Result<Key> {
        let key = match self.free.pop() {
            Some(key) => key,
            None => {
                self.conns.push(Conn::default());
                Key::from_index(self.conns.len() - 1)?
            }
        };
        self.outs.reset(key);
        let fd = Fd(socket.as_raw_fd());
        let conn = &mut self.conns[key.index()];
        *conn = Conn {
            socket: Some(socket),
            sending: std::mem::take(&mut conn.sending),
            connecting,
            ..Conn::default()
        };
        if connecting {
            let writable = u32::from(libc::POLLOUT.unsigned_abs());
            self.push(opcode::PollAdd::new(fd, writable).build(), Op::Connect(key))?;
        } else {
            self.receive(key)?;
        }
        Ok(key)
    }

    fn push(&mut self, entry: Entry, op: Op) -> io::Result<()> {
        let entry = entry.user_data(op.pack());
        loop {
            // SAFETY: what the entry points to is the slot's or the ring's own and stays until the
            // completion is in.
            if unsafe { self.ring.submission().push(&entry) }.is_ok() {
                return Ok(());
            }
            tolerate(self.ring.submit())?;
        }
    }

    fn receive(&mut self, key: Key) -> io::Result<()> {
        let conn = &mut self.conns[key.index()];
        let Some(socket) = &conn.socket else { return Ok(()) };
        if conn.is_receiving || conn.paused || conn.over.is_some() {
            return Ok(());
        }
        conn.is_receiving = true;
        let entry = opcode::RecvMulti::new(Fd(socket.as_raw_fd()), GROUP).build();
        self.push(entry, Op::Receive(key))
    }

    fn accept(&mut self) -> io::Result<()> {
        let Some(listener) = &self.listener else { return Ok(()) };
        let entry = opcode::AcceptMulti::new(Fd(listener.as_raw_fd()));
        self.push(entry.flags(libc::SOCK_CLOEXEC).build(), Op::Accept)
    }

    fn flush(&mut self) -> io::Result<()> {
        let mut marked = std::mem::take(&mut self.outs.marked);
        for key in marked.drain(..) {
            self.outs.outs[key.index()].marked = false;
            self.send(key)?;
        }
        self.outs.marked = marked;
        Ok(())
    }

    /// Sends what has been appended, unless a send is in flight: its completion looks again.
    fn send(&mut self, key: Key) -> io::Result<()> {
        let conn = &mut self.conns[key.index()];
        let Some(socket) = &conn.socket else { return Ok(()) };
        let out = &mut self.outs.outs[key.index()];
        if out.ending == Some(Ending::Now) {
            out.ending = None;
            // Gone already is what was wanted; the end comes with the receive.
            let _ = rustix::net::shutdown(socket, Shutdown::Both);
            return Ok(());
        }
        if conn.connecting || conn.is_sending || conn.over.is_some() {
            return Ok(());
        }
        if conn.sent >= conn.sending.len() {
            conn.sending.clear();
            conn.sent = 0;
            std::mem::swap(&mut conn.sending, &mut out.bytes);
        }
        out.taken = conn.sending.len() - conn.sent;
        if out.taken == 0 {
            if out.ending.take() == Some(Ending::Flushed) {
                let _ = rustix::net::shutdown(socket, Shutdown::Write);
            }
            return Ok(());
        }
        conn.is_sending = true;
        let rest = &conn.sending[conn.sent..];
        let bytes = u32::try_from(rest.len().min(SEND_BYTES_MAX)).unwrap_or(u32::MAX);
        let entry = opcode::Send::new(Fd(socket.as_raw_fd()), rest.as_ptr(), bytes)
            .flags(libc::MSG_NOSIGNAL | libc::MSG_WAITALL)
            .build();
        self.push(entry, Op::Send(key))
    }

    fn complete(&mut self, raw: Raw, handler: &mut dyn Handler) -> io::Result<()> {
        let result = u32::try_from(raw.result)
            .map_err(|_| Errno::from_raw_os_error(raw.result.saturating_neg()));
        match Op::unpack(raw.user_data) {
            Op::Forget => Ok(()),
            Op::Accept => self.on_accept(result, cqueue::more(raw.flags), handler),
            Op::Connect(key) => self.on_connect(key, handler),
            Op::Receive(key) => {
                self.on_receive(key, result, raw.flags, handler)?;
                self.settle(key, handler);
                Ok(())
            }
            Op::Send(key) => {
                self.on_send(key, result);
                self.settle(key, handler);
                Ok(())
            }
        }
    }

    fn on_accept(
        &mut self,
        result: Result<u32, Errno>,
        armed: bool,
        handler: &mut dyn Handler,
    ) -> io::Result<()> {
        match result {
            Ok(fd) => {
                // SAFETY: a descriptor that the kernel has just made for us.
                let socket = unsafe { OwnedFd::from_raw_fd(fd.cast_signed()) };
                rustix::net::sockopt::set_tcp_nodelay(&socket, true)?;
                let key = self.insert(socket, false)?;
                handler.opened(key, &mut self.outs);
            }
            Err(Errno::INTR | Errno::CONNABORTED | Errno::AGAIN) => {}
            Err(error) => return Err(error.into()),
        }
        if armed { Ok(()) } else { self.accept() }
    }

    fn on_connect(&mut self, key: Key, handler: &mut dyn Handler) -> io::Result<()> {
        let conn = &mut self.conns[key.index()];
        conn.connecting = false;
        let Some(socket) = &conn.socket else { return Ok(()) };
        if let Err(error) = rustix::net::sockopt::socket_error(socket)? {
            conn.over = Some(Some(error));
            self.settle(key, handler);
            return Ok(());
        }
        self.receive(key)?;
        handler.opened(key, &mut self.outs);
        self.outs.mark(key);
        Ok(())
    }

    fn on_receive(
        &mut self,
        key: Key,
        result: Result<u32, Errno>,
        flags: u32,
        handler: &mut dyn Handler,
    ) -> io::Result<()> {
        let conn = &mut self.conns[key.index()];
        conn.is_receiving = cqueue::more(flags);
        match result {
            Ok(bytes) if bytes > 0 => {
                let Some(id) = cqueue::buffer_select(flags) else {
                    return Err(io::Error::other("a receive without a buffer"));
                };
                if conn.over.is_none() {
                    let bytes = self.buffers.bytes(id, bytes as usize);
                    handler.received(key, bytes, &mut self.outs);
                }
                self.buffers.give_back(id);
            }
            Ok(_) => conn.over = conn.over.or(Some(None)),
            // No buffer was free, or we took it back: the receive is armed anew below.
            Err(Errno::NOBUFS | Errno::CANCELED | Errno::INTR) => {}
            Err(error) => conn.over = conn.over.or(Some(Some(error))),
        }
        self.receive(key)
    }

    fn on_send(&mut self, key: Key, result: Result<u32, Errno>) {
        let conn = &mut self.conns[key.index()];
        conn.is_sending = false;
        match result {
            Ok(bytes) => conn.sent += bytes as usize,
            Err(Errno::AGAIN | Errno::INTR) => {}
            Err(error) => conn.over = conn.over.or(Some(Some(error))),
        }
        let out = &mut self.outs.outs[key.index()];
        out.taken = conn.sending.len().saturating_sub(conn.sent);
        if out.taken > 0 || !out.bytes.is_empty() || out.ending.is_some() {
            self.outs.mark(key);
        }
    }

    /// Frees the slot of a connection that is over, once nothing of it is in flight.
    fn settle(&mut self, key: Key, handler: &mut dyn Handler) {
        let conn = &mut self.conns[key.index()];
        let (Some(error), Some(socket)) = (conn.over, &conn.socket) else { return };
        if conn.is_receiving || conn.is_sending {
            // Lets what is in flight come back.
            let _ = rustix::net::shutdown(socket, Shutdown::Both);
            return;
        }
        conn.socket = None;
        conn.sending.clear();
        self.outs.reset(key);
        self.free.push(key);
        handler.closed(key, error.map(io::Error::from), &mut self.outs);
    }
}

impl Net for Uring {
    fn listen(&mut self, listener: TcpListener) -> io::Result<()> {
        self.listener = Some(listener);
        self.accept()
    }

    fn add(&mut self, socket: OwnedFd) -> io::Result<Key> {
        self.insert(socket, true)
    }

    fn pause(&mut self, key: Key) -> io::Result<()> {
        self.conns[key.index()].paused = true;
        let entry = opcode::AsyncCancel::new(Op::Receive(key).pack()).build();
        self.push(entry, Op::Forget)
    }

    fn turn(&mut self, wait: Option<Duration>, handler: &mut dyn Handler) -> io::Result<()> {
        self.flush()?;
        match wait {
            None => tolerate(self.ring.submit_and_wait(1))?,
            Some(wait) => {
                let wait = Timespec::from(wait);
                let args = SubmitArgs::new().timespec(&wait);
                tolerate(self.ring.submitter().submit_with_args(1, &args))?;
            }
        }
        let mut batch = std::mem::take(&mut self.batch);
        batch.extend(self.ring.completion().map(|entry| Raw {
            user_data: entry.user_data(),
            result: entry.result(),
            flags: entry.flags(),
        }));
        for raw in batch.drain(..) {
            self.complete(raw, handler)?;
        }
        self.batch = batch;
        Ok(())
    }

    fn outs(&mut self) -> &mut Outs {
        &mut self.outs
    }
}

impl Drop for Uring {
    fn drop(&mut self) {
        // The ring's end does not wait for what is in flight.
        for conn in self.conns.drain(..) {
            if conn.is_sending {
                std::mem::forget(conn.sending);
            }
        }
    }
}

/// Errors of an enter that the next turn heals: interrupted, time over, completions to reap first.
fn tolerate(entered: io::Result<usize>) -> io::Result<()> {
    match entered {
        Ok(_) => Ok(()),
        Err(error) => match error.raw_os_error() {
            Some(libc::EINTR | libc::ETIME | libc::EBUSY | libc::EAGAIN) => Ok(()),
            _ => Err(error),
        },
    }
}
