//! A delivered message costs no heap allocation in the steady state at QoS 0 and 1, on its own shard
//! and across shards: the whole broker, its reactors included, under a counting allocator.
#![expect(unsafe_code, reason = "a global allocator is unsafe by its trait")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

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
/// What the end of a time slice costs on both shards, and how often one ends: the executor arms a timer.
const SLICE_ALLOCATIONS_MAX: u64 = 12;
const SLICE: Duration = Duration::from_secs(10);

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

/// A publisher, its subscribers on both shards, and what goes between them, all in buffers that were
/// made before.
struct Flow {
    qos: QoS,
    publisher: TcpStream,
    subscribers: Vec<TcpStream>,
    /// Packets that all have the same length.
    batch: Vec<u8>,
    packet_bytes: usize,
    packet_id_at: usize,
    received: Vec<u8>,
    /// The answers to a batch, and a PINGREQ behind them.
    acks: Vec<u8>,
}

/// Bytes of a PUBACK.
const ACK_BYTES: usize = 4;
const PINGREQ: [u8; 2] = [0xC0, 0];
const PINGRESP: [u8; 2] = [0xD0, 0];

impl Flow {
    fn new(address: SocketAddr, qos: QoS) -> Self {
        let name = format!("{}-", qos.bits());
        let publisher = connect(address, &client_id(&format!("publisher{name}"), 0));
        let mut subscribers = Vec::new();
        for n in 0..2 * SUBSCRIBERS_PER_SHARD {
            let shard = u8::from(n >= SUBSCRIBERS_PER_SHARD);
            let id = client_id(&format!("subscriber{name}{n}-"), shard);
            let mut stream = connect(address, &id);
            let filters = [("sensors/+/temperature", SubscribeOptions::new(qos))];
            let subscribe = Packet::Subscribe(Subscribe::new(PacketId::MIN, &filters));
            exchange(&mut stream, &subscribe, 5);
            subscribers.push(stream);
        }
        let mut batch = Vec::new();
        let mut packet_id_at = 0;
        let mut id = PacketId::MIN;
        for n in 0..BATCH {
            let topic = format!("sensors/{:02}/temperature", n % 7);
            let packet_id = (qos == QoS::AtLeastOnce).then_some(id);
            let publish = Publish { qos, packet_id, ..Publish::new(&topic, &[b'x'; 64]) };
            Packet::Publish(publish).encode(Version::V311, &mut batch);
            // Behind two bytes of header and two of the topic's length.
            packet_id_at = 4 + topic.len();
            id = id.next();
        }
        let mut acks = vec![0; BATCH * ACK_BYTES];
        acks.extend_from_slice(&PINGREQ);
        let received = vec![0; batch.len()];
        let packet_bytes = batch.len() / BATCH;
        Self { qos, publisher, subscribers, batch, packet_bytes, packet_id_at, received, acks }
    }

    /// Publishes batches, takes every delivery and, at QoS 1, acknowledges it. A batch begins when the
    /// broker has heard the acknowledgements of the one before, so that it never keeps more than one:
    /// room for a second would be allocated whenever that happens for the first time.
    fn run(&mut self, batches: usize) {
        for _ in 0..batches {
            self.publisher.write_all(&self.batch).expect("the broker takes it");
            for at in 0..self.subscribers.len() {
                self.subscribers[at].read_exact(&mut self.received).expect("every delivery comes");
                if self.qos == QoS::AtLeastOnce {
                    self.acknowledge(at);
                }
                assert_eq!(self.received, self.batch);
            }
            if self.qos == QoS::AtLeastOnce {
                let puback = &mut self.acks[..BATCH * ACK_BYTES];
                self.publisher.read_exact(puback).expect("the broker acknowledges");
                for subscriber in &mut self.subscribers {
                    let mut pong = [0; PINGRESP.len()];
                    subscriber.read_exact(&mut pong).expect("the broker answers");
                    assert_eq!(pong, PINGRESP);
                }
            }
        }
    }

    /// Answers what was received, and puts the publisher's packet identifiers in it.
    fn acknowledge(&mut self, subscriber: usize) {
        let packets = self.received.chunks_exact_mut(self.packet_bytes);
        let sent = self.batch.chunks_exact(self.packet_bytes);
        let id = self.packet_id_at..self.packet_id_at + 2;
        for ((packet, sent), ack) in packets.zip(sent).zip(self.acks.chunks_exact_mut(ACK_BYTES)) {
            ack[..2].copy_from_slice(&[0x40, 2]);
            ack[2..].copy_from_slice(&packet[id.clone()]);
            packet[id.clone()].copy_from_slice(&sent[id.clone()]);
        }
        self.subscribers[subscriber].write_all(&self.acks).expect("the broker takes it");
    }

    /// Of each of some windows: how many allocations there were, and how many slices can have ended.
    fn windows(&mut self) -> Vec<(u64, u64)> {
        self.run(WARM_UP_BATCHES);
        let window = |_| {
            let (start, before) = (Instant::now(), ALLOCATIONS.load(Ordering::Relaxed));
            self.run(BATCHES);
            let allocations = ALLOCATIONS.load(Ordering::Relaxed) - before;
            (allocations, 1 + start.elapsed().as_secs() / SLICE.as_secs())
        };
        (0..WINDOWS).map(window).collect()
    }
}

fn check(address: SocketAddr, qos: QoS) {
    let windows = Flow::new(address, qos).windows();
    let deliveries = 2 * SUBSCRIBERS_PER_SHARD * BATCHES * BATCH;
    let each: Vec<String> =
        windows.iter().map(|&(count, _)| (count as f64 / deliveries as f64).to_string()).collect();
    println!(
        "allocations per delivery, QoS {}: {}  (windows of {deliveries}, half across shards)",
        qos.bits(),
        each.join(" ")
    );
    // What a delivery allocated would show in every window, and thousands of times.
    let is_slices = |&(count, slices): &(u64, u64)| count <= slices * SLICE_ALLOCATIONS_MAX;
    assert!(windows.iter().all(is_slices), "allocations, slices: {windows:?}");
}

/// In one test: what others allocate meanwhile would count.
#[test]
fn deliveries_at_qos_0_and_1_allocate_nothing() {
    let flags = ["muring", "--listen", "127.0.0.1:0", "--shards", "2"];
    let environment = [("MURING_SYS_INTERVAL_S".to_owned(), "0".to_owned())];
    let cores = muring::cores::available();
    let loaded = Config::load(&Cli::parse_from(flags), environment.into_iter(), &cores)
        .expect("a sound configuration");
    let broker = Broker::start(&loaded.config).expect("it starts");
    let address = broker.addresses()[0];
    check(address, QoS::AtMostOnce);
    check(address, QoS::AtLeastOnce);
    broker.stop();
    assert_eq!(broker.wait(), Ending::Stopped);
}
