//! One shard's listening sockets and their accepts.

use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rustix::io::Errno;
use shards::time::Time;

use super::net_ring::NetRing;
use crate::accounts::Accounts;

/// How long a listener rests after the process ran out of descriptors or memory, unless a connection
/// is closed earlier.
const REST: Duration = Duration::from_millis(100);

/// A bound, listening socket of one shard.
#[derive(Debug)]
pub struct Listener {
    pub socket: OwnedFd,
    /// Position in the configuration.
    pub position: u16,
    pub bound: Bound,
}

/// What a listener is bound to.
#[derive(Clone, Debug)]
pub enum Bound {
    Tcp(SocketAddr),
    Unix {
        path: PathBuf,
        /// If the user of the process at the other end is who a client is: the names of all users.
        accounts: Option<Arc<Accounts>>,
    },
}

impl Bound {
    /// The address, unless it is a unix socket.
    #[must_use]
    pub fn address(&self) -> Option<SocketAddr> {
        match self {
            Self::Tcp(address) => Some(*address),
            Self::Unix { .. } => None,
        }
    }
}

#[derive(Debug)]
struct Accepting {
    /// `None` after it was closed.
    listener: Option<Listener>,
    armed: bool,
}

/// All listeners of one shard.
#[derive(Debug)]
pub(super) struct Listeners {
    all: Vec<Accepting>,
    /// No accept before this time.
    rest_until: Option<Time>,
    stopping: bool,
    /// Accepts that failed for want of descriptors or memory since the last line about it.
    starved: u64,
}

impl Listeners {
    pub(super) fn start(listeners: Vec<Listener>, net: &mut NetRing) -> Self {
        let all = listeners.into_iter();
        let all =
            all.map(|listener| Accepting { listener: Some(listener), armed: false }).collect();
        let mut listeners = Self { all, rest_until: None, stopping: false, starved: 0 };
        listeners.arm(net);
        listeners
    }

    /// Which listener of the configuration this is.
    pub(super) fn position(&self, index: u32) -> u16 {
        let accepting = self.all.get(index as usize);
        accepting.and_then(|accepting| accepting.listener.as_ref()).map_or(0, |l| l.position)
    }

    /// How users are called, on a listener where they are the identity of its clients.
    pub(super) fn accounts(&self, position: u16) -> Option<&Accounts> {
        let listeners = self.all.iter().filter_map(|accepting| accepting.listener.as_ref());
        listeners.filter(|listener| listener.position == position).find_map(|listener| {
            match &listener.bound {
                Bound::Tcp(_) => None,
                Bound::Unix { accounts, .. } => accounts.as_deref(),
            }
        })
    }

    /// Takes note of an accept's completion and goes on accepting if that makes sense.
    pub(super) fn on_accepted(
        &mut self,
        index: u32,
        error: Option<Errno>,
        armed: bool,
        now: Time,
        net: &mut NetRing,
    ) {
        if let Some(Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM) = error {
            self.starve(error, now);
        }
        let Some(accepting) = self.all.get_mut(index as usize) else { return };
        accepting.armed = armed;
        if armed {
            return;
        }
        if self.stopping {
            accepting.listener = None;
        } else if self.rest_until.is_none() {
            self.arm(net);
        }
    }

    /// A connection was closed, so there is a descriptor again.
    pub(super) fn on_closed(&mut self, net: &mut NetRing) {
        if self.rest_until.take().is_some() {
            self.arm(net);
        }
    }

    /// Goes on accepting when the rest is over.
    pub(super) fn retry(&mut self, now: Time, net: &mut NetRing) {
        if self.rest_until.is_some_and(|until| until <= now) {
            self.rest_until = None;
            self.arm(net);
        }
    }

    pub(super) fn is_stopping(&self) -> bool {
        self.stopping
    }

    pub(super) fn next_retry(&self) -> Option<Time> {
        self.rest_until
    }

    /// Ends all accepts; each socket is closed when its accept has ended.
    pub(super) fn stop(&mut self, net: &mut NetRing) {
        self.stopping = true;
        self.rest_until = None;
        for (index, accepting) in (0_u32..).zip(&mut self.all) {
            if accepting.armed {
                net.cancel_accept(index);
            } else {
                accepting.listener = None;
            }
        }
    }

    fn arm(&mut self, net: &mut NetRing) {
        if self.stopping {
            return;
        }
        for (index, accepting) in (0_u32..).zip(&mut self.all) {
            if let Some(listener) = &accepting.listener
                && !accepting.armed
            {
                accepting.armed = true;
                net.accept(index, listener.socket.as_fd());
            }
        }
    }

    fn starve(&mut self, error: Option<Errno>, now: Time) {
        self.starved = self.starved.saturating_add(1);
        // One line per power of two: the first, and ever fewer in a long shortage.
        if self.starved.is_power_of_two() {
            let error = error.map(std::io::Error::from);
            tracing::warn!(
                error = error.map(tracing::field::display),
                failed = self.starved,
                "cannot accept connections; raise the limit of open files (ulimit -n)"
            );
        }
        self.rest_until = Some(now + REST);
    }
}
