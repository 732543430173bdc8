//! Sockets of the load generator's clients, and whether there can be enough of them.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, connect, socket_with, sockopt};
use rustix::process::{Resource, getrlimit, setrlimit};

use crate::error::Error;

/// Descriptors beside the connections: epoll, files of `/proc`, standard streams.
const DESCRIPTORS_BESIDE: u64 = 64;

/// Ports of one source address that are left alone: others use some too.
const PORTS_BESIDE: usize = 500;

/// Begins to connect to `target` from `source`.
pub(super) fn open(target: SocketAddr, source: Option<Ipv4Addr>) -> io::Result<OwnedFd> {
    let family = if target.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let socket = socket_with(family, SocketType::STREAM, flags, None)?;
    sockopt::set_tcp_nodelay(&socket, true)?;
    // A reset at the end: thousands of connections in TIME_WAIT would take the next run's ports.
    sockopt::set_socket_linger(&socket, Some(Duration::ZERO))?;
    if let Some(source) = source {
        set_port_at_connect(&socket)?;
        bind(&socket, &SocketAddr::from((source, 0)))?;
    }
    match connect(&socket, &target) {
        Ok(()) | Err(Errno::INPROGRESS) => Ok(socket),
        Err(error) => Err(error.into()),
    }
}

/// The port is chosen by the connect, when the target is known: the same port then serves several
/// targets.
#[expect(unsafe_code, reason = "an option that no safe interface has")]
fn set_port_at_connect(socket: &OwnedFd) -> io::Result<()> {
    use std::os::fd::AsRawFd;
    let on: libc::c_int = 1;
    let bytes = libc::socklen_t::try_from(size_of::<libc::c_int>()).unwrap_or(4);
    // SAFETY: the descriptor is open, the option's value is an int that lives through the call.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_IP,
            libc::IP_BIND_ADDRESS_NO_PORT,
            (&raw const on).cast(),
            bytes,
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Raises the limit of descriptors as far as needed, and says what is missing.
pub(super) fn check_descriptors(connections: usize) -> Result<(), Error> {
    let needed = connections as u64 + DESCRIPTORS_BESIDE;
    let mut limit = getrlimit(Resource::Nofile);
    let hard = limit.maximum.unwrap_or(u64::MAX);
    if hard < needed {
        return Err(Error::Descriptors { wanted: connections, needed, limit: hard });
    }
    if limit.current.is_some_and(|current| current < needed) {
        limit.current = Some(needed);
        setrlimit(Resource::Nofile, limit)
            .map_err(io::Error::from)
            .map_err(Error::system("raise the limit of file descriptors"))?;
    }
    Ok(())
}

/// How many source addresses so many connections to one target need.
pub(crate) fn sources_for(connections: usize) -> usize {
    connections.div_ceil(ports()).max(1)
}

pub(super) fn check_ports(connections: usize, sources: usize) -> Result<(), Error> {
    let needed = sources_for(connections);
    if needed > sources {
        return Err(Error::Ports { wanted: connections, needed, ports: ports(), sources });
    }
    Ok(())
}

/// Ports that one source address can be expected to have.
fn ports() -> usize {
    let range = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range");
    let range = range.unwrap_or_default();
    let mut ends = range.split_whitespace().filter_map(|end| end.parse::<usize>().ok());
    let (from, to) = (ends.next().unwrap_or(32_768), ends.next().unwrap_or(60_999));
    (to + 1).saturating_sub(from).saturating_sub(PORTS_BESIDE).max(1)
}
