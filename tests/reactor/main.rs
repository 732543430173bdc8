//! The reactor over real loopback sockets, with a core that echoes instead of speaking MQTT.
//!
//! What is tested is the seam: each operation, each way a connection ends, hand-over, doorbells.

#![expect(clippy::unwrap_used, reason = "in a test, a panic is the report")]

mod echo;
mod tls;

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::unix::net::UnixStream;
use std::thread;
use std::time::{Duration, Instant};

use muring::accounts::Accounts;
use muring::reactor::{BufferSizes, Idle};
use rustix::process::{Resource, Rlimit, getrlimit, getuid, setrlimit};
use shards::shard::CloseCause;
use socket2::SockRef;

use echo::{Event, Mode, World};

const PARK: Idle = Idle::Park(Duration::ZERO);
const BUFFERS: BufferSizes = BufferSizes { count: 64, bytes: 16 * 1024 };

fn pattern(bytes: usize) -> Vec<u8> {
    (0..bytes).map(|i| u8::try_from(i * 7 % 251).unwrap()).collect()
}

#[track_caller]
fn expect_echo(stream: &mut TcpStream, sent: &[u8]) {
    let mut back = vec![0; sent.len()];
    stream.read_exact(&mut back).unwrap();
    assert!(back == sent, "{} bytes came back changed", sent.len());
}

/// True at the end of the stream, in whatever form it comes.
fn is_over(stream: &mut TcpStream) -> bool {
    let mut rest = Vec::new();
    match stream.read_to_end(&mut rest) {
        Ok(_) => true,
        Err(error) => error.kind() == ErrorKind::ConnectionReset,
    }
}

fn echo_of_all_sizes(mode: Mode, idle: Idle) {
    let world = World::start(1, BUFFERS, idle, mode);
    let mut stream = world.connect();
    for bytes in [1, 2, 100, 16 * 1024 - 1, 16 * 1024, 16 * 1024 + 1, 100_000, 1024 * 1024] {
        let sent = pattern(bytes);
        stream.write_all(&sent).unwrap();
        expect_echo(&mut stream, &sent);
    }
}

#[test]
fn bytes_come_back_as_they_went() {
    echo_of_all_sizes(Mode::Echo, PARK);
}

#[test]
fn single_receives_lose_nothing() {
    echo_of_all_sizes(Mode::Once, PARK);
}

#[test]
fn a_shard_that_watches_before_it_sleeps() {
    echo_of_all_sizes(Mode::Echo, Idle::Park(Duration::from_micros(200)));
}

#[test]
fn a_shard_that_never_sleeps() {
    echo_of_all_sizes(Mode::Echo, Idle::Spin);
}

#[test]
fn many_connections_on_two_shards() {
    let world = World::start_everywhere(2, BUFFERS, PARK, Mode::Echo);
    let mut streams: Vec<_> = (0..400).map(|_| world.connect()).collect();
    for round in 0..3_usize {
        for (index, stream) in streams.iter_mut().enumerate() {
            stream.write_all(&pattern(index + round + 1)).unwrap();
        }
        for (index, stream) in streams.iter_mut().enumerate() {
            expect_echo(stream, &pattern(index + round + 1));
        }
    }
    drop(streams);
    for _ in 0..400 {
        world.expect_closed(CloseCause::Eof);
    }
}

#[test]
fn numbers_of_closed_connections_serve_again() {
    let world = World::start(1, BUFFERS, PARK, Mode::Echo);
    for round in 1..50 {
        let mut stream = world.connect();
        stream.write_all(&pattern(round)).unwrap();
        expect_echo(&mut stream, &pattern(round));
        drop(stream);
        let conn = world.expect_closed(CloseCause::Eof);
        assert_eq!(conn.index, 0);
        assert_eq!(conn.generation + 1, u32::try_from(round).unwrap());
    }
}

#[test]
fn a_paused_connection_holds_its_peer_and_goes_on() {
    // Few buffers, so that little is on its way when the pause comes.
    let sizes = BufferSizes { count: 8, bytes: 4096 };
    let world = World::start(1, sizes, PARK, Mode::PauseOnce);
    let total = 32 * 1024 * 1024;
    let mut stream = world.connect();
    let writer = thread::spawn(move || {
        stream.write_all(&vec![7; total]).unwrap();
        stream
    });
    let before = world.find(|event| match event {
        Event::Resumed { received } => Some(received),
        _ => None,
    });
    assert!(before < 256 * 1024, "{before} bytes came in spite of the pause");
    let stream = writer.join().unwrap();
    drop(stream);
    let received = world.find(|event| match event {
        Event::Closed { received, .. } => Some(received),
        _ => None,
    });
    assert_eq!(received, total);
}

#[test]
fn what_was_sent_before_the_peer_closed_its_side_is_answered() {
    let world = World::start(1, BUFFERS, PARK, Mode::Echo);
    let mut stream = world.connect();
    stream.write_all(b"last words").unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let mut back = Vec::new();
    stream.read_to_end(&mut back).unwrap();
    assert_eq!(back, b"last words");
    world.expect_closed(CloseCause::Eof);
}

#[test]
fn an_abort_cuts_a_send_that_nobody_reads() {
    let world = World::start(1, BUFFERS, PARK, Mode::FloodThenAbort);
    let mut stream = world.connect();
    stream.write_all(b"go").unwrap();
    world.expect_closed(CloseCause::Asked);
    assert!(is_over(&mut stream));
    world.expect_no_more();
}

#[test]
fn a_reset_by_the_peer_ends_a_send() {
    let world = World::start(1, BUFFERS, PARK, Mode::Flood);
    let mut stream = world.connect();
    stream.write_all(b"go").unwrap();
    // Something has arrived, so the send is on its way.
    let mut first = [0; 1];
    stream.read_exact(&mut first).unwrap();
    SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
    drop(stream);
    world.expect_closed(CloseCause::Failed);
    world.expect_no_more();
}

#[test]
fn a_peer_that_closes_while_it_is_sent_to_is_noticed() {
    let world = World::start(1, BUFFERS, PARK, Mode::Flood);
    let mut stream = world.connect();
    stream.write_all(b"go").unwrap();
    let mut first = [0; 1];
    stream.read_exact(&mut first).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    world.expect_closed(CloseCause::Eof);
    assert!(is_over(&mut stream));
}

#[test]
fn a_finished_connection_gets_everything_and_then_the_end() {
    let world = World::start(1, BUFFERS, PARK, Mode::FloodThenFinish);
    let mut stream = world.connect();
    stream.write_all(b"go").unwrap();
    let mut back = Vec::new();
    stream.read_to_end(&mut back).unwrap();
    assert_eq!(back.len(), echo::FLOOD_BYTES);
    // Our side still sends, and is not heard.
    stream.write_all(&pattern(100_000)).unwrap();
    drop(stream);
    let (cause, received) = world.find(|event| match event {
        Event::Closed { cause, received, .. } => Some((cause, received)),
        _ => None,
    });
    assert_eq!((cause, received), (CloseCause::Asked, 2));
}

#[test]
fn a_finished_connection_whose_peer_does_nothing_can_be_aborted() {
    let world = World::start(1, BUFFERS, PARK, Mode::FinishThenAbort);
    let mut stream = world.connect();
    stream.write_all(b"go").unwrap();
    world.expect_closed(CloseCause::Asked);
    assert!(is_over(&mut stream));
}

#[test]
fn payloads_are_spliced_in_at_their_places() {
    let world = World::start(1, BUFFERS, PARK, Mode::Splice);
    let mut stream = world.connect();
    stream.write_all(b"go").unwrap();
    let expected = echo::spliced_bytes();
    expect_echo(&mut stream, &expected);
    stream.write_all(b"again").unwrap();
    expect_echo(&mut stream, &expected);
}

#[test]
fn a_connection_moves_to_another_shard_with_its_bytes() {
    let world = World::start(2, BUFFERS, PARK, Mode::HandOver);
    let mut streams: Vec<_> = (0..20).map(|_| world.connect()).collect();
    for stream in &mut streams {
        stream.write_all(b"first ").unwrap();
        expect_echo(stream, b"first ");
        stream.write_all(b"second").unwrap();
        expect_echo(stream, b"second");
    }
    drop(streams);
    let mut adopted = 0;
    for _ in 0..20 {
        adopted += world.find(|event| match event {
            Event::Closed { shard, .. } => Some(usize::from(shard)),
            _ => None,
        });
    }
    assert_eq!(adopted, 20, "all ended on shard 1, and only there");
    world.expect_no_more();
}

#[test]
fn a_unix_socket_tells_who_its_clients_are_on_every_shard() {
    let name = format!("muring-reactor-{}.sock", std::process::id());
    let path = std::env::temp_dir().join(name);
    let (world, files) = World::start_on_unix(&path, 2, BUFFERS, Mode::HandOver);
    let user = Accounts::read().unwrap().identity(getuid().as_raw());
    for _ in 0..20 {
        let mut stream = UnixStream::connect(&path).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        stream.write_all(b"hello").unwrap();
        // Whichever shard accepts, shard 1 answers, and has to know by then.
        let (identity, peer) = world.find(|event| match event {
            Event::Identified { shard: 1, identity, peer } => Some((identity, peer)),
            _ => None,
        });
        assert_eq!(identity.as_deref(), Some(&*user));
        assert!(peer.ip().is_unspecified() && peer.port() == 0, "{peer}");
        let mut back = [0; 5];
        stream.read_exact(&mut back).unwrap();
        assert_eq!(&back, b"hello");
    }
    drop(world);
    drop(files);
    assert!(!path.exists());
}

#[test]
fn one_turn_can_send_more_than_the_submission_queue_holds() {
    let maximum = getrlimit(Resource::Nofile).maximum;
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).unwrap();
    let world = World::start(1, BUFFERS, PARK, Mode::FanOut);
    let mut streams: Vec<_> = (0..1_300).map(|_| world.connect()).collect();
    // All are known to the core when the last is answered: accepts are in order.
    for round in 1..4 {
        let sent = pattern(round);
        streams.last_mut().unwrap().write_all(&sent).unwrap();
        for stream in &mut streams {
            expect_echo(stream, &sent);
        }
    }
}

/// Each round trip is two doorbells to a shard that sleeps or is about to; a lost one would hang.
fn mail_round_trips(idle: Idle) {
    let world = World::start(2, BUFFERS, idle, Mode::ByMail);
    let mut stream = world.connect();
    for round in 0..2_000_usize {
        let sent = pattern(1 + round % 60);
        stream.write_all(&sent).unwrap();
        expect_echo(&mut stream, &sent);
    }
}

#[test]
fn doorbells_wake_a_sleeping_shard() {
    mail_round_trips(PARK);
}

#[test]
fn doorbells_wake_a_shard_that_watches_for_a_moment() {
    mail_round_trips(Idle::Park(Duration::from_micros(5)));
}

#[test]
fn two_tiny_buffers_serve_many_connections() {
    let world = World::start(1, BufferSizes { count: 2, bytes: 256 }, PARK, Mode::Echo);
    let sent = pattern(64 * 1024);
    let mut streams: Vec<_> = (0..40).map(|_| world.connect()).collect();
    for stream in &mut streams {
        stream.write_all(&sent).unwrap();
    }
    for stream in &mut streams {
        expect_echo(stream, &sent);
    }
}

#[test]
fn a_stop_ends_connections() {
    let mut world = World::start(2, BUFFERS, PARK, Mode::Echo);
    let mut stream = world.connect();
    stream.write_all(b"hello").unwrap();
    expect_echo(&mut stream, b"hello");
    let start = Instant::now();
    world.stop();
    assert!(start.elapsed() < Duration::from_secs(5));
    assert!(is_over(&mut stream));
}
