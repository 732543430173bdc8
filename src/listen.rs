//! Opens listening sockets: one per address and shard, so that the kernel spreads connections over
//! the shards (`SO_REUSEPORT`). Unix sockets have no such thing: all shards accept from the same one.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _, chown};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use crate::accounts::Accounts;
use crate::config::{ListenerConfig, Place, UnixPlace};
use crate::reactor::{Bound, Listener};

/// Connections that wait for an accept; the kernel caps it at `net.core.somaxconn`.
const BACKLOG: i32 = 4096;

/// Why an address or a path cannot be listened on.
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
    #[error("{}: another program (or another muring) listens there", path.display())]
    UnixInUse { path: PathBuf },
    #[error("{}: there is a file, and it is no socket", path.display())]
    NoSocket { path: PathBuf },
    #[error("{}: {step}: {error}", path.display())]
    Unix { path: PathBuf, step: &'static str, error: io::Error },
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

/// Everything that listens.
#[derive(Debug)]
pub struct Opened {
    pub by_shard: Vec<Vec<Listener>>,
    /// Files of unix sockets; to be kept as long as they are listened on.
    pub files: Vec<SocketFile>,
}

/// The file of a unix socket. Dropping it removes the file, if it is still the same.
#[derive(Debug)]
pub struct SocketFile {
    path: PathBuf,
    /// Device and number of the file.
    identity: (u64, u64),
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let now = fs::symlink_metadata(&self.path).map(|found| (found.dev(), found.ino()));
        if now.is_ok_and(|now| now == self.identity) {
            // A file that stays behind is recognised by the next start.
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Opens all listeners for every shard.
///
/// # Errors
/// The first address or path that cannot be had.
pub fn open_all(listeners: &[ListenerConfig], shards: usize) -> Result<Opened, ListenError> {
    let mut opened =
        Opened { by_shard: (0..shards).map(|_| Vec::new()).collect(), files: Vec::new() };
    for (position, listener) in (0_u16..).zip(listeners) {
        let more = match &listener.place {
            Place::Tcp(addresses) => {
                let addresses: Vec<_> = addresses.iter().map(|a| (position, *a)).collect();
                open(&addresses, shards)?
            }
            Place::Unix(place) => {
                let (more, file) = open_unix(position, place, shards)?;
                opened.files.push(file);
                more
            }
        };
        for (listeners, more) in opened.by_shard.iter_mut().zip(more) {
            listeners.extend(more);
        }
    }
    Ok(opened)
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
            // Port 0: all shards share the port that the first was given.
            let bound = socket.local_addr().map_err(wrong)?;
            address = bound.as_socket().unwrap_or(address);
            let socket = socket.into();
            listeners.push(Listener { socket, position, bound: Bound::Tcp(address) });
        }
    }
    Ok(by_shard)
}

/// Opens a unix socket, which all shards share.
fn open_unix(
    position: u16,
    place: &UnixPlace,
    shards: usize,
) -> Result<(Vec<Vec<Listener>>, SocketFile), ListenError> {
    let wrong = |step| move |error| ListenError::Unix { path: place.path.clone(), step, error };
    remove_stale(&place.path)?;
    let accounts = place.peer_credentials.then(Accounts::read).transpose();
    let accounts = accounts.map_err(wrong("cannot read the names of users"))?.map(Arc::new);
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None).map_err(wrong("no socket"))?;
    let address = SockAddr::unix(&place.path).map_err(wrong("not a path for a socket"))?;
    socket.bind(&address).map_err(wrong("cannot create it"))?;
    let found = fs::symlink_metadata(&place.path).map_err(wrong("cannot look at it"))?;
    let file = SocketFile { path: place.path.clone(), identity: (found.dev(), found.ino()) };
    // Nobody can connect before `listen`, so there is no moment with a wrong mode or owner.
    let mode = fs::Permissions::from_mode(place.mode);
    chown(&place.path, place.owner.user, place.owner.group)
        .map_err(wrong("cannot give it to its owner"))?;
    fs::set_permissions(&place.path, mode).map_err(wrong("cannot set its mode"))?;
    socket.listen(BACKLOG).map_err(wrong("cannot listen"))?;
    let by_shard = (0..shards).map(|_| {
        let socket = socket.try_clone()?.into();
        let bound = Bound::Unix { path: place.path.clone(), accounts: accounts.clone() };
        Ok(vec![Listener { socket, position, bound }])
    });
    let by_shard = by_shard.collect::<io::Result<_>>().map_err(wrong("cannot share it"))?;
    Ok((by_shard, file))
}

/// Removes the socket of a broker that is gone. One that still answers is somebody else's.
fn remove_stale(path: &Path) -> Result<(), ListenError> {
    let wrong = |error| ListenError::Unix {
        path: path.to_owned(),
        step: "cannot replace what is there",
        error,
    };
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(wrong(error)),
        Ok(found) if !found.file_type().is_socket() => {
            return Err(ListenError::NoSocket { path: path.to_owned() });
        }
        Ok(_) => {}
    }
    match UnixStream::connect(path) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            fs::remove_file(path).map_err(wrong)
        }
        // Also if it is of another type or may not be asked: then it is not ours to remove.
        Ok(_) | Err(_) => Err(ListenError::UnixInUse { path: path.to_owned() }),
    }
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
    use crate::accounts::Owner;
    use crate::config::Kind;

    fn localhost() -> SocketAddr {
        "127.0.0.1:0".parse().unwrap()
    }

    #[test]
    fn shards_share_the_port_that_the_first_got() {
        let shards = open(&[(0, localhost()), (1, localhost())], 3).unwrap();
        let addresses: Vec<Vec<_>> = shards
            .iter()
            .map(|listeners| listeners.iter().map(|l| l.bound.address().unwrap()).collect())
            .collect();
        assert_eq!(addresses.len(), 3);
        assert_ne!(addresses[0][0].port(), 0);
        assert_ne!(addresses[0][0], addresses[0][1]);
        assert!(addresses.iter().all(|of_shard| *of_shard == addresses[0]));
        assert_eq!(shards[2][1].position, 1);
    }

    #[test]
    fn an_address_in_use_is_an_error_although_ports_are_shared() {
        let first = open(&[(0, localhost())], 2).unwrap();
        let taken = first[0][0].bound.address().unwrap();
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
        let port = six[0][0].bound.address().unwrap().port();
        assert!(open(&[(0, SocketAddr::new("0.0.0.0".parse().unwrap(), port))], 1).is_ok());
    }

    #[test]
    fn accepted_connections_inherit_nodelay() {
        let shards = open(&[(0, localhost())], 1).unwrap();
        let listener = &shards[0][0];
        let _client = std::net::TcpStream::connect(listener.bound.address().unwrap()).unwrap();
        let socket = std::net::TcpListener::from(listener.socket.try_clone().unwrap());
        let (accepted, _) = socket.accept().unwrap();
        assert!(accepted.nodelay().unwrap());
    }

    /// A path of this test's own.
    fn place(name: &str) -> UnixPlace {
        let name = format!("muring-listen-{}-{name}.sock", std::process::id());
        let path = std::env::temp_dir().join(name);
        UnixPlace { path, mode: 0o600, owner: Owner::default(), peer_credentials: true }
    }

    fn listener(place: &UnixPlace) -> ListenerConfig {
        let place = Place::Unix(place.clone());
        ListenerConfig { kind: Kind::Unix, place, ..ListenerConfig::plain(Vec::new()) }
    }

    #[test]
    fn shards_share_a_unix_socket_whose_file_goes_with_it() {
        let place = place("shared");
        let opened = open_all(&[listener(&place), listener(&self::place("other"))], 3).unwrap();
        let positions = |listeners: &Vec<Listener>| {
            listeners.iter().map(|listener| listener.position).collect::<Vec<_>>()
        };
        assert!(opened.by_shard.iter().all(|listeners| positions(listeners) == [0, 1]));
        let found = fs::metadata(&place.path).unwrap();
        assert_eq!(found.permissions().mode() & 0o777, 0o600);
        let _client = UnixStream::connect(&place.path).unwrap();
        let socket = opened.by_shard[2][0].socket.try_clone().unwrap();
        std::os::unix::net::UnixListener::from(socket).accept().unwrap();
        drop(opened);
        assert!(!place.path.exists());
    }

    #[test]
    fn a_socket_that_nobody_listens_on_is_replaced() {
        let place = place("stale");
        drop(std::os::unix::net::UnixListener::bind(&place.path).unwrap());
        assert!(place.path.exists());
        let opened = open_all(&[listener(&place)], 1).unwrap();
        let error = open_all(&[listener(&place)], 1).unwrap_err();
        assert!(matches!(error, ListenError::UnixInUse { .. }), "{error}");
        // The refused one has not taken the file with it.
        UnixStream::connect(&place.path).unwrap();
        drop(opened);
    }

    #[test]
    fn a_file_that_is_no_socket_is_left_alone() {
        let place = place("file");
        fs::write(&place.path, "precious").unwrap();
        let error = open_all(&[listener(&place)], 1).unwrap_err();
        assert!(matches!(error, ListenError::NoSocket { .. }), "{error}");
        assert_eq!(fs::read_to_string(&place.path).unwrap(), "precious");
        fs::remove_file(&place.path).unwrap();
    }

    #[test]
    fn a_file_that_took_the_place_of_ours_stays() {
        let place = place("replaced");
        let opened = open_all(&[listener(&place)], 1).unwrap();
        fs::remove_file(&place.path).unwrap();
        let other = std::os::unix::net::UnixListener::bind(&place.path).unwrap();
        drop(opened);
        assert!(place.path.exists());
        drop(other);
        fs::remove_file(&place.path).unwrap();
    }
}
