//! The layers between socket and packets over arbitrary bytes: in whatever pieces these come, the same
//! comes out, and nobody panics or keeps more than is documented.

use std::io::{self, Cursor, Read, Write};
use std::sync::{Arc, OnceLock};

use gate::transport::proxy::{HEADER_BYTES_MAX, ProxyPolicy};
use gate::transport::tls::{Pem, ServerCertificate, TlsMaterial, TlsPolicy};
use gate::transport::ws::{REQUEST_BYTES_MAX, WsPolicy};
use gate::transport::{Passage, Peer, Stack, StackConfig};
use rustls::pki_types::{CertificateDer, ServerName, pem::PemObject};
use rustls::{ClientConfig, ClientConnection, RootCertStore};
use tungstenite::protocol::{Role, WebSocket, WebSocketConfig};
use tungstenite::{Error, Message};

/// A request that opens a WebSocket.
pub const REQUEST: &[u8] = b"GET /mqtt HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\n\
    Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
    Sec-WebSocket-Protocol: mqtt\r\n\r\n";

/// A PROXY header and what follows it. Input: the pieces' length, then the bytes.
///
/// # Panics
/// If a promise is broken.
pub fn proxy(data: &[u8]) {
    let Some((&length, input)) = data.split_first() else { return };
    let networks = vec!["127.0.0.0/8".parse().expect("a network")];
    let proxy = Some(Arc::new(ProxyPolicy { networks }));
    let config = StackConfig { proxy, ..StackConfig::default() };
    let end = check_pieces(&config, input, length);
    if end.is_broken {
        assert!(end.plain.is_empty() && end.peer == Peer::default());
    } else if end.is_established {
        assert!(input.ends_with(&end.plain));
        assert!(input.len() - end.plain.len() <= HEADER_BYTES_MAX);
    } else {
        assert!(input.len() < HEADER_BYTES_MAX && end.plain.is_empty());
    }
}

/// A WebSocket, from its request on or once it is open. Input: which of them and the pieces' length,
/// then the bytes.
///
/// # Panics
/// If a promise is broken, or if tungstenite reads the frames in another way.
pub fn ws(data: &[u8]) {
    let Some((&first, input)) = data.split_first() else { return };
    let policy = WsPolicy { message_bytes_max: 1_000, ..WsPolicy::default() };
    let config = StackConfig { ws: Some(Arc::new(policy)), ..StackConfig::default() };
    if first & 1 == 0 {
        let end = check_pieces(&config, input, first >> 1);
        assert!(
            end.is_broken || end.is_established || end.is_ended || input.len() < REQUEST_BYTES_MAX
        );
        return;
    }
    let end = check_pieces(&config, &[REQUEST, input].concat(), first >> 1);
    let (messages, is_broken) = read_frames(input);
    assert!(end.plain.starts_with(&messages), "{:02x?}, not {messages:02x?}", end.plain);
    assert!(end.is_broken || end.is_ended || !is_broken, "tungstenite refuses it");
}

/// A TLS connection. Input: how many flights of a real client come first, then the bytes.
///
/// # Panics
/// If a promise is broken.
pub fn tls(data: &[u8]) {
    let Some((&flights, input)) = data.split_first() else { return };
    let (policy, client) = tls_sides();
    let config = StackConfig { tls: Some(Arc::clone(policy)), ..StackConfig::default() };
    let name = ServerName::try_from("h").expect("a name");
    let mut client = ClientConnection::new(Arc::clone(client), name).expect("a client");
    let mut stack = config.stack(None).expect("a stack");
    let mut out = Passage::default();
    for _ in 0..flights % 4 {
        let mut wire = Vec::new();
        while client.wants_write() {
            client.write_tls(&mut wire).expect("memory");
        }
        stack.receive(&wire, &mut out).expect("the client is good");
        let mut answer = Cursor::new(std::mem::take(&mut out.wire));
        while client.read_tls(&mut answer).is_ok_and(|count| count > 0) {
            client.process_new_packets().expect("the server is good");
        }
    }
    let is_broken = stack.receive(input, &mut out).is_err();
    // Nobody but the client has the keys.
    assert!(out.plain.is_empty(), "{:02x?}", out.plain);
    if is_broken || out.is_ended {
        check_over(&mut stack, input);
    }
}

/// What became of an input.
#[derive(Debug, PartialEq, Eq)]
struct End {
    plain: Vec<u8>,
    wire: Vec<u8>,
    peer: Peer,
    is_ended: bool,
    is_broken: bool,
    is_established: bool,
}

/// Gives the bytes as a whole and in pieces, and compares.
fn check_pieces(config: &StackConfig, input: &[u8], length: u8) -> End {
    let whole = run(config, input, usize::MAX);
    let pieces = run(config, input, usize::from(length % 32) + 1);
    assert_eq!(pieces, whole);
    whole
}

fn run(config: &StackConfig, input: &[u8], piece_bytes: usize) -> End {
    let mut stack = config.stack(Some(([127, 0, 0, 1], 1).into())).expect("a trusted proxy");
    let mut out = Passage::default();
    let mut pieces = input.chunks(piece_bytes);
    let is_broken = pieces.try_for_each(|piece| stack.receive(piece, &mut out)).is_err();
    let is_established = stack.is_established();
    if is_broken || out.is_ended {
        check_over(&mut stack, input);
    }
    let peer = stack.peer().clone();
    let Passage { plain, wire, is_ended } = out;
    End { plain, wire, peer, is_ended, is_broken, is_established }
}

/// After its end, a stack neither takes nor gives.
fn check_over(stack: &mut Stack, input: &[u8]) {
    let mut out = Passage::default();
    stack.receive(input, &mut out).expect("its end was told already");
    stack.send([input].into_iter(), &mut out.wire);
    stack.finish(&mut out.wire);
    assert!(out.plain.is_empty() && out.wire.is_empty());
}

/// What tungstenite reads of the frames, up to the first text, and whether it refuses them.
fn read_frames(input: &[u8]) -> (Vec<u8>, bool) {
    let config = WebSocketConfig::default()
        .read_buffer_size(64)
        .max_message_size(Some(1_000))
        .max_frame_size(Some(1_000));
    let memory = Memory(Cursor::new(input.to_vec()));
    let mut socket = WebSocket::from_raw_socket(memory, Role::Server, Some(config));
    let mut messages = Vec::new();
    loop {
        match socket.read() {
            Ok(Message::Binary(bytes)) => messages.extend_from_slice(&bytes),
            Ok(Message::Ping(_) | Message::Pong(_)) => {}
            Ok(Message::Text(_) | Message::Close(_) | Message::Frame(_)) => {
                return (messages, false);
            }
            Err(error) => {
                let is_broken = matches!(error, Error::Protocol(_) | Error::Capacity(_));
                return (messages, is_broken);
            }
        }
    }
}

/// A socket that has nothing more to say, and takes whatever it is told.
struct Memory(Cursor<Vec<u8>>);

impl Read for Memory {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.0.read(buffer)? {
            0 => Err(io::ErrorKind::WouldBlock.into()),
            count => Ok(count),
        }
    }
}

impl Write for Memory {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A server and a client that trusts it. Made once: keys take time.
fn tls_sides() -> &'static (Arc<TlsPolicy>, Arc<ClientConfig>) {
    static SIDES: OnceLock<(Arc<TlsPolicy>, Arc<ClientConfig>)> = OnceLock::new();
    SIDES.get_or_init(|| {
        let own = rcgen::generate_simple_self_signed(vec!["h".to_owned()]).expect("a certificate");
        let chain = own.cert.pem();
        let certificate = CertificateDer::from_pem_slice(chain.as_bytes()).expect("our own");
        let key = Pem::new("key", own.signing_key.serialize_pem());
        let certificates = vec![ServerCertificate { chain: Pem::new("chain", chain), key }];
        let material = TlsMaterial { certificates, ..TlsMaterial::default() };
        let policy = material.policy().expect("they fit");
        let mut roots = RootCertStore::empty();
        roots.add(certificate).expect("our own");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let client = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("both versions")
            .with_root_certificates(roots)
            .with_no_client_auth();
        (Arc::new(policy), Arc::new(client))
    })
}
