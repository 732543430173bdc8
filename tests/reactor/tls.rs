//! Connections with TLS: records cut anywhere, moves between shards, both ways to end.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;

use gate::transport::StackConfig;
use gate::transport::tls::{Pem, ServerCertificate, TlsMaterial};
use rcgen::{CertifiedKey, generate_simple_self_signed};
use rustls::pki_types::ServerName;
use rustls::version::{TLS12, TLS13};
use rustls::{
    ClientConfig, ClientConnection, RootCertStore, StreamOwned, SupportedProtocolVersion,
};
use shards::shard::CloseCause;

use crate::echo::{Event, FLOOD_BYTES, Mode, World};
use crate::{is_over, pattern};

/// A server, and a client that trusts it.
struct Sides {
    layers: StackConfig,
    client: Arc<ClientConfig>,
}

impl Sides {
    fn new(version: &'static SupportedProtocolVersion) -> Self {
        let CertifiedKey { cert, signing_key } =
            generate_simple_self_signed(vec!["broker.test".to_owned()]).unwrap();
        let certificate = ServerCertificate {
            chain: Pem::new("chain", cert.pem()),
            key: Pem::new("key", signing_key.serialize_pem()),
        };
        let material = TlsMaterial { certificates: vec![certificate], ..TlsMaterial::default() };
        let tls = Some(Arc::new(material.policy().unwrap()));
        let mut roots = RootCertStore::empty();
        roots.add(cert.der().clone()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let client = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[version])
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        Self { layers: StackConfig { tls, ..StackConfig::default() }, client: Arc::new(client) }
    }

    fn connect<S: Read + Write>(&self, stream: S) -> StreamOwned<ClientConnection, S> {
        let name = ServerName::try_from("broker.test").unwrap();
        StreamOwned::new(ClientConnection::new(Arc::clone(&self.client), name).unwrap(), stream)
    }
}

/// Sends a few bytes at a time, so that records come in pieces.
struct Trickle(TcpStream);

impl Read for Trickle {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        self.0.read(bytes)
    }
}

impl Write for Trickle {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(&bytes[..bytes.len().min(7)])
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

fn exchange(stream: &mut (impl Read + Write), bytes: usize) {
    let sent = pattern(bytes);
    stream.write_all(&sent).unwrap();
    stream.flush().unwrap();
    let mut back = vec![0; bytes];
    stream.read_exact(&mut back).unwrap();
    assert!(back == sent, "{bytes} bytes came back changed");
}

/// Ends the client's side in an orderly way; the other side must do so too.
fn end<S: Read + Write>(mut stream: StreamOwned<ClientConnection, S>) {
    stream.conn.send_close_notify();
    stream.flush().unwrap();
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).expect("an orderly end");
    assert_eq!(rest, b"");
}

#[test]
fn bytes_come_back_through_tls() {
    for version in [&TLS12, &TLS13] {
        for mode in [Mode::Echo, Mode::Once] {
            let sides = Sides::new(version);
            let world = World::start_layered(1, mode, sides.layers.clone());
            let mut stream = sides.connect(world.connect());
            for bytes in [1, 100, 4_096, 16_384, 16_385, 100_000] {
                exchange(&mut stream, bytes);
            }
            end(stream);
            world.expect_closed(CloseCause::Eof);
            world.expect_no_more();
        }
    }
}

#[test]
fn tls_moves_to_another_shard() {
    for version in [&TLS12, &TLS13] {
        let sides = Sides::new(version);
        let world = World::start_layered(2, Mode::HandOver, sides.layers.clone());
        let mut streams: Vec<_> = (0..200).map(|_| sides.connect(world.connect())).collect();
        for round in 1..4 {
            for stream in &mut streams {
                exchange(stream, 50 * round);
            }
        }
        streams.drain(..).for_each(end);
        for _ in 0..200 {
            world.expect_closed(CloseCause::Eof);
        }
        world.expect_no_more();
    }
}

#[test]
fn records_in_pieces_move_too() {
    let sides = Sides::new(&TLS13);
    let world = World::start_layered(2, Mode::HandOver, sides.layers.clone());
    let stream = world.connect();
    stream.set_nodelay(true).unwrap();
    let mut stream = sides.connect(Trickle(stream));
    for bytes in [30, 500, 1_000] {
        exchange(&mut stream, bytes);
    }
    end(stream);
    world.expect_closed(CloseCause::Eof);
}

#[test]
fn all_is_sent_before_tls_is_ended() {
    let sides = Sides::new(&TLS13);
    let world = World::start_layered(1, Mode::FloodThenFinish, sides.layers.clone());
    let mut stream = sides.connect(world.connect());
    stream.write_all(b"go").unwrap();
    let mut flood = Vec::new();
    // Without a close alert this is an error.
    stream.read_to_end(&mut flood).unwrap();
    assert_eq!(flood.len(), FLOOD_BYTES);
    drop(stream);
    world.expect_closed(CloseCause::Asked);
}

#[test]
fn who_speaks_no_tls_is_told_and_cut() {
    let sides = Sides::new(&TLS13);
    let world = World::start_layered(1, Mode::Once, sides.layers.clone());
    let mut stream = world.connect();
    stream.write_all(b"\x10\x0c\x00\x04MQTT\x04\x02\x00\x3c\x00\x00 and more").unwrap();
    let mut alert = [0; 7];
    stream.read_exact(&mut alert).unwrap();
    assert_eq!((alert[0], alert[5]), (21, 2), "a fatal alert");
    assert!(is_over(&mut stream));
    drop(stream);
    world.expect_closed(CloseCause::Asked);
}

#[test]
fn a_client_that_vanishes_amid_the_handshake_is_gone() {
    let sides = Sides::new(&TLS13);
    let world = World::start_layered(1, Mode::Once, sides.layers.clone());
    let mut stream = world.connect();
    let name = ServerName::try_from("broker.test").unwrap();
    let mut client = ClientConnection::new(Arc::clone(&sides.client), name).unwrap();
    client.write_tls(&mut stream).unwrap();
    let mut first = [0; 1];
    stream.read_exact(&mut first).unwrap();
    drop(stream);
    let cause = world.find(|event| match event {
        Event::Closed { cause, received, .. } => Some((cause, received)),
        Event::Resumed { .. } | Event::Identified { .. } => None,
    });
    // What it did not read comes back as a reset.
    assert!(matches!(cause, (CloseCause::Eof | CloseCause::Failed, 0)), "{cause:?}");
}
