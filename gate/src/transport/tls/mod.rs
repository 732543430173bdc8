//! TLS on the server's side: one connection's records, and what its certificate says of the client.
//!
//! Nothing waits in this layer: what was decrypted is handed on at once, what was encrypted is in the
//! caller's buffer when a call returns. Before the handshake is over, rustls keeps at most one handshake
//! message of the peer (64 KiB, [`HANDSHAKE_BYTES_MAX`]) and the records it comes in.

mod material;
mod names;
mod pem;
mod resolver;

use std::fmt;
use std::io::{BufRead, IoSlice, Write};
use std::sync::Arc;

use rustls::{HandshakeKind, ServerConnection};

pub use material::{
    Application, ClientAuth, ExpiredCrl, Expiry, ServerCertificate, TlsMaterial, TlsPolicy,
    VersionMin,
};
pub use names::IdentitySource;
pub use pem::{MaterialError, Pem};

use super::TransportError;

/// What a peer can make this layer keep before the handshake is over: one message of it, 64 KiB by its
/// 16-bit bound in rustls, and as much again for records that are not whole or not yet joined. Tried with
/// a message that never ends, rustls held 117 KB at its peak.
pub const HANDSHAKE_BYTES_MAX: usize = 128 * 1024;

/// Encrypted bytes between two visits to the caller's buffer: four full records.
const SEND_BYTES_MAX: usize = 64 * 1024;

const LAYER: &str = "TLS";

/// One connection's TLS.
pub(super) struct Tls {
    conn: ServerConnection,
    policy: Arc<TlsPolicy>,
    identity: Option<Box<str>>,
    /// The handshake is over and the peer's certificate was looked at.
    is_established: bool,
}

impl Tls {
    pub(super) fn new(policy: &Arc<TlsPolicy>) -> Result<Self, TransportError> {
        let conn = ServerConnection::new(Arc::clone(policy.config()));
        let mut conn = conn.map_err(|error| TransportError::broken(LAYER, error.to_string()))?;
        conn.set_buffer_limit(Some(SEND_BYTES_MAX));
        Ok(Self { conn, policy: Arc::clone(policy), identity: None, is_established: false })
    }

    /// Takes records and hands what they hold to `sink`, piece after piece. True if the peer has ended
    /// its side. After an error of this layer, `wire` ends with an alert.
    pub(super) fn receive(
        &mut self,
        bytes: &[u8],
        wire: &mut Vec<u8>,
        mut sink: impl FnMut(&[u8]) -> Result<(), TransportError>,
    ) -> Result<bool, TransportError> {
        let end = self.decrypt(bytes, &mut sink);
        self.write_records(wire);
        end
    }

    fn decrypt(
        &mut self,
        mut bytes: &[u8],
        sink: &mut impl FnMut(&[u8]) -> Result<(), TransportError>,
    ) -> Result<bool, TransportError> {
        let mut is_ended = false;
        while !bytes.is_empty() && !is_ended {
            let read = self.conn.read_tls(&mut bytes);
            let taken = read.map_err(|error| TransportError::broken(LAYER, error.to_string()))?;
            let state = self.conn.process_new_packets();
            let state = state.map_err(|error| TransportError::broken(LAYER, error.to_string()))?;
            if !self.is_established && !self.conn.is_handshaking() {
                self.identify()?;
            }
            self.hand_on(sink)?;
            is_ended = state.peer_has_closed() || taken == 0;
        }
        Ok(is_ended)
    }

    fn hand_on(
        &mut self,
        sink: &mut impl FnMut(&[u8]) -> Result<(), TransportError>,
    ) -> Result<(), TransportError> {
        let mut reader = self.conn.reader();
        // Both its end and an error say that there is nothing for now.
        while let Ok(chunk) = reader.fill_buf()
            && !chunk.is_empty()
        {
            let taken = chunk.len();
            sink(chunk)?;
            reader.consume(taken);
        }
        Ok(())
    }

    /// The handshake is over: who is it? A resumed session brings the certificate of the first one along,
    /// unverified; it may have been revoked or have expired since.
    fn identify(&mut self) -> Result<(), TransportError> {
        if let Some(certificates) = self.conn.peer_certificates() {
            if self.conn.handshake_kind() == Some(HandshakeKind::Resumed) {
                self.policy.verify(certificates)?;
            }
            if let Some(certificate) = certificates.first() {
                let identity = names::identity(self.policy.identity(), certificate);
                self.identity = identity.map_err(|why| TransportError::broken(LAYER, why))?;
            }
        }
        self.is_established = true;
        Ok(())
    }

    /// Encrypts the pieces into as few records as hold them. The slices are used up.
    pub(super) fn send(&mut self, mut slices: &mut [IoSlice<'_>], wire: &mut Vec<u8>) {
        while !slices.is_empty() {
            // An error is that of an earlier call, which has ended the connection.
            let Ok(taken @ 1..) = self.conn.writer().write_vectored(slices) else { break };
            IoSlice::advance_slices(&mut slices, taken);
            self.write_records(wire);
        }
    }

    /// Sends what the layer above ends with, and ends this side.
    pub(super) fn finish(&mut self, last: &[u8], wire: &mut Vec<u8>) {
        if !last.is_empty() {
            self.send(&mut [IoSlice::new(last)], wire);
        }
        self.conn.send_close_notify();
        self.write_records(wire);
    }

    pub(super) fn is_established(&self) -> bool {
        self.is_established
    }

    /// Who the certificate says the client is; only once.
    pub(super) fn take_identity(&mut self) -> Option<Box<str>> {
        self.identity.take()
    }

    fn write_records(&mut self, wire: &mut Vec<u8>) {
        while self.conn.wants_write() {
            // Memory takes what it is given.
            let Ok(1..) = self.conn.write_tls(wire) else { break };
        }
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls").field("is_established", &self.is_established).finish_non_exhaustive()
    }
}
