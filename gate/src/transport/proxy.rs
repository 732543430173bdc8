//! The header with which a proxy announces whom it speaks for (PROXY protocol, versions 1 and 2).
//!
//! A listener that expects it expects it of every connection, and takes connections from the proxies'
//! networks alone: whoever could come past the proxy could claim any address. The header is bounded
//! ([`HEADER_BYTES_MAX`]) and read in any pieces; what follows it belongs to the next layer. Of version 2's
//! extensions only the lengths are checked: none of them is relied upon, the checksum included (TCP has
//! its own).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use ipnet::IpNet;

use super::TransportError;

/// The largest header that is taken, and so what a connection keeps before it is whole. Version 1 ends
/// after 107 bytes; version 2 could announce 64 KiB of extensions, of which a certificate's details are the
/// largest in use.
pub const HEADER_BYTES_MAX: usize = 4096;

/// The largest header of version 1, its line end included.
const TEXT_BYTES_MAX: usize = 107;

const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
const TEXT_SIGNATURE: &[u8; 6] = b"PROXY ";
/// Signature, version and command, family, length.
const FIXED_BYTES: usize = 16;
const LAYER: &str = "PROXY";

/// Which proxies are trusted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProxyPolicy {
    pub networks: Vec<IpNet>,
}

impl ProxyPolicy {
    /// Whether a connection from there may announce addresses.
    #[must_use]
    pub fn trusts(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.networks.iter().any(|network| network.contains(&address))
    }

    /// Refuses whoever is no proxy, before a byte is read.
    pub(super) fn admit(&self, socket: Option<SocketAddr>) -> Result<(), TransportError> {
        if socket.is_some_and(|socket| self.trusts(socket.ip())) {
            return Ok(());
        }
        Err(broken("the connection does not come from a network of proxies"))
    }
}

/// A header that is not whole yet.
#[derive(Debug, Default)]
pub(super) struct Header {
    kept: Vec<u8>,
}

impl Header {
    /// Takes bytes until the header is whole.
    pub(super) fn receive<'a>(
        &mut self,
        bytes: &'a [u8],
    ) -> Result<Option<Whole<'a>>, TransportError> {
        let kept = self.kept.len();
        let room = HEADER_BYTES_MAX.saturating_sub(kept);
        self.kept.extend_from_slice(&bytes[..room.min(bytes.len())]);
        let Some((address, used)) = parse(&self.kept)? else { return Ok(None) };
        self.kept = Vec::new();
        // The header was not whole before these bytes came.
        Ok(Some(Whole {
            address,
            rest: bytes.get(used.saturating_sub(kept)..).unwrap_or_default(),
        }))
    }
}

/// A header was read.
#[derive(Debug)]
pub(super) struct Whole<'a> {
    /// Who is announced, if anybody is.
    pub(super) address: Option<SocketAddr>,
    /// What came behind the header.
    pub(super) rest: &'a [u8],
}

/// The address and the header's length.
type Announced = (Option<SocketAddr>, usize);

/// The address and the header's length; `None` if more is to come.
fn parse(bytes: &[u8]) -> Result<Option<Announced>, TransportError> {
    if begins(bytes, SIGNATURE) {
        parse_binary(bytes)
    } else if begins(bytes, TEXT_SIGNATURE) {
        parse_text(bytes)
    } else {
        Err(broken("the connection does not begin with a header"))
    }
}

/// Whether the bytes begin like the signature, as far as they go.
fn begins(bytes: &[u8], signature: &[u8]) -> bool {
    let count = bytes.len().min(signature.len());
    bytes[..count] == signature[..count]
}

fn parse_text(bytes: &[u8]) -> Result<Option<Announced>, TransportError> {
    let head = &bytes[..bytes.len().min(TEXT_BYTES_MAX)];
    let Some(end) = head.windows(2).position(|pair| pair == b"\r\n") else {
        if head.len() == TEXT_BYTES_MAX {
            return Err(broken("the header's line has no end"));
        }
        return Ok(None);
    };
    let line = str::from_utf8(&head[..end]).map_err(|_| broken("the header is not ASCII"))?;
    let mut words = line.split(' ').skip(1);
    let address = match words.next() {
        // Whatever else stands in the line: the proxy does not know whom it speaks for.
        Some("UNKNOWN") => None,
        Some("TCP4") => Some(parse_words::<Ipv4Addr>(words)?),
        Some("TCP6") => Some(parse_words::<Ipv6Addr>(words)?),
        _ => return Err(broken("the header's protocol is not TCP4, TCP6 or UNKNOWN")),
    };
    Ok(Some((address, end + 2)))
}

/// Source and destination, their addresses first; the source is who is announced.
fn parse_words<'a, T: std::str::FromStr + Into<IpAddr>>(
    mut words: impl Iterator<Item = &'a str>,
) -> Result<SocketAddr, TransportError> {
    let wrong = || broken("the header's addresses cannot be read");
    let mut next = || words.next().ok_or_else(wrong);
    let (source, destination, port, to_port) = (next()?, next()?, next()?, next()?);
    let source: T = source.parse().map_err(|_| wrong())?;
    destination.parse::<T>().map_err(|_| wrong())?;
    let port = parse_port(port).ok_or_else(wrong)?;
    parse_port(to_port).ok_or_else(wrong)?;
    if words.next().is_some() {
        return Err(wrong());
    }
    Ok(SocketAddr::new(source.into(), port))
}

/// A decimal number without sign or leading zeros.
fn parse_port(text: &str) -> Option<u16> {
    let is_plain = text.bytes().all(|byte| byte.is_ascii_digit());
    let is_short = text == "0" || !text.starts_with('0');
    if is_plain && is_short { text.parse().ok() } else { None }
}

fn parse_binary(bytes: &[u8]) -> Result<Option<Announced>, TransportError> {
    let Some((fixed, body)) = bytes.split_at_checked(FIXED_BYTES) else { return Ok(None) };
    let [.., command, family, high, low] = fixed else { return Ok(None) };
    let length = usize::from(u16::from_be_bytes([*high, *low]));
    if length > HEADER_BYTES_MAX - FIXED_BYTES {
        return Err(broken("the header is too long"));
    }
    let is_local = match command {
        0x20 => true,
        0x21 => false,
        _ => return Err(broken("the header's version or command is unknown")),
    };
    let Some(body) = body.get(..length) else { return Ok(None) };
    let (address, extensions) = match family {
        // Addresses of a proxy that speaks for itself mean nothing, of whatever family they are.
        _ if is_local => (None, &[][..]),
        0x00 => (None, &[][..]),
        0x11 => {
            let (addresses, rest) = split(body, 12)?;
            (Some(source::<4>(addresses, 8)), rest)
        }
        0x21 => {
            let (addresses, rest) = split(body, 36)?;
            (Some(source::<16>(addresses, 32)), rest)
        }
        _ => return Err(broken("the header's family is not TCP over IPv4 or IPv6")),
    };
    check_extensions(extensions)?;
    Ok(Some((address, FIXED_BYTES + length)))
}

fn split(body: &[u8], count: usize) -> Result<(&[u8], &[u8]), TransportError> {
    body.split_at_checked(count).ok_or_else(|| broken("the header is too short for its addresses"))
}

/// The source stands first, its port behind both addresses.
fn source<const N: usize>(addresses: &[u8], port_at: usize) -> SocketAddr
where
    IpAddr: From<[u8; N]>,
{
    let mut address = [0; N];
    address.copy_from_slice(&addresses[..N]);
    let port = u16::from_be_bytes([addresses[port_at], addresses[port_at + 1]]);
    SocketAddr::new(IpAddr::from(address), port)
}

/// Extensions: a type, two bytes of length, and as many bytes.
fn check_extensions(mut rest: &[u8]) -> Result<(), TransportError> {
    while !rest.is_empty() {
        let cut = || broken("an extension of the header is cut short");
        let [_, high, low, behind @ ..] = rest else { return Err(cut()) };
        let length = usize::from(u16::from_be_bytes([*high, *low]));
        rest = behind.get(length..).ok_or_else(cut)?;
    }
    Ok(())
}

fn broken(problem: &str) -> TransportError {
    TransportError::broken(LAYER, problem)
}
