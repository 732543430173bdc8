//! [`Net`] over epoll, level-triggered: one read and one write for each ready connection and turn.

use std::io;
use std::net::TcpListener;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use rustix::buffer::spare_capacity;
use rustix::event::{Timespec, epoll};
use rustix::io::Errno;
use rustix::net::{Shutdown, SocketFlags};

use super::{Ending, Handler, Key, Net, Outs};

/// Bytes of one read, for all connections in turn. As much as a loopback socket usually holds.
const READ_BYTES: usize = 256 * 1024;

/// Ready connections that one wait may report; the others come with the next.
const EVENTS: usize = 1024;

/// The listener's number among the events.
const LISTENER: u64 = u64::MAX;

pub(crate) struct Epoll {
    epoll: OwnedFd,
    listener: Option<TcpListener>,
    conns: Vec<Option<Conn>>,
    free: Vec<Key>,
    outs: Outs,
    events: Vec<epoll::Event>,
    read: Vec<u8>,
}

#[derive(Debug)]
struct Conn {
    socket: OwnedFd,
    /// Bytes of the out buffer that the kernel has.
    sent: usize,
    connecting: bool,
    paused: bool,
    /// What epoll watches now.
    watched: epoll::EventFlags,
}

impl Epoll {
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self {
            epoll: epoll::create(epoll::CreateFlags::CLOEXEC)?,
            listener: None,
            conns: Vec::new(),
            free: Vec::new(),
            outs: Outs::default(),
            events: Vec::with_capacity(EVENTS),
            read: vec![0; READ_BYTES],
        })
    }

    fn insert(&mut self, socket: OwnedFd, connecting: bool) -> io::Result<Key> {
        let key = match self.free.pop() {
            Some(key) => key,
            None => {
                self.conns.push(None);
                Key::from_index(self.conns.len() - 1)?
            }
        };
        let watched = if connecting { epoll::EventFlags::OUT } else { epoll::EventFlags::IN };
        let data = epoll::EventData::new_u64(u64::from(key.0));
        epoll::add(&self.epoll, &socket, data, watched)?;
        self.outs.reset(key);
        let conn = Conn { socket, sent: 0, connecting, paused: false, watched };
        self.conns[key.index()] = Some(conn);
        Ok(key)
    }

    /// Sends what was appended since the last turn, and ends what is to end.
    fn flush(&mut self, handler: &mut dyn Handler) -> io::Result<()> {
        let mut marked = std::mem::take(&mut self.outs.marked);
        for key in marked.drain(..) {
            self.outs.outs[key.index()].marked = false;
            if let Err(error) = self.send(key) {
                self.close(key, Some(error.into()), handler);
            }
        }
        // Whatever `closed` marked meanwhile comes with the next turn.
        marked.append(&mut self.outs.marked);
        self.outs.marked = marked;
        Ok(())
    }

    fn send(&mut self, key: Key) -> Result<(), Errno> {
        let Some(conn) = self.conns[key.index()].as_mut() else { return Ok(()) };
        let out = &mut self.outs.outs[key.index()];
        if out.ending == Some(Ending::Now) {
            // Gone already is what was wanted; the end is read from the socket.
            let _ = rustix::net::shutdown(&conn.socket, Shutdown::Both);
            return self.watch(key);
        }
        if conn.connecting {
            return Ok(());
        }
        while conn.sent < out.bytes.len() {
            let flags = rustix::net::SendFlags::NOSIGNAL;
            match rustix::net::send(&conn.socket, &out.bytes[conn.sent..], flags) {
                Ok(bytes) => conn.sent += bytes,
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => break,
                Err(error) => return Err(error),
            }
        }
        if conn.sent >= out.bytes.len() {
            out.bytes.clear();
            conn.sent = 0;
            if out.ending.take() == Some(Ending::Flushed) {
                let _ = rustix::net::shutdown(&conn.socket, Shutdown::Write);
            }
        } else if conn.sent > out.bytes.len() / 2 {
            out.bytes.drain(..conn.sent);
            conn.sent = 0;
        }
        self.watch(key)
    }

    /// Tells epoll what matters for this connection now, if that has changed.
    fn watch(&mut self, key: Key) -> Result<(), Errno> {
        let Some(conn) = self.conns[key.index()].as_mut() else { return Ok(()) };
        let mut wanted = epoll::EventFlags::empty();
        if conn.connecting || !self.outs.outs[key.index()].bytes.is_empty() {
            wanted |= epoll::EventFlags::OUT;
        }
        if !conn.connecting && !conn.paused {
            wanted |= epoll::EventFlags::IN;
        }
        if wanted == conn.watched {
            return Ok(());
        }
        conn.watched = wanted;
        let data = epoll::EventData::new_u64(u64::from(key.0));
        epoll::modify(&self.epoll, &conn.socket, data, wanted)
    }

    fn ready(
        &mut self,
        key: Key,
        flags: epoll::EventFlags,
        handler: &mut dyn Handler,
    ) -> io::Result<()> {
        let Some(conn) = self.conns[key.index()].as_mut() else { return Ok(()) };
        if conn.connecting {
            if let Err(error) = rustix::net::sockopt::socket_error(&conn.socket)? {
                self.close(key, Some(error.into()), handler);
                return Ok(());
            }
            conn.connecting = false;
            handler.opened(key, &mut self.outs);
            self.outs.mark(key);
            return Ok(());
        }
        if flags.contains(epoll::EventFlags::OUT) {
            self.outs.mark(key);
        }
        let ends = epoll::EventFlags::HUP | epoll::EventFlags::ERR;
        if flags.contains(epoll::EventFlags::IN) || flags.intersects(ends) {
            self.receive(key, handler);
        }
        Ok(())
    }

    fn receive(&mut self, key: Key, handler: &mut dyn Handler) {
        let Some(conn) = self.conns[key.index()].as_ref() else { return };
        match rustix::io::read(&conn.socket, &mut self.read[..]) {
            Ok(0) => self.close(key, None, handler),
            Ok(bytes) => handler.received(key, &self.read[..bytes], &mut self.outs),
            Err(Errno::AGAIN | Errno::INTR) => {}
            Err(error) => self.close(key, Some(error.into()), handler),
        }
    }

    fn close(&mut self, key: Key, error: Option<io::Error>, handler: &mut dyn Handler) {
        if self.conns[key.index()].take().is_some() {
            self.outs.reset(key);
            self.free.push(key);
            handler.closed(key, error, &mut self.outs);
        }
    }

    /// Takes the connections that wait, at most so many as fit one report.
    fn accept(&mut self, handler: &mut dyn Handler) -> io::Result<()> {
        for _ in 0..EVENTS {
            let Some(listener) = &self.listener else { return Ok(()) };
            let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
            let socket = match rustix::net::accept_with(listener, flags) {
                Ok(socket) => socket,
                Err(Errno::AGAIN) => return Ok(()),
                Err(Errno::INTR | Errno::CONNABORTED) => continue,
                Err(error) => return Err(error.into()),
            };
            rustix::net::sockopt::set_tcp_nodelay(&socket, true)?;
            let key = self.insert(socket, false)?;
            handler.opened(key, &mut self.outs);
        }
        Ok(())
    }
}

impl Net for Epoll {
    fn listen(&mut self, listener: TcpListener) -> io::Result<()> {
        listener.set_nonblocking(true)?;
        let data = epoll::EventData::new_u64(LISTENER);
        epoll::add(&self.epoll, listener.as_fd(), data, epoll::EventFlags::IN)?;
        self.listener = Some(listener);
        Ok(())
    }

    fn add(&mut self, socket: OwnedFd) -> io::Result<Key> {
        self.insert(socket, true)
    }

    fn pause(&mut self, key: Key) -> io::Result<()> {
        if let Some(conn) = self.conns[key.index()].as_mut() {
            conn.paused = true;
        }
        Ok(self.watch(key)?)
    }

    fn turn(&mut self, wait: Option<Duration>, handler: &mut dyn Handler) -> io::Result<()> {
        self.flush(handler)?;
        let timeout = match wait {
            Some(wait) => Some(Timespec::try_from(wait).map_err(|_| Errno::INVAL)?),
            None => None,
        };
        let mut events = std::mem::take(&mut self.events);
        events.clear();
        match epoll::wait(&self.epoll, spare_capacity(&mut events), timeout.as_ref()) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        for event in &events {
            let (data, flags) = (event.data, event.flags);
            if data.u64() == LISTENER {
                self.accept(handler)?;
            } else if let Ok(index) = u32::try_from(data.u64()) {
                self.ready(Key(index), flags, handler)?;
            }
        }
        self.events = events;
        Ok(())
    }

    fn outs(&mut self) -> &mut Outs {
        &mut self.outs
    }
}
