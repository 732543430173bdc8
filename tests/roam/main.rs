//! Connections that move between shards all the time, with traffic on them and resets at any moment.
//!
//! Real threads, rings, doorbells and sockets. No byte may be lost or change its place, each
//! connection ends once, on the shard where it is, no descriptor stays behind, and nobody sleeps
//! through a doorbell: then an answer would not come. In a process of its own: descriptors are counted.

#![expect(clippy::unwrap_used, reason = "in a test, a panic is the report")]

mod core;

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use gate::transport::StackConfig;
use gate::transport::proxy::ProxyPolicy;
use muring::reactor::{Idle, Transports};
use shards::rng::Rng;
use socket2::SockRef;

use self::core::{PATIENCE, World};

/// Connections of one client thread that are open at once.
const BATCH: usize = 16;

const CLIENT_THREADS: u64 = 4;

/// Requests on one connection, at most.
const ROUNDS_MAX: u64 = 6;

/// From a few bytes to more than two receive buffers, inline and beside the record.
const REQUEST_BYTES_MAX: u64 = 2_500;

/// Sockets and rings that this process has open. Each executor leaves an eventfd behind, which is not
/// what is tested here.
fn open_descriptors() -> usize {
    let entries = std::fs::read_dir("/proc/self/fd").unwrap();
    let targets = entries.filter_map(|entry| std::fs::read_link(entry.unwrap().path()).ok());
    let is_counted = |target: &str| target.starts_with("socket:") || target.contains("io_uring");
    targets.filter(|target| is_counted(&target.to_string_lossy())).count()
}

fn below(rng: &mut Rng, limit: u64) -> usize {
    usize::try_from(rng.next_u64() % limit).unwrap()
}

/// The layers of the listener: none, or the least there is, a header that says where a client is.
fn transports(is_layered: bool) -> Transports {
    let policy = ProxyPolicy { networks: vec!["127.0.0.0/8".parse().unwrap()] };
    let proxy = is_layered.then(|| Arc::new(policy));
    Transports::new(vec![StackConfig { proxy, ..StackConfig::default() }])
}

fn connect(address: SocketAddr, is_layered: bool) -> TcpStream {
    let mut stream = TcpStream::connect(address).unwrap();
    if is_layered {
        stream.write_all(b"PROXY TCP4 192.0.2.1 127.0.0.1 4711 1883\r\n").unwrap();
    }
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    stream
}

fn reset(stream: TcpStream) {
    SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
    drop(stream);
}

/// Reads the answer of a request, or at least `least` bytes of it: now and then the client resets amid
/// the answer.
fn read_back(mut stream: TcpStream, sent: &[u8], least: usize, rng: &mut Rng) -> Option<TcpStream> {
    let is_patient = below(rng, 12) > 0;
    let wanted = if is_patient { sent.len() } else { least.max(below(rng, sent.len() as u64)) };
    let mut back = vec![0; wanted];
    stream.read_exact(&mut back).expect("an answer in time");
    assert!(back == sent[..wanted], "{wanted} bytes came back changed");
    if is_patient {
        return Some(stream);
    }
    reset(stream);
    None
}

/// Opens connections batch by batch, with requests on all of a batch at once.
fn client(address: SocketAddr, batches: usize, seed: u64, is_layered: bool) {
    let mut rng = Rng::new(seed);
    for _ in 0..batches {
        let mut streams: Vec<_> = (0..BATCH).map(|_| connect(address, is_layered)).collect();
        for round in 0..rng.next_u64() % (ROUNDS_MAX + 1) {
            // A connection that is reset before it was accepted need never be seen: the first answer
            // must have begun. After that, at any moment.
            let is_known = round > 0;
            let mut asked = Vec::new();
            for mut stream in streams.drain(..) {
                let bytes = 1 + below(&mut rng, REQUEST_BYTES_MAX);
                let sent: Vec<_> = (0..bytes).map(|_| rng.next_u64().to_le_bytes()[0]).collect();
                stream.write_all(&sent).unwrap();
                if is_known && below(&mut rng, 12) == 0 {
                    reset(stream);
                } else {
                    asked.push((stream, sent));
                }
            }
            let least = usize::from(!is_known);
            for (stream, sent) in asked {
                streams.extend(read_back(stream, &sent, least, &mut rng));
            }
        }
    }
}

fn check(shards: u8, ring_bytes: usize, idle: Idle, batches: usize, is_layered: bool) {
    let before = open_descriptors();
    let world = World::start(shards, ring_bytes, idle, transports(is_layered));
    let address = world.address;
    thread::scope(|scope| {
        for seed in 0..CLIENT_THREADS {
            let seed = (u64::from(shards) << 8) | seed;
            scope.spawn(move || client(address, batches, seed, is_layered));
        }
    });
    let connections = CLIENT_THREADS * (BATCH * batches) as u64;
    let tally = world.end(connections);
    assert_eq!((tally.accepted, tally.closed), (connections, connections));
    assert_eq!(tally.left, tally.arrived, "a connection was lost between two shards");
    assert!(tally.left > connections / 2, "only {} hand-overs", tally.left);
    assert_eq!(open_descriptors(), before, "descriptors were left open");
}

/// One test: two at once would count each other's descriptors.
#[test]
fn connections_roam_and_nothing_is_lost() {
    let park = Idle::Park(Duration::ZERO);
    let brief = Idle::Park(Duration::from_micros(5));
    check(2, 64, park, 15, false);
    check(3, 4096, brief, 15, false);
    check(5, 8, park, 15, false);
    check(8, 128 * 1024, park, 15, false);
    // The layers follow by a way of their own, and each answer passes through them.
    check(2, 64, brief, 15, true);
    check(5, 4096, park, 15, true);
}
