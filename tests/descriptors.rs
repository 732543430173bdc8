//! Running out of file descriptors. In a process of its own: the limit counts for all of it.

#![expect(clippy::unwrap_used, reason = "in a test, a panic is the report")]

#[path = "reactor/echo.rs"]
#[expect(dead_code, reason = "this test needs only a part of it")]
mod echo;

use std::collections::VecDeque;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::time::{Duration, Instant};

use muring::reactor::{BufferSizes, Idle};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::time::{ClockId, clock_gettime};
use socket2::{Domain, Socket, Type};

use echo::{Mode, World};

const CLIENTS: usize = 80;

/// Descriptors that the broker side can get: its own and some connections, by far not all.
const FREE: u64 = 40;

fn cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(u64::try_from(time.tv_sec).unwrap(), u32::try_from(time.tv_nsec).unwrap())
}

/// Lowers the limit so that `free` more descriptors can be opened.
fn leave_descriptors(free: u64) {
    // The kernel gives the lowest number that is free.
    let lowest = std::io::stderr().as_fd().try_clone_to_owned().unwrap();
    let lowest = u64::try_from(lowest.as_raw_fd()).unwrap();
    let maximum = getrlimit(Resource::Nofile).maximum;
    setrlimit(Resource::Nofile, Rlimit { current: Some(lowest + free), maximum }).unwrap();
}

#[test]
fn a_shortage_of_descriptors_is_waited_out() {
    let sockets: Vec<_> =
        (0..CLIENTS).map(|_| Socket::new(Domain::IPV4, Type::STREAM, None).unwrap()).collect();
    // Before the start: an accept keeps to the limit that counted when it was armed.
    leave_descriptors(FREE);
    let buffers = BufferSizes { count: 8, bytes: 4096 };
    let world = World::start(1, buffers, Idle::Park(Duration::ZERO), Mode::Echo);
    let mut streams = VecDeque::new();
    for socket in sockets {
        socket.connect(&world.address.into()).unwrap();
        let mut stream = TcpStream::from(socket);
        stream.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
        stream.write_all(b"hello").unwrap();
        streams.push_back(stream);
    }

    // The first waits for the start as well.
    streams[0].set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let mut served = Vec::new();
    let (wall, cpu) = loop {
        let (wall, cpu) = (Instant::now(), cpu_time());
        let mut stream = streams.pop_front().expect("one for which there is no descriptor");
        if stream.read_exact(&mut [0; 5]).is_err() {
            streams.push_front(stream);
            break (wall.elapsed(), cpu_time() - cpu);
        }
        served.push(stream);
    };
    assert!(!served.is_empty());
    // A reactor that tried again at once would have burnt its core meanwhile.
    assert!(cpu < wall / 2, "busy for {cpu:?} of {wall:?} while it cannot accept");

    // Each end makes room for one that waits.
    drop(served);
    for mut stream in streams {
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        stream.read_exact(&mut [0; 5]).unwrap();
    }
}
