//! Opens listening sockets: one per address and shard, so that the kernel spreads connections over
//! the shards (`SO_REUSEPORT`).

use std::io;
use std::net::SocketAddr;

use socket2::{Domain, Protocol, Socket, Type};

use crate::reactor::Listener;

/// Connections that wait for an accept; the kernel caps it at `net.core.somaxconn`.
const BACKLOG: i32 = 4096;

/// Why an address cannot be listened on.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    #[error("{address}: the address is in use by another program (or another muring)")]
    InUse { address: SocketAddr },
    #[error("{address}: no network interface has this address")]
    NotOurs { address: SocketAddr },
    #[error(
        "{address}: not permitted; ports below {PRIVILEGED_PORTS_END} need CAP_NET_BIND_SERVICE"
    )]
    Forbidden { address: SocketAddr },
    #[error("{address}: {error}")]
    Other { address: SocketAddr, error: io::Error },
}

const PRIVILEGED_PORTS_END: u16 = 1024;

impl ListenError {
    fn new(address: SocketAddr, error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::AddrInUse => Self::InUse { address },
            io::ErrorKind::AddrNotAvailable => Self::NotOurs { address },
            io::ErrorKind::PermissionDenied => Self::Forbidden { address },
            _ => Self::Other { address, error },
        }
    }
}

/// Opens every address for every shard; the outer list is by shard.
///
/// # Errors
/// The first address that cannot be had.
pub fn open(
    listen: &[(u16, SocketAddr)],
    shards: usize,
) -> Result<Vec<Vec<Listener>>, ListenError> {
    let mut by_shard: Vec<Vec<Listener>> = (0..shards).map(|_| Vec::new()).collect();
    for &(position, asked) in listen {
        let wrong = |error| ListenError::new(asked, error);
        if asked.port() != 0 {
            // With SO_REUSEPORT a second broker of the same user would get half of the
            // connections in silence. Without it, the kernel says that somebody listens.
            bind(asked, Sharing::Alone).map_err(wrong)?;
        }
        let mut address = asked;
        for listeners in &mut by_shard {
            let socket = bind(address, Sharing::Shards).map_err(wrong)?;
            socket.listen(BACKLOG).map_err(wrong)?;
            let socket = std::net::TcpListener::from(socket);
            // Port 0: all shards share the port that the first was given.
            address = socket.local_addr().map_err(wrong)?;
            listeners.push(Listener { socket, position, address });
        }
    }
    Ok(by_shard)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Sharing {
    Alone,
    Shards,
}

fn bind(address: SocketAddr, sharing: Sharing) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    // Connections of an earlier run that linger must not keep the port.
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        // So that 0.0.0.0 and [::] can both be given.
        socket.set_only_v6(true)?;
    }
    if sharing == Sharing::Shards {
        socket.set_reuse_port(true)?;
        // Accepted connections inherit it: the reactor coalesces, Nagle would only add delay.
        socket.set_tcp_nodelay(true)?;
    }
    socket.bind(&address.into())?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn localhost() -> SocketAddr {
        "127.0.0.1:0".parse().unwrap()
    }

    #[test]
    fn shards_share_the_port_that_the_first_got() {
        let shards = open(&[(0, localhost()), (1, localhost())], 3).unwrap();
        let addresses: Vec<Vec<_>> =
            shards.iter().map(|listeners| listeners.iter().map(|l| l.address).collect()).collect();
        assert_eq!(addresses.len(), 3);
        assert_ne!(addresses[0][0].port(), 0);
        assert_ne!(addresses[0][0], addresses[0][1]);
        assert!(addresses.iter().all(|of_shard| *of_shard == addresses[0]));
        assert_eq!(shards[2][1].position, 1);
    }

    #[test]
    fn an_address_in_use_is_an_error_although_ports_are_shared() {
        let first = open(&[(0, localhost())], 2).unwrap();
        let taken = first[0][0].address;
        let error = open(&[(0, taken)], 1).unwrap_err();
        assert!(matches!(error, ListenError::InUse { address } if address == taken), "{error}");
        drop(first);
        assert!(open(&[(0, taken)], 1).is_ok());
    }

    #[test]
    fn both_families_share_a_port() {
        let Ok(six) = open(&[(0, "[::]:0".parse().unwrap())], 1) else {
            // No IPv6 on this machine.
            return;
        };
        let port = six[0][0].address.port();
        assert!(open(&[(0, SocketAddr::new("0.0.0.0".parse().unwrap(), port))], 1).is_ok());
    }

    #[test]
    fn accepted_connections_inherit_nodelay() {
        let shards = open(&[(0, localhost())], 1).unwrap();
        let listener = &shards[0][0];
        let _client = std::net::TcpStream::connect(listener.address).unwrap();
        let (accepted, _) = listener.socket.accept().unwrap();
        assert!(accepted.nodelay().unwrap());
    }
}
