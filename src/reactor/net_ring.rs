//! One shard's io_uring for sockets: bytes only, nothing of MQTT.
//!
//! Guarantees: memory that the kernel reads or writes (an [`Output`] being sent, receive buffers)
//! is owned here until the completion is in, and leaked rather than freed if it never comes. At most
//! one send and one receive of a connection are in flight. Lives on its shard's thread, which also
//! creates it (`SINGLE_ISSUER`).
#![expect(
    unsafe_code,
    reason = "submission entries carry addresses; the invariant is in the module docs"
)]

use std::collections::VecDeque;
use std::io;
use std::mem::ManuallyDrop;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};
use std::time::Duration;

use io_uring::squeue::{Entry, Flags};
use io_uring::types::Fd;
use io_uring::{IoUring, cqueue, opcode};
use rustix::io::Errno;
use rustix::net::{AddressFamily, Shutdown};
use shards::ids::ConnId;
use shards::shard::Output;
use shards::time::Time;

use super::alarm::Alarm;
use super::buffers::{BUFFER_GROUP, Buffers, Filled};
use super::enter::Door;
use super::op::{ConnTag, Op};
use super::sending::{Next, Sending};

/// Operations that one enter can submit; more of them in a turn cost another enter.
const SUBMISSIONS: u32 = 1024;

/// Completions that fit before the kernel keeps them in a list of its own: some turns' worth.
const COMPLETIONS: u32 = 8 * SUBMISSIONS;

/// Idle [`Sending`]s kept for the next sends.
const SPARE_SENDINGS_MAX: usize = 1024;

/// Sizes of a net ring's receive buffers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BufferSizes {
    /// A power of two.
    pub count: u16,
    pub bytes: u32,
}

/// Bit of a handle, above all descriptors.
const LAYERED: u64 = 1 << 32;

/// A connected socket as the kernel numbers it. Closing it is the owner's duty ([`NetRing::close`]),
/// because it may move to another shard, or wait for operations in flight.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Socket(RawFd);

impl Socket {
    /// The number that travels with a connection that moves ([`shards::shard::Origin`]), and whether its
    /// layers follow it.
    pub(super) fn handle(&self, is_layered: bool) -> u64 {
        u64::from(self.0.unsigned_abs()) | if is_layered { LAYERED } else { 0 }
    }

    /// True for the handle of a connection that has layers.
    pub(super) fn is_layered(handle: u64) -> bool {
        handle & LAYERED != 0
    }

    /// The socket behind a handle. `None` if it cannot be a descriptor's number.
    pub(super) fn from_handle(handle: u64) -> Option<Self> {
        RawFd::try_from(handle & !LAYERED).ok().map(Self)
    }

    /// Where the peer is. A unix socket's is nowhere: the unspecified address, port 0, which no TCP
    /// connection comes from.
    pub(super) fn peer(&self) -> Result<SocketAddr, Errno> {
        let Some(peer) = rustix::net::getpeername(self.borrow())? else {
            return Err(Errno::NOTCONN);
        };
        if peer.address_family() == AddressFamily::UNIX {
            return Ok(SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)));
        }
        SocketAddr::try_from(peer).map_err(|_| Errno::AFNOSUPPORT)
    }

    /// The user of the process at the other end of a unix socket, as it was when it connected.
    pub(super) fn peer_user(&self) -> Result<u32, Errno> {
        rustix::net::sockopt::socket_peercred(self.borrow()).map(|peer| peer.uid.as_raw())
    }

    /// Ends our side or both sides, at once. A system call of its own: io_uring hands its shutdown
    /// operation to a worker thread, which costs more.
    pub(super) fn shutdown(&self, how: Shutdown) {
        // The peer may be gone already (ENOTCONN), which is what was wanted.
        let _ = rustix::net::shutdown(self.borrow(), how);
    }

    fn borrow(&self) -> BorrowedFd<'_> {
        // SAFETY: a `Socket` is made from an accepted descriptor that is open until `close`.
        unsafe { BorrowedFd::borrow_raw(self.0) }
    }
}

/// Something that ended, or went on, in the kernel.
#[derive(Debug)]
pub(super) enum Completion {
    /// `armed`: the accept goes on by itself.
    Accepted { listener: u32, result: Result<Socket, Errno>, armed: bool },
    /// `Ok(None)`: the peer ended its side. `armed`: the receive goes on by itself.
    Received { tag: ConnTag, result: Result<Option<Filled>, Errno>, armed: bool },
    /// All of the output is with the kernel, or nothing more of it will be.
    Sent { tag: ConnTag, output: Output, result: Result<(), Errno> },
    /// The bell's poll; `armed` as above.
    Bell { armed: bool },
    /// The doorbell's poll has ended. As long as it has not, its completions only end a sleep.
    DoorbellEnded,
    /// Nothing to do.
    Nothing,
}

/// A completion as it came, copied out of the queue.
#[derive(Clone, Copy, Debug)]
pub(super) struct Raw {
    user_data: u64,
    result: i32,
    flags: u32,
}

/// See the module's documentation.
pub(super) struct NetRing {
    /// Before the ring, to be dropped first.
    door: Door,
    ring: IoUring,
    alarm: Alarm,
    buffers: ManuallyDrop<Buffers>,
    /// By connection index: what is being sent.
    sends: Vec<Option<Box<Sending>>>,
    #[expect(
        clippy::vec_box,
        reason = "the boxes are what is kept; their addresses go to the kernel"
    )]
    spare: Vec<Box<Sending>>,
    /// First attempts that were asked for since they were last concluded, also those that have failed.
    attempts: Vec<ConnTag>,
    /// Entries that found the queue full while the kernel took no more; oldest first.
    backlog: VecDeque<Entry>,
    /// Sends and receives in flight: operations that use memory of ours.
    borrowed: u32,
}

impl std::fmt::Debug for NetRing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NetRing")
            .field("buffers", &self.buffers)
            .field("borrowed", &self.borrowed)
            .finish_non_exhaustive()
    }
}

impl NetRing {
    /// Must be called on the thread that will use it.
    pub(super) fn new(sizes: BufferSizes) -> io::Result<Self> {
        Self::with_queues(sizes, SUBMISSIONS, COMPLETIONS)
    }

    fn with_queues(sizes: BufferSizes, submissions: u32, completions: u32) -> io::Result<Self> {
        let ring = build_ring(submissions, completions)?;
        let mut buffers = Buffers::new(sizes.count, sizes.bytes)?;
        buffers.register(&ring.submitter())?;
        Ok(Self {
            door: Door::new(&ring),
            alarm: Alarm::default(),
            ring,
            buffers: ManuallyDrop::new(buffers),
            sends: Vec::new(),
            spare: Vec::new(),
            attempts: Vec::new(),
            backlog: VecDeque::new(),
            borrowed: 0,
        })
    }

    pub(super) fn accept(&mut self, listener: u32, socket: BorrowedFd<'_>) {
        let entry = opcode::AcceptMulti::new(Fd(socket.as_raw_fd())).flags(libc::SOCK_CLOEXEC);
        self.push(entry.build().user_data(Op::Accept { listener }.pack()));
    }

    pub(super) fn cancel_accept(&mut self, listener: u32) {
        self.cancel(Op::Accept { listener });
    }

    /// One receive into a buffer that the kernel picks when bytes come.
    pub(super) fn receive_once(&mut self, conn: ConnId, socket: &Socket) {
        let bytes = self.buffers.buffer_bytes();
        let entry = opcode::Recv::new(Fd(socket.0), std::ptr::null_mut(), bytes)
            .buf_group(BUFFER_GROUP)
            .build()
            .flags(Flags::BUFFER_SELECT);
        self.borrowed += 1;
        self.push(entry.user_data(Op::Receive(ConnTag::new(conn)).pack()));
    }

    /// Receives until the peer ends, an error comes or it is cancelled.
    pub(super) fn receive_stream(&mut self, conn: ConnId, socket: &Socket) {
        let entry = opcode::RecvMulti::new(Fd(socket.0), BUFFER_GROUP).build();
        self.borrowed += 1;
        self.push(entry.user_data(Op::Receive(ConnTag::new(conn)).pack()));
    }

    /// Asks the receive to end; its last completion says when it has.
    pub(super) fn cancel_receive(&mut self, conn: ConnId) {
        self.cancel(Op::Receive(ConnTag::new(conn)));
    }

    /// Sends all of `output`, in order. The connection must have nothing else in flight.
    pub(super) fn send(&mut self, conn: ConnId, socket: &Socket, output: Output) {
        let index = conn.index as usize;
        if self.sends.len() <= index {
            self.sends.resize_with(index + 1, || None);
        }
        let mut sending = self.spare.pop().unwrap_or_default();
        let tag = ConnTag::new(conn);
        sending.start(tag, socket.0, output);
        let entry = sending.entry();
        if sending.is_attempt() {
            self.attempts.push(tag);
        }
        let before = self.sends.get_mut(index).and_then(|slot| slot.replace(sending));
        if let Some(before) = before {
            // The kernel may still read it.
            std::mem::forget(before);
            panic!("connection {conn:?} has two sends in flight");
        }
        self.borrowed += 1;
        self.push(entry.user_data(Op::Send(tag).pack()));
    }

    /// Closes the socket. Nothing of it may be in flight.
    pub(super) fn close(&mut self, socket: Socket) {
        let entry = opcode::Close::new(Fd(socket.0)).build().user_data(Op::Forget.pack());
        self.push(entry.flags(Flags::SKIP_SUCCESS));
    }

    /// Watches the eventfd that other threads ring, for as long as the ring lives.
    pub(super) fn watch_bell(&mut self, eventfd: BorrowedFd<'_>) {
        self.watch(eventfd, Op::Bell);
    }

    /// The same for the eventfd that other shards ring after mail.
    pub(super) fn watch_doorbell(&mut self, eventfd: BorrowedFd<'_>) {
        self.watch(eventfd, Op::Doorbell);
    }

    fn watch(&mut self, eventfd: BorrowedFd<'_>, op: Op) {
        let events = u32::from(libc::POLLIN.unsigned_abs());
        let entry = opcode::PollAdd::new(Fd(eventfd.as_raw_fd()), events).multi(true).build();
        self.push(entry.user_data(op.pack()));
    }

    /// What was received.
    pub(super) fn bytes(&self, filled: &Filled) -> &[u8] {
        self.buffers.bytes(filled)
    }

    pub(super) fn give_back(&mut self, filled: Filled) {
        self.buffers.give_back(filled);
    }

    /// Sends and receives in flight.
    pub(super) fn borrowed(&self) -> u32 {
        self.borrowed
    }

    /// True if completions wait. Reads memory only.
    pub(super) fn has_completions(&mut self) -> bool {
        !self.ring.completion().is_empty() || self.ring.submission().cq_overflow()
    }

    /// True if the kernel says that an enter would find work, and perhaps completions. It may be wrong:
    /// it raises the flag after it has queued the work, so an enter on this thread can take the work
    /// and lower the flag in between, and the flag then stays up until the next work. Whoever enters
    /// without waiting for as long as it is up makes system calls for nothing all that time; an enter
    /// that waits looks at the queue itself.
    pub(super) fn is_called(&mut self) -> bool {
        self.ring.submission().taskrun()
    }

    /// Submits what was asked for and runs the kernel's deferred work, without waiting. No system
    /// call if there is nothing of both.
    pub(super) fn submit(&mut self) -> io::Result<()> {
        self.refill();
        let submission = self.ring.submission();
        let count = submission.len();
        let is_called = submission.taskrun() || submission.cq_overflow();
        drop(submission);
        if count == 0 && !is_called {
            return Ok(());
        }
        tolerate(self.door.submit(narrow(count), is_called))
    }

    /// Like [`Self::submit`], and sleeps until a completion comes or `timeout` is over.
    pub(super) fn submit_and_sleep(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        self.refill();
        let count = self.ring.submission().len();
        tolerate(self.door.submit_and_wait(narrow(count), timeout))
    }

    /// Like [`Self::submit`], and sleeps until a completion comes or the time of `alarm`, or one that
    /// was named before and is not over.
    pub(super) fn sleep_until(&mut self, alarm: Option<Time>) -> io::Result<()> {
        if let Some(alarm) = alarm {
            self.set_alarm(alarm);
        }
        self.submit_and_sleep(None)
    }

    fn set_alarm(&mut self, alarm: Time) {
        if let Some(entry) = self.alarm.set(alarm) {
            self.push(entry);
        }
    }

    /// Appends at most `max` completions to `batch`.
    pub(super) fn reap(&mut self, max: usize, batch: &mut Vec<Raw>) {
        let completions = self.ring.completion().take(max);
        batch.extend(completions.map(|entry| Raw {
            user_data: entry.user_data(),
            result: entry.result(),
            flags: entry.flags(),
        }));
        if self.attempts.is_empty() {
            return;
        }
        for raw in batch.iter() {
            if let Some(Op::Send(tag)) = Op::unpack(raw.user_data)
                && let Some(Some(sending)) = self.sends.get_mut(tag.index as usize)
            {
                sending.end_attempt();
            }
        }
    }

    /// Appends the first attempts that have sent everything. An attempt ends inside the enter that
    /// takes it, and leaves a completion only if it failed: so, once the kernel has taken all that was
    /// submitted and all completions are reaped, those without one are done.
    pub(super) fn conclude(&mut self, done: &mut Vec<(ConnTag, Output)>) {
        if self.attempts.is_empty() || !self.backlog.is_empty() {
            return;
        }
        let submission = self.ring.submission();
        let is_taken = submission.is_empty() && !submission.cq_overflow();
        drop(submission);
        if !is_taken || !self.ring.completion().is_empty() {
            return;
        }
        for tag in self.attempts.drain(..) {
            let Some(slot) = self.sends.get_mut(tag.index as usize) else { continue };
            if let Some(mut sending) = slot.take_if(|sending| sending.is_attempt_of(tag)) {
                self.borrowed -= 1;
                done.push((tag, sending.finish()));
                if self.spare.len() < SPARE_SENDINGS_MAX {
                    self.spare.push(sending);
                }
            }
        }
    }

    /// What a completion means. Each must come here exactly once.
    pub(super) fn interpret(&mut self, raw: Raw) -> Completion {
        let armed = cqueue::more(raw.flags);
        let result = u32::try_from(raw.result)
            .map_err(|_| Errno::from_raw_os_error(raw.result.saturating_neg()));
        match Op::unpack(raw.user_data) {
            Some(Op::Accept { listener }) => {
                let result = result.map(|fd| Socket(fd.cast_signed()));
                Completion::Accepted { listener, result, armed }
            }
            Some(Op::Receive(tag)) => {
                if !armed {
                    self.borrowed -= 1;
                }
                let result = result.map(|bytes| self.take_filled(raw.flags, bytes));
                Completion::Received { tag, result, armed }
            }
            Some(Op::Send(tag)) => self.on_sent(tag, result),
            Some(Op::Bell) => Completion::Bell { armed },
            Some(Op::Alarm) => {
                self.alarm.fired();
                Completion::Nothing
            }
            Some(Op::Doorbell) if !armed => Completion::DoorbellEnded,
            Some(Op::Forget | Op::Doorbell) | None => Completion::Nothing,
        }
    }

    /// `None` at the end of the stream. The kernel may name a buffer although it put nothing in.
    fn take_filled(&mut self, flags: u32, bytes: u32) -> Option<Filled> {
        let filled = cqueue::buffer_select(flags).map(|id| self.buffers.filled(id, bytes))?;
        if bytes == 0 {
            self.buffers.give_back(filled);
            return None;
        }
        Some(filled)
    }

    fn on_sent(&mut self, tag: ConnTag, result: Result<u32, Errno>) -> Completion {
        let slot = self.sends.get_mut(tag.index as usize);
        let Some(slot) = slot else { return Completion::Nothing };
        let Some(mut sending) = slot.take() else { return Completion::Nothing };
        let result = match result.map(|bytes| sending.advance(bytes)) {
            Ok(Next::Done) => Ok(()),
            Err(errno) if errno != Errno::AGAIN && errno != Errno::INTR => Err(errno),
            Ok(Next::More) | Err(_) => {
                let entry = sending.entry();
                *slot = Some(sending);
                self.push(entry.user_data(Op::Send(tag).pack()));
                return Completion::Nothing;
            }
        };
        self.borrowed -= 1;
        let output = sending.finish();
        if self.spare.len() < SPARE_SENDINGS_MAX {
            self.spare.push(sending);
        }
        Completion::Sent { tag, output, result }
    }

    fn cancel(&mut self, op: Op) {
        let entry = opcode::AsyncCancel::new(op.pack()).build().user_data(Op::Forget.pack());
        self.push(entry.flags(Flags::SKIP_SUCCESS));
    }

    fn push(&mut self, entry: Entry) {
        // What waits already must go first.
        if self.backlog.is_empty() && self.try_push(&entry) {
            return;
        }
        self.backlog.push_back(entry);
        // An error here comes again at the turn's enter, where it is looked at.
        let _ = self.submit();
    }

    fn refill(&mut self) {
        while let Some(entry) = self.backlog.pop_front() {
            if !self.try_push(&entry) {
                self.backlog.push_front(entry);
                break;
            }
        }
    }

    fn try_push(&mut self, entry: &Entry) -> bool {
        let mut submission = self.ring.submission();
        // SAFETY: every entry is built in this module: descriptors are numbers, the memory of a send
        // is held in `sends` and that of receives in `buffers` until the completion is in.
        unsafe { submission.push(entry) }.is_ok()
    }
}

impl Drop for NetRing {
    fn drop(&mut self) {
        let unregistered = self.ring.submitter().unregister_buf_ring(BUFFER_GROUP);
        if self.borrowed == 0 && unregistered.is_ok() {
            // SAFETY: dropped once, here; the kernel has given the memory back.
            unsafe { ManuallyDrop::drop(&mut self.buffers) };
        }
        for sending in self.sends.drain(..).flatten() {
            std::mem::forget(sending);
        }
    }
}

fn build_ring(submissions: u32, completions: u32) -> io::Result<IoUring> {
    IoUring::builder()
        // Only this thread submits, and completions are made when it asks for them: no interrupts
        // in the middle of a turn, one enter for many packets.
        .setup_single_issuer()
        .setup_defer_taskrun()
        .setup_coop_taskrun()
        .setup_taskrun_flag()
        .setup_submit_all()
        .setup_cqsize(completions)
        .build(submissions)
}

/// Entries in a queue, as the kernel counts them.
fn narrow(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

/// Errors of an enter that the next turn heals: interrupted, the timeout is over, completions must be
/// reaped first.
fn tolerate(entered: io::Result<()>) -> io::Result<()> {
    match entered {
        Ok(()) => Ok(()),
        Err(error) => match error.raw_os_error() {
            Some(libc::EINTR | libc::ETIME | libc::EBUSY | libc::EAGAIN) => Ok(()),
            _ => Err(error),
        },
    }
}

/// Makes a net ring as a shard would, and gives it back: do the kernel and the limits allow it?
pub(crate) fn probe(sizes: BufferSizes) -> io::Result<Vec<&'static str>> {
    let net = NetRing::new(sizes)?;
    let mut probe = io_uring::Probe::new();
    net.ring.submitter().register_probe(&mut probe)?;
    let needed = [
        ("accept", opcode::AcceptMulti::CODE),
        ("receive", opcode::Recv::CODE),
        ("send", opcode::Send::CODE),
        ("send message", opcode::SendMsg::CODE),
        ("cancel", opcode::AsyncCancel::CODE),
        ("close", opcode::Close::CODE),
        ("poll", opcode::PollAdd::CODE),
    ];
    Ok(needed
        .into_iter()
        .filter(|(_, code)| !probe.is_supported(*code))
        .map(|(name, _)| name)
        .collect())
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::os::fd::{IntoRawFd as _, OwnedFd};
    use std::os::unix::net::UnixStream;

    use super::super::bell::Bell;
    use super::super::clock::monotonic;
    use super::*;

    const SIZES: BufferSizes = BufferSizes { count: 2, bytes: 256 };

    #[test]
    fn full_queues_lose_nothing() {
        let mut net = NetRing::with_queues(SIZES, 2, 4).unwrap();
        let bell = Bell::new().unwrap();
        bell.ring();
        for _ in 0..100 {
            net.watch_bell(bell.fd());
        }
        let (mut batch, mut heard) = (Vec::new(), 0);
        while heard < 100 {
            net.submit_and_sleep(Some(Duration::from_secs(10))).unwrap();
            net.reap(3, &mut batch);
            assert!(!batch.is_empty(), "only {heard} of 100 completions came");
            for raw in batch.drain(..) {
                assert!(matches!(net.interpret(raw), Completion::Bell { .. }));
                heard += 1;
            }
        }
    }

    #[test]
    fn a_bell_from_another_thread_ends_a_sleep() {
        let mut net = NetRing::new(SIZES).unwrap();
        let bell = std::sync::Arc::new(Bell::new().unwrap());
        net.watch_bell(bell.fd());
        let ringer = std::sync::Arc::clone(&bell);
        let thread = std::thread::spawn(move || ringer.ring());
        net.submit_and_sleep(Some(Duration::from_secs(20))).unwrap();
        assert!(net.has_completions());
        thread.join().unwrap();
    }

    fn output(bytes: usize) -> Output {
        Output { bytes: vec![7; bytes], ..Output::default() }
    }

    /// Our end, which takes no more bytes, and the peer's.
    fn full_pair() -> (Socket, UnixStream) {
        let (mut ours, theirs) = UnixStream::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        while ours.write(&[0; 4096]).is_ok() {}
        (Socket(OwnedFd::from(ours).into_raw_fd()), theirs)
    }

    #[test]
    fn an_attempt_that_failed_is_not_taken_for_that_of_a_successor() {
        let mut net = NetRing::new(SIZES).unwrap();
        let bell = Bell::new().unwrap();
        bell.ring();
        let (old, new) = (ConnId { index: 0, generation: 1 }, ConnId { index: 0, generation: 2 });
        let (full, peer) = full_pair();
        let (mut batch, mut done) = (Vec::new(), Vec::new());
        net.watch_bell(bell.fd());
        net.send(old, &full, output(10));
        net.watch_bell(bell.fd());
        net.submit().unwrap();
        // The attempt fails, and the peer is gone before all completions are reaped.
        drop(peer);
        let mut ended = None;
        while ended.is_none() {
            bell.ring();
            net.submit().unwrap();
            net.reap(1, &mut batch);
            net.conclude(&mut done);
            for raw in batch.drain(..) {
                if let Completion::Sent { tag, result, .. } = net.interpret(raw) {
                    ended = Some((tag, result.is_err()));
                }
            }
            assert!(net.has_completions(), "the list is looked at only when all is reaped");
        }
        assert_eq!(ended, Some((ConnTag::new(old), true)));
        assert!(done.is_empty());
        // Its number is given out again.
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let socket = Socket(OwnedFd::from(ours).into_raw_fd());
        net.send(new, &socket, output(10));
        net.submit().unwrap();
        net.reap(100, &mut batch);
        net.conclude(&mut done);
        let concluded: Vec<_> = done.iter().map(|(tag, _)| *tag).collect();
        assert_eq!(concluded, [ConnTag::new(new)]);
        theirs.read_exact(&mut [0; 10]).unwrap();
        net.close(full);
        net.close(socket);
        net.submit().unwrap();
    }

    #[test]
    fn a_sleep_ends_at_the_nearest_deadline_that_was_named() {
        let mut net = NetRing::new(SIZES).unwrap();
        let far = monotonic() + Duration::from_secs(3600);
        let mut batch = Vec::new();
        let mut sleep = |alarms: &[Time]| {
            let (&last, before) = alarms.split_last().unwrap();
            for &alarm in before {
                net.set_alarm(alarm);
                net.submit().unwrap();
            }
            net.sleep_until(Some(last)).unwrap();
            assert!(alarms.iter().any(|&alarm| monotonic() >= alarm));
            net.reap(10, &mut batch);
            assert_eq!(batch.len(), 1, "one timer, whatever was named");
            net.interpret(batch.remove(0));
        };
        let soon = || monotonic() + Duration::from_millis(5);
        sleep(&[far, soon()]);
        sleep(&[soon(), far]);
        sleep(&[soon()]);
    }

    #[test]
    fn a_sleep_ends_at_its_deadline() {
        let mut net = NetRing::new(SIZES).unwrap();
        net.submit_and_sleep(Some(Duration::from_micros(100))).unwrap();
        assert!(!net.has_completions());
    }
}
