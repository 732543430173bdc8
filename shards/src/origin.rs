//! Where a network connection comes from.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

/// What a network connection is to the core: where it comes from, and the shell's own handle, which
/// the core keeps and hands on when the connection moves to another shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Origin {
    /// The shell's name for the transport (its file descriptor). Opaque here.
    pub handle: u64,
    /// Which listener accepted it, by position in the configuration.
    pub listener: u16,
    pub peer: SocketAddr,
}

/// The same in less memory, for as long as the connection lasts. Scope and flow of an IPv6 address are
/// left out.
#[derive(Clone, Copy, Debug)]
pub struct PackedOrigin {
    handle: u64,
    ip: Ipv6Addr,
    port: u16,
    listener: u16,
    is_v4: bool,
}

const _: () = assert!(size_of::<PackedOrigin>() == 32);

impl PackedOrigin {
    #[must_use]
    pub fn listener(&self) -> u16 {
        self.listener
    }
}

impl From<Origin> for PackedOrigin {
    fn from(origin: Origin) -> Self {
        let Origin { handle, listener, peer } = origin;
        let ip = match peer.ip() {
            IpAddr::V4(ip) => ip.to_ipv6_mapped(),
            IpAddr::V6(ip) => ip,
        };
        Self { handle, ip, port: peer.port(), listener, is_v4: peer.is_ipv4() }
    }
}

impl From<PackedOrigin> for Origin {
    fn from(packed: PackedOrigin) -> Self {
        let v4 = packed.ip.to_ipv4_mapped().filter(|_| packed.is_v4);
        let ip = v4.map_or(IpAddr::V6(packed.ip), IpAddr::V4);
        let peer = SocketAddr::new(ip, packed.port);
        Self { handle: packed.handle, listener: packed.listener, peer }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_packed_comes_out_again() {
        for peer in ["10.1.2.3:1883", "[::1]:65535", "[::ffff:10.1.2.3]:1"] {
            let peer = peer.parse().expect("an address");
            let origin = Origin { handle: u64::MAX, listener: 7, peer };
            assert_eq!(Origin::from(PackedOrigin::from(origin)), origin);
        }
    }
}
