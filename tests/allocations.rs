//! A delivered QoS 0 message costs no heap allocation in the steady state, on its own shard and
//! across shards: the whole broker, its reactors included, under a counting allocator.
#![expect(unsafe_code, reason = "a global allocator is unsafe by its trait")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use clap::Parser as _;
use muring::boot::{Broker, Ending};
use muring::cli::Cli;
use muring::config::Config;
use shards::codec::{Connect, Packet, Publish, Subscribe, SubscribeOptions};
use shards::ids::{PacketId, QoS, ShardId, Version};
use shards::slots::owner_of;
use shards::topic::topic_hash;

struct Counting;

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

// SAFETY: every call is handed on to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: as promised by our caller.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as promised by our caller.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: as promised by our caller.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const SUBSCRIBERS_PER_SHARD: usize = 10;
const BATCH: usize = 20;
const WARM_UP_BATCHES: usize = 500;
const BATCHES: usize = 500;
const WINDOWS: usize = 4;
/// What a time slice of the executor costs, a few of them at most.
const SLICE_ALLOCATIONS_MAX: u64 = 12;

/// An identifier whose session lives on `shard` of two.
fn client_id(prefix: &str, shard: u8) -> String {
    (0u32..)
        .map(|n| format!("{prefix}{n}"))
        .find(|id| owner_of(topic_hash(id.as_bytes()), 2) == ShardId(shard))
        .expect("half of all identifiers hash there")
}

fn exchange(stream: &mut TcpStream, packet: &Packet<'_>, answer_bytes: usize) {
    let mut bytes = Vec::new();
    packet.encode(Version::V311, &mut bytes);
    stream.write_all(&bytes).expect("the broker takes it");
    let mut answer = vec![0; answer_bytes];
    stream.read_exact(&mut answer).expect("the broker answers");
}

fn connect(address: SocketAddr, id: &str) -> TcpStream {
    let mut stream = TcpStream::connect(address).expect("it listens");
    stream.set_nodelay(true).expect("a socket");
    stream.set_read_timeout(Some(Duration::from_secs(30))).expect("a socket");
    exchange(&mut stream, &Packet::Connect(Connect::new(Version::V311, id)), 4);
    stream
}

/// Publishes batches and takes every delivery, all from buffers made before.
fn run(batches: usize, batch: &[u8], publisher: &mut TcpStream, subscribers: &mut [TcpStream]) {
    let mut buffer = [0u8; 4096];
    for _ in 0..batches {
        publisher.write_all(batch).expect("the broker takes it");
        for subscriber in &mut *subscribers {
            subscriber.read_exact(&mut buffer[..batch.len()]).expect("every delivery comes");
            assert_eq!(&buffer[..batch.len()], batch);
        }
    }
}

#[test]
fn qos_0_deliveries_allocate_nothing() {
    let flags = ["muring", "--listen", "127.0.0.1:0", "--shards", "2"];
    let environment = [("MURING_SYS_INTERVAL_S".to_owned(), "0".to_owned())];
    let cores = muring::cores::available();
    let loaded = Config::load(&Cli::parse_from(flags), environment.into_iter(), &cores)
        .expect("a sound configuration");
    let broker = Broker::start(&loaded.config).expect("it starts");
    let address = broker.addresses()[0];

    let mut publisher = connect(address, &client_id("publisher", 0));
    let mut subscribers = Vec::new();
    for n in 0..2 * SUBSCRIBERS_PER_SHARD {
        let shard = u8::from(n >= SUBSCRIBERS_PER_SHARD);
        let mut stream = connect(address, &client_id(&format!("subscriber{n}-"), shard));
        let filters = [("sensors/+/temperature", SubscribeOptions::new(QoS::AtMostOnce))];
        let subscribe = Packet::Subscribe(Subscribe::new(PacketId::MIN, &filters));
        exchange(&mut stream, &subscribe, 5);
        subscribers.push(stream);
    }
    let mut batch = Vec::new();
    for n in 0..BATCH {
        let topic = format!("sensors/{:02}/temperature", n % 7);
        Packet::Publish(Publish::new(&topic, &[b'x'; 64])).encode(Version::V311, &mut batch);
    }

    run(WARM_UP_BATCHES, &batch, &mut publisher, &mut subscribers);
    let windows: Vec<u64> = (0..WINDOWS)
        .map(|_| {
            let before = ALLOCATIONS.load(Ordering::Relaxed);
            run(BATCHES, &batch, &mut publisher, &mut subscribers);
            ALLOCATIONS.load(Ordering::Relaxed) - before
        })
        .collect();
    let deliveries = BATCHES * BATCH * SUBSCRIBERS_PER_SHARD;
    println!(
        "allocations per {deliveries} local and {deliveries} cross-shard deliveries: {windows:?}"
    );
    // The executor's time slice ends every few seconds, whatever is delivered; what a delivery
    // allocated would show in every window, and thousands of times.
    assert_eq!(windows.iter().min(), Some(&0));
    assert!(windows.iter().all(|&count| count <= SLICE_ALLOCATIONS_MAX), "{windows:?}");

    drop((publisher, subscribers));
    broker.stop();
    assert_eq!(broker.wait(), Ending::Stopped);
}
