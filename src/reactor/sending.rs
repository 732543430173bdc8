//! One connection's bytes on their way out, and how far they are.

use std::os::fd::RawFd;

use io_uring::opcode;
use io_uring::squeue::{Entry, Flags};
use io_uring::types::Fd;
use shards::shard::Output;

use super::op::ConnTag;

/// Pieces of one send operation; the kernel takes 1,024 (`IOV_MAX`). More go out in the next one.
const PIECES_MAX: usize = 1024;

/// Bytes of one send operation: its length is a `u32`, its result an `i32`.
const SEND_BYTES_MAX: usize = 1 << 30;

/// What to do after a send operation has ended well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    Done,
    More,
}

/// An [`Output`] in flight. Boxed while the kernel uses it: the header's address is in the operation.
/// The pieces are made anew for each operation and point into `output`, which does not change
/// meanwhile.
#[derive(Debug)]
pub(super) struct Sending {
    /// Whose bytes they are.
    tag: Option<ConnTag>,
    socket: RawFd,
    output: Output,
    bytes: usize,
    sent: usize,
    /// The first attempt: it does not wait for the socket, and tells only of failure.
    is_attempt: bool,
    pieces: Vec<libc::iovec>,
    header: libc::msghdr,
}

impl Default for Sending {
    fn default() -> Self {
        Self {
            tag: None,
            socket: -1,
            output: Output::default(),
            bytes: 0,
            sent: 0,
            is_attempt: false,
            pieces: Vec::new(),
            header: libc::msghdr {
                msg_name: std::ptr::null_mut(),
                msg_namelen: 0,
                msg_iov: std::ptr::null_mut(),
                msg_iovlen: 0,
                msg_control: std::ptr::null_mut(),
                msg_controllen: 0,
                msg_flags: 0,
            },
        }
    }
}

impl Sending {
    pub(super) fn start(&mut self, tag: ConnTag, socket: RawFd, output: Output) {
        self.tag = Some(tag);
        self.socket = socket;
        self.bytes = output.len();
        self.sent = 0;
        self.is_attempt = true;
        self.output = output;
    }

    /// True while all that is known is that the first attempt has been asked for.
    pub(super) fn is_attempt(&self) -> bool {
        self.is_attempt
    }

    /// The same, and it is that of this connection, not of one that got its number since.
    pub(super) fn is_attempt_of(&self, tag: ConnTag) -> bool {
        self.is_attempt && self.tag == Some(tag)
    }

    /// The first attempt did not send everything: the next operation waits for the socket.
    pub(super) fn end_attempt(&mut self) {
        self.is_attempt = false;
    }

    /// Gives the output back.
    pub(super) fn finish(&mut self) -> Output {
        self.pieces.clear();
        std::mem::take(&mut self.output)
    }

    /// Counts what one operation has sent.
    pub(super) fn advance(&mut self, bytes: u32) -> Next {
        self.sent += bytes as usize;
        debug_assert!(self.sent <= self.bytes);
        if self.sent >= self.bytes { Next::Done } else { Next::More }
    }

    /// The operation that sends what is left, or as much of it as fits one operation.
    ///
    /// Most sends find room in the socket's buffer, so the first attempt does not wait for it
    /// (`MSG_DONTWAIT`): it ends inside the enter that submits it, and has a completion only if it did
    /// not send everything. Whoever submits may thus sleep in that same enter, and finds afterwards
    /// that what did not complain is done.
    pub(super) fn entry(&mut self) -> Entry {
        let mut flags = libc::MSG_NOSIGNAL | libc::MSG_WAITALL;
        // What takes several operations needs to hear of each.
        if self.bytes > SEND_BYTES_MAX || 2 * self.output.splices.len() + 1 > PIECES_MAX {
            self.is_attempt = false;
        }
        if self.is_attempt {
            flags |= libc::MSG_DONTWAIT;
        }
        let entry = self.entry_with(flags);
        if self.is_attempt { entry.flags(Flags::SKIP_SUCCESS) } else { entry }
    }

    fn entry_with(&mut self, flags: i32) -> Entry {
        if self.output.splices.is_empty() {
            let left = self.output.bytes.get(self.sent..).unwrap_or_default();
            let bytes = u32::try_from(left.len().min(SEND_BYTES_MAX)).unwrap_or(u32::MAX);
            return opcode::Send::new(Fd(self.socket), left.as_ptr(), bytes).flags(flags).build();
        }
        self.gather();
        self.header.msg_iov = self.pieces.as_mut_ptr();
        self.header.msg_iovlen = self.pieces.len();
        opcode::SendMsg::new(Fd(self.socket), &raw const self.header)
            .flags(flags.unsigned_abs())
            .build()
    }

    /// Lists the pieces from `sent` on.
    fn gather(&mut self) {
        self.pieces.clear();
        let mut skip = self.sent;
        let mut room = SEND_BYTES_MAX;
        for piece in pieces(&self.output) {
            if self.pieces.len() == PIECES_MAX || room == 0 {
                break;
            }
            let left = piece.get(skip..).unwrap_or_default();
            skip = skip.saturating_sub(piece.len());
            if left.is_empty() {
                continue;
            }
            let bytes = left.len().min(room);
            room -= bytes;
            let start = left.as_ptr().cast_mut().cast();
            self.pieces.push(libc::iovec { iov_base: start, iov_len: bytes });
        }
    }
}

/// The output's bytes in order: own bytes up to each splice, the splice, and the rest.
pub(super) fn pieces(output: &Output) -> impl Iterator<Item = &[u8]> {
    let mut start = 0;
    let spliced = output.splices.iter().flat_map(move |(end, payload)| {
        let own = output.bytes.get(start..*end).unwrap_or_default();
        start = *end;
        [own, payload]
    });
    let rest = output.splices.as_slice().last().map_or(0, |(end, _)| *end);
    spliced.chain(std::iter::once(output.bytes.get(rest..).unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tag() -> ConnTag {
        ConnTag::new(shards::ids::ConnId { index: 0, generation: 0 })
    }

    fn output() -> Output {
        Output {
            bytes: b"abcdef".to_vec(),
            splices: [(2, "XY".into()), (2, "Z".into()), (6, "!".into())].into_iter().collect(),
            ..Output::default()
        }
    }

    #[test]
    fn splices_go_out_at_their_places() {
        assert_eq!(pieces(&output()).collect::<Vec<_>>().concat(), b"abXYZcdef!");
    }

    #[test]
    fn a_short_send_goes_on_where_it_stopped() {
        for sent in 0..10_u32 {
            let mut sending = Sending::default();
            sending.start(tag(), 3, output());
            assert_eq!(sending.advance(sent), Next::More);
            sending.gather();
            let left: usize = sending.pieces.iter().map(|piece| piece.iov_len).sum();
            assert_eq!(left, 10 - sent as usize);
        }
        let mut sending = Sending::default();
        sending.start(tag(), 3, output());
        assert_eq!(sending.advance(10), Next::Done);
        assert_eq!(sending.finish().len(), 10);
    }

    #[test]
    fn more_pieces_than_one_operation_takes_are_left_for_the_next() {
        let splices = (0..1500).map(|_| (0, "xy".into())).collect();
        let mut sending = Sending::default();
        sending.start(tag(), 3, Output { splices, ..Output::default() });
        sending.gather();
        assert_eq!(sending.pieces.len(), PIECES_MAX);
        assert_eq!(sending.advance(2048), Next::More);
        sending.gather();
        assert_eq!(sending.pieces.len(), 1500 - PIECES_MAX);
    }
}
