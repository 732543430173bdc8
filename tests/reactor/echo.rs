//! A core that echoes, and what else a test needs it to do; shards with it on threads of their own.

use std::collections::{HashMap, VecDeque};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use gate::admission::Rules;
use gate::transport::StackConfig;
use glommio::{LocalExecutorBuilder, Placement};
use muring::accounts::Owner;
use muring::config::{Kind, ListenerConfig, Place, UnixPlace};
use muring::listen::{self, SocketFile};
use muring::reactor::{
    BufferSizes, Core, Idle, Listener, Reactor, ReactorParts, Stations, Transports,
};
use shards::ids::{ConnId, ShardId};
use shards::shard::{Adopt, CloseCause, Closing, Input, Origin, Outbox, Output, Reading};
use shards::time::{Now, Time};

/// More than the socket buffers of both sides hold.
pub(crate) const FLOOD_BYTES: usize = 48 * 1024 * 1024;

/// Nothing that goes right takes that long.
const PATIENCE: Duration = Duration::from_secs(20);

/// What the core does with a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    Echo,
    /// Echo with single receives.
    Once,
    /// Stop reading after the first bytes, go on some time later. No echo.
    PauseOnce,
    /// Answer the first bytes with more than fits any buffer.
    Flood,
    FloodThenAbort,
    FloodThenFinish,
    FinishThenAbort,
    Splice,
    /// Shard 0 hands each connection to shard 1 with its first bytes.
    HandOver,
    /// Every connection gets what one of them sent.
    FanOut,
    /// Shard 0 asks shard 1 for each echo.
    ByMail,
}

/// What a test can wait for.
#[derive(Debug)]
pub(crate) enum Event {
    /// The pause is over; so many bytes had come by then.
    Resumed {
        received: usize,
    },
    Closed {
        shard: u8,
        conn: ConnId,
        cause: CloseCause,
        received: usize,
    },
    Identified {
        shard: u8,
        identity: Option<String>,
        /// Where the connection came from.
        peer: SocketAddr,
    },
}

enum Mail {
    Adopt(Adopt),
    Echo(ConnId, Vec<u8>),
}

type Mailbox = Arc<Mutex<VecDeque<Mail>>>;

#[derive(Debug)]
struct Conn {
    origin: Origin,
    output: Output,
    sending: bool,
    listed: bool,
    received: usize,
}

struct EchoCore {
    shard: ShardId,
    mode: Mode,
    conns: HashMap<ConnId, Conn>,
    mail: Vec<Mailbox>,
    events: Sender<Event>,
    deadline: Option<(Time, ConnId)>,
}

impl EchoCore {
    fn reply(&mut self, conn: ConnId, out: &mut Outbox, fill: impl FnOnce(&mut Output)) {
        let Some(entry) = self.conns.get_mut(&conn) else { return };
        fill(&mut entry.output);
        if !entry.sending && !entry.listed {
            entry.listed = true;
            out.sends.push(conn);
        }
    }

    fn on_opened(&mut self, conn: ConnId, origin: Origin, out: &mut Outbox) {
        let entry =
            Conn { origin, output: Output::default(), sending: false, listed: false, received: 0 };
        assert!(self.conns.insert(conn, entry).is_none(), "{conn:?} was opened twice");
        let reading = match self.mode {
            Mode::Once => Reading::Once,
            Mode::HandOver if self.shard.0 == 0 => Reading::Once,
            _ => Reading::Stream,
        };
        out.reads.push((conn, reading));
    }

    fn on_received(&mut self, now: Now, conn: ConnId, bytes: &[u8], out: &mut Outbox) {
        assert!(!bytes.is_empty());
        let entry = self.conns.get_mut(&conn).expect("bytes of an unknown connection");
        entry.received += bytes.len();
        let is_first = entry.received == bytes.len();
        let soon = Some((now.time + Duration::from_millis(50), conn));
        match self.mode {
            Mode::Once => {
                out.reads.push((conn, Reading::Once));
                self.reply(conn, out, |output| output.bytes.extend_from_slice(bytes));
            }
            Mode::PauseOnce if is_first => {
                out.reads.push((conn, Reading::Pause));
                self.deadline = soon;
            }
            Mode::PauseOnce => {}
            Mode::HandOver if self.shard.0 == 0 => {
                let moved = self.conns.remove(&conn).expect("just found");
                out.releases.push((conn, ShardId(1)));
                let adopt = Adopt { origin: moved.origin, bytes: bytes.to_vec() };
                self.post(1, Mail::Adopt(adopt), out);
            }
            Mode::Echo | Mode::HandOver => {
                self.reply(conn, out, |output| output.bytes.extend_from_slice(bytes));
            }
            Mode::FanOut => {
                for conn in self.conns.keys().copied().collect::<Vec<_>>() {
                    self.reply(conn, out, |output| output.bytes.extend_from_slice(bytes));
                }
            }
            Mode::ByMail => self.post(1, Mail::Echo(conn, bytes.to_vec()), out),
            Mode::Splice => self.reply(conn, out, |output| *output = spliced()),
            Mode::Flood | Mode::FloodThenAbort | Mode::FloodThenFinish if is_first => {
                self.reply(conn, out, |output| output.bytes.resize(FLOOD_BYTES, 9));
                match self.mode {
                    Mode::FloodThenAbort => self.deadline = soon,
                    Mode::FloodThenFinish => out.closes.push((conn, Closing::Finish)),
                    _ => {}
                }
            }
            Mode::FinishThenAbort if is_first => {
                out.closes.push((conn, Closing::Finish));
                self.deadline = soon;
            }
            Mode::Flood | Mode::FloodThenAbort | Mode::FloodThenFinish | Mode::FinishThenAbort => {
                assert_eq!(self.mode, Mode::Flood, "bytes after the close was asked for");
            }
        }
    }

    fn on_deadline(&mut self, now: Now, out: &mut Outbox) {
        let Some((_, conn)) = self.deadline.take_if(|(deadline, _)| *deadline <= now.time) else {
            return;
        };
        if self.mode == Mode::PauseOnce {
            let received = self.conns[&conn].received;
            self.tell(Event::Resumed { received });
            out.reads.push((conn, Reading::Stream));
        } else {
            out.closes.push((conn, Closing::Abort));
        }
    }

    fn on_mail(&mut self, from: ShardId, out: &mut Outbox) {
        let mut mail = std::mem::take(&mut *self.mailbox(from, self.shard).lock().unwrap());
        for mail in mail.drain(..) {
            match mail {
                Mail::Adopt(adopt) => out.adopts.push(adopt),
                Mail::Echo(conn, bytes) if self.shard.0 == 0 => {
                    self.reply(conn, out, |output| output.bytes.extend_from_slice(&bytes));
                }
                Mail::Echo(conn, bytes) => self.post(0, Mail::Echo(conn, bytes), out),
            }
        }
    }

    fn mailbox(&self, from: ShardId, to: ShardId) -> &Mailbox {
        let shards = self.mail.len().isqrt();
        &self.mail[from.index() * shards + to.index()]
    }

    fn post(&self, to: u8, mail: Mail, out: &mut Outbox) {
        self.mailbox(self.shard, ShardId(to)).lock().unwrap().push_back(mail);
        out.doorbells.push(ShardId(to));
    }

    fn tell(&self, event: Event) {
        // A test that has seen enough is gone.
        let _ = self.events.send(event);
    }
}

impl Core for EchoCore {
    fn handle(&mut self, now: Now, input: Input<'_>, out: &mut Outbox) {
        match input {
            Input::Opened { conn, origin } => self.on_opened(conn, origin, out),
            Input::Received { conn, bytes } => self.on_received(now, conn, bytes, out),
            Input::Drained { conn } => {
                let entry = self.conns.get_mut(&conn).expect("drained an unknown connection");
                assert!(entry.sending, "drained twice");
                entry.sending = false;
                if !entry.output.is_empty() {
                    self.reply(conn, out, |_| {});
                }
            }
            Input::Closed { conn, cause } => {
                let entry = self.conns.remove(&conn).expect("closed twice, or never opened");
                let (shard, received) = (self.shard.0, entry.received);
                self.tell(Event::Closed { shard, conn, cause, received });
            }
            Input::Mail { from } => self.on_mail(from, out),
            Input::Deadline => self.on_deadline(now, out),
            Input::Stop => out.stopped = true,
            Input::Load { busy_permille } => assert!(busy_permille <= 1_000),
            Input::Identified { conn, peer, identity } => {
                assert_eq!(peer, None, "no proxy announced one");
                let entry = self.conns.get(&conn).expect("identified an unknown connection");
                let (identity, peer) = (identity.map(str::to_owned), entry.origin.peer);
                self.tell(Event::Identified { shard: self.shard.0, identity, peer });
            }
            Input::Authenticated { .. } | Input::Rules { .. } | Input::Stored { .. } => {
                panic!("nobody asked for it")
            }
        }
    }

    fn flush(&mut self, _now: Now, _out: &mut Outbox) {}

    fn take_output(&mut self, conn: ConnId) -> Output {
        let entry = self.conns.get_mut(&conn).expect("took output of an unknown connection");
        assert!(!entry.sending, "two sends at once");
        entry.sending = true;
        entry.listed = false;
        std::mem::take(&mut entry.output)
    }

    fn reuse(&mut self, _output: Output) {}

    fn next_deadline(&self) -> Option<Time> {
        self.deadline.map(|(time, _)| time)
    }

    fn has_work(&self) -> bool {
        false
    }

    fn has_mail(&self) -> bool {
        let shards = u8::try_from(self.mail.len().isqrt()).unwrap();
        (0..shards).any(|from| !self.mailbox(ShardId(from), self.shard).lock().unwrap().is_empty())
    }
}

/// Many small splices (more than one operation takes), some large ones, own bytes in between.
fn spliced() -> Output {
    let mut output = Output::default();
    for i in 0..1_500_usize {
        output.bytes.extend_from_slice(format!("<{i}>").as_bytes());
        let payload = if i % 500 == 0 { vec![b'x'; 300_000] } else { vec![b'y'; i % 7] };
        output.splices.push((output.bytes.len(), payload.into()));
    }
    output.bytes.extend_from_slice(b"end");
    output
}

/// What a peer should see of [`Mode::Splice`].
pub(crate) fn spliced_bytes() -> Vec<u8> {
    let output = spliced();
    let mut start = 0;
    let mut bytes = Vec::new();
    for (end, payload) in output.splices.iter() {
        bytes.extend_from_slice(&output.bytes[start..*end]);
        bytes.extend_from_slice(payload);
        start = *end;
    }
    bytes.extend_from_slice(&output.bytes[start..]);
    bytes
}

/// Shards on threads. Stops them when it is dropped.
pub(crate) struct World {
    pub(crate) address: SocketAddr,
    stations: Arc<Stations>,
    threads: Vec<JoinHandle<()>>,
    events: Receiver<Event>,
}

impl World {
    /// Only shard 0 listens.
    pub(crate) fn start(shards: u8, buffers: BufferSizes, idle: Idle, mode: Mode) -> Self {
        Self::with_listeners(shards, 1, buffers, idle, mode, Transports::default())
    }

    /// All shards listen.
    pub(crate) fn start_everywhere(
        shards: u8,
        buffers: BufferSizes,
        idle: Idle,
        mode: Mode,
    ) -> Self {
        let listening = usize::from(shards);
        Self::with_listeners(shards, listening, buffers, idle, mode, Transports::default())
    }

    /// Only shard 0 listens, and its connections have layers.
    pub(crate) fn start_layered(shards: u8, mode: Mode, layers: StackConfig) -> Self {
        let buffers = BufferSizes { count: 64, bytes: 4096 };
        let idle = Idle::Park(Duration::ZERO);
        Self::with_listeners(shards, 1, buffers, idle, mode, Transports::new(vec![layers]))
    }

    fn with_listeners(
        shards: u8,
        listening: usize,
        buffers: BufferSizes,
        idle: Idle,
        mode: Mode,
        transports: Transports,
    ) -> Self {
        let any = "127.0.0.1:0".parse().unwrap();
        let mut listeners = listen::open(&[(0, any)], listening).unwrap();
        let address = listeners[0][0].bound.address().unwrap();
        listeners.resize_with(usize::from(shards), Vec::new);
        Self::run(listeners, address, buffers, idle, mode, transports)
    }

    /// All shards share a unix socket, whose clients are the users that they run as.
    pub(crate) fn start_on_unix(
        path: &Path,
        shards: u8,
        buffers: BufferSizes,
        mode: Mode,
    ) -> (Self, Vec<SocketFile>) {
        let path = path.to_owned();
        let owner = Owner::default();
        let place = Place::Unix(UnixPlace { path, mode: 0o600, owner, peer_credentials: true });
        let config =
            ListenerConfig { kind: Kind::Unix, place, ..ListenerConfig::plain(Vec::new()) };
        let opened = listen::open_all(&[config], usize::from(shards)).unwrap();
        let idle = Idle::Park(Duration::ZERO);
        let nowhere = SocketAddr::from(([0, 0, 0, 0], 0));
        let plain = Transports::default();
        (Self::run(opened.by_shard, nowhere, buffers, idle, mode, plain), opened.files)
    }

    fn run(
        listeners: Vec<Vec<Listener>>,
        address: SocketAddr,
        buffers: BufferSizes,
        idle: Idle,
        mode: Mode,
        transports: Transports,
    ) -> Self {
        let shards = u8::try_from(listeners.len()).unwrap();
        let stations = Arc::new(Stations::new(shards).unwrap());
        let mail: Vec<Mailbox> =
            (0..usize::from(shards) * usize::from(shards)).map(|_| Mailbox::default()).collect();
        let (sender, events) = channel();
        let threads = (0..shards).map(ShardId).zip(listeners).map(|(shard, listeners)| {
            let core = EchoCore {
                shard,
                mode,
                conns: HashMap::new(),
                mail: mail.clone(),
                events: sender.clone(),
                deadline: None,
            };
            let stations = Arc::clone(&stations);
            let parts = ReactorParts {
                transports: transports.clone(),
                admission: Rules::default(),
                shard,
                idle,
                buffers,
                listeners,
                stations,
            };
            thread::spawn(move || {
                let executor = LocalExecutorBuilder::new(Placement::Unbound).make().unwrap();
                executor.run(async move {
                    Reactor::new(core, parts).unwrap().run().await.unwrap();
                });
            })
        });
        let threads = threads.collect();
        Self { address, stations, threads, events }
    }

    pub(crate) fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        stream
    }

    /// Waits for the first event that `pick` wants.
    #[track_caller]
    pub(crate) fn find<T>(&self, pick: impl Fn(Event) -> Option<T>) -> T {
        loop {
            let event = self.events.recv_timeout(PATIENCE).expect("an event in time");
            if let Some(found) = pick(event) {
                return found;
            }
        }
    }

    #[track_caller]
    pub(crate) fn expect_closed(&self, expected: CloseCause) -> ConnId {
        self.find(|event| match event {
            Event::Closed { conn, cause, .. } => {
                assert_eq!(cause, expected);
                Some(conn)
            }
            Event::Resumed { .. } | Event::Identified { .. } => None,
        })
    }

    /// Stops all shards; after that nothing may be left to tell.
    #[track_caller]
    pub(crate) fn expect_no_more(mut self) {
        self.stop();
        match self.events.recv_timeout(PATIENCE) {
            Err(RecvTimeoutError::Disconnected) => {}
            other => panic!("{other:?} after the end"),
        }
    }

    pub(crate) fn stop(&mut self) {
        self.stations.stop();
        for thread in self.threads.drain(..) {
            thread.join().unwrap();
        }
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.stations.stop();
        for thread in self.threads.drain(..) {
            let ended = thread.join();
            assert!(ended.is_ok() || thread::panicking(), "a shard panicked");
        }
    }
}
