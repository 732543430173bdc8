//! Sockets in batches, one thread: bytes only, nothing of MQTT. The load generator and the relay
//! floors stand on the same code, once over epoll and once over io_uring.
//!
//! A turn sends what was appended since the last one (at most one send for each connection), then
//! reads what has come. Whoever handles the bytes appends the next ones to [`Outs`].

mod buffers;
pub(crate) mod epoll;
pub(crate) mod uring;

use std::io;
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::time::Duration;

/// A connection's place, from its opening until [`Handler::closed`]; then it is used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Key(u32);

impl Key {
    /// Position in tables that are kept by connection.
    pub(crate) fn index(self) -> usize {
        self.0 as usize
    }

    fn from_index(index: usize) -> io::Result<Self> {
        u32::try_from(index).map(Self).map_err(|_| io::ErrorKind::OutOfMemory.into())
    }
}

/// Sockets of one thread.
pub(crate) trait Net {
    /// Takes connections from `listener` until the end.
    fn listen(&mut self, listener: TcpListener) -> io::Result<()>;

    /// Takes a socket whose connect is on its way; [`Handler::opened`] says when it is through.
    fn add(&mut self, socket: OwnedFd) -> io::Result<Key>;

    /// Reads nothing more of this connection.
    fn pause(&mut self, key: Key) -> io::Result<()>;

    /// Sends, waits at most so long (`None`: until something happens), reads.
    fn turn(&mut self, wait: Option<Duration>, handler: &mut dyn Handler) -> io::Result<()>;

    fn outs(&mut self) -> &mut Outs;
}

/// Who hears what happens in a turn.
pub(crate) trait Handler {
    /// Connected or accepted.
    fn opened(&mut self, key: Key, outs: &mut Outs);

    fn received(&mut self, key: Key, bytes: &[u8], outs: &mut Outs);

    /// The last word of this connection; `None`: the peer ended it in order.
    fn closed(&mut self, key: Key, error: Option<io::Error>, outs: &mut Outs);
}

/// What waits to be sent, by connection.
#[derive(Debug, Default)]
pub(crate) struct Outs {
    outs: Vec<Out>,
    /// Connections that a turn has to look at.
    marked: Vec<Key>,
}

#[derive(Debug, Default)]
struct Out {
    bytes: Vec<u8>,
    /// Bytes that the implementation has taken out and not yet given to the kernel.
    taken: usize,
    marked: bool,
    ending: Option<Ending>,
}

/// How our side ends a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// When all is sent; the peer may still send.
    Flushed,
    /// At once, both ways.
    Now,
}

impl Outs {
    /// Append here what is to be sent with the next turn.
    pub(crate) fn buffer(&mut self, key: Key) -> &mut Vec<u8> {
        let out = &mut self.outs[key.index()];
        if !out.marked {
            out.marked = true;
            self.marked.push(key);
        }
        &mut out.bytes
    }

    /// Bytes that the kernel has not taken yet.
    pub(crate) fn waiting(&self, key: Key) -> usize {
        let out = &self.outs[key.index()];
        out.bytes.len() + out.taken
    }

    pub(crate) fn end(&mut self, key: Key, ending: Ending) {
        self.outs[key.index()].ending = Some(ending);
        self.mark(key);
    }

    fn mark(&mut self, key: Key) {
        let out = &mut self.outs[key.index()];
        if !out.marked {
            out.marked = true;
            self.marked.push(key);
        }
    }

    /// A clean place for a new connection.
    fn reset(&mut self, key: Key) {
        let index = key.index();
        if self.outs.len() <= index {
            self.outs.resize_with(index + 1, Out::default);
        }
        let out = &mut self.outs[index];
        out.bytes.clear();
        out.taken = 0;
        out.ending = None;
    }
}
