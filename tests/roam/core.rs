//! A core whose connections move to another shard with every request, through the real mailboxes.
//!
//! Whatever comes goes back to the client, but by another shard: the one that has received it moves the
//! connection on, with the bytes, and the next one answers. So each request is a hand-over at least,
//! and the only way between shards is the rings and the doorbells of production.

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use bytes::Bytes;
use gate::admission::Rules;
use glommio::{LocalExecutorBuilder, Placement};
use muring::listen;
use muring::reactor::{BufferSizes, Core, Idle, Reactor, ReactorParts, Stations, Transports};
use shards::ids::{ConnId, ShardId};
use shards::mailbox::{Mailboxes, mesh};
use shards::shard::{Adopt, Input, Origin, Outbox, Output, Reading};
use shards::time::{Now, Time};

/// Bytes beyond which what has come travels beside the record.
const PARCEL_BYTES_MIN: usize = 512;

/// A record that moves a connection: handle, listener, peer's port, whether a parcel has the bytes.
const MOVE_BYTES: usize = 8 + 2 + 2 + 1;

/// Nothing that goes right takes that long; a lost wake-up takes for ever.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// How often connections came and went, over all shards.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Tally {
    pub(crate) accepted: u64,
    pub(crate) left: u64,
    pub(crate) arrived: u64,
    pub(crate) closed: u64,
}

#[derive(Debug)]
struct Conn {
    origin: Origin,
    output: Output,
    sending: bool,
    /// Came by mail, so that its first bytes are to be answered here.
    is_guest: bool,
}

/// One shard. Reads one receive at a time, so that nothing is in flight when a connection moves.
struct RoamCore {
    own: ShardId,
    shards: u8,
    mail: Mailboxes,
    conns: HashMap<ConnId, Conn>,
    tally: Tally,
    /// Handles of connections that have come by mail and are not open yet.
    expected: HashSet<u64>,
    closed: Sender<()>,
    tallies: Sender<Tally>,
}

impl RoamCore {
    fn next_shard(&self) -> ShardId {
        ShardId((self.own.0 + 1) % self.shards)
    }

    fn on_opened(&mut self, conn: ConnId, origin: Origin, out: &mut Outbox) {
        let is_guest = self.expected.remove(&origin.handle);
        if is_guest {
            self.tally.arrived += 1;
        } else {
            self.tally.accepted += 1;
            out.reads.push((conn, Reading::Once));
        }
        let entry = Conn { origin, output: Output::default(), sending: false, is_guest };
        assert!(self.conns.insert(conn, entry).is_none(), "{conn:?} was opened twice");
    }

    fn on_received(&mut self, conn: ConnId, bytes: &[u8], out: &mut Outbox) {
        let entry = self.conns.get_mut(&conn).expect("bytes of an unknown connection");
        assert!(!entry.sending, "more was read before the answer was sent");
        if std::mem::take(&mut entry.is_guest) {
            entry.output.bytes.extend_from_slice(bytes);
            // Its end is what the next receive waits for.
            entry.output.is_awaited = true;
            out.sends.push(conn);
            return;
        }
        let origin = entry.origin;
        self.conns.remove(&conn);
        self.tally.left += 1;
        let to = self.next_shard();
        out.releases.push((conn, to));
        let is_beside = bytes.len() >= PARCEL_BYTES_MIN;
        let parcel = is_beside.then(|| Bytes::copy_from_slice(bytes));
        self.mail.post(to, parcel, |record| {
            record.extend_from_slice(&origin.handle.to_le_bytes());
            record.extend_from_slice(&origin.listener.to_le_bytes());
            record.extend_from_slice(&origin.peer.port().to_le_bytes());
            record.push(u8::from(is_beside));
            if !is_beside {
                record.extend_from_slice(bytes);
            }
        });
    }

    fn on_mail(&mut self, from: ShardId, out: &mut Outbox) {
        let Some(mut batch) = self.mail.drain(from) else { return };
        while let Some(record) = batch.next_record() {
            let (head, inline) = record.split_at(MOVE_BYTES);
            let handle = u64::from_le_bytes(head[..8].try_into().unwrap());
            let listener = u16::from_le_bytes(head[8..10].try_into().unwrap());
            let port = u16::from_le_bytes(head[10..12].try_into().unwrap());
            let bytes = match head[12] {
                0 => inline.to_vec(),
                _ => self.mail.take_parcel(from).expect("a parcel with its record").to_vec(),
            };
            let peer = SocketAddr::from(([127, 0, 0, 1], port));
            assert!(self.expected.insert(handle), "{handle} came twice");
            out.adopts.push(Adopt { origin: Origin { handle, listener, peer }, bytes });
        }
        self.mail.finish(batch);
    }
}

impl Core for RoamCore {
    fn handle(&mut self, _now: Now, input: Input<'_>, out: &mut Outbox) {
        match input {
            Input::Opened { conn, origin } => self.on_opened(conn, origin, out),
            Input::Received { conn, bytes } => self.on_received(conn, bytes, out),
            Input::Drained { conn } => {
                let entry = self.conns.get_mut(&conn).expect("drained an unknown connection");
                entry.sending = false;
                out.reads.push((conn, Reading::Once));
            }
            Input::Closed { conn, .. } => {
                self.conns.remove(&conn).expect("closed twice, or after it had moved");
                self.tally.closed += 1;
                // A test that has failed counts no longer.
                let _ = self.closed.send(());
            }
            Input::Mail { from } => self.on_mail(from, out),
            Input::Stop => out.stopped = true,
            Input::Deadline | Input::Load { .. } => {}
            Input::Identified { conn, peer, .. } => {
                assert!(self.conns.contains_key(&conn));
                assert_eq!(peer, Some("192.0.2.1:4711".parse().unwrap()));
            }
            Input::Authenticated { .. } | Input::Rules { .. } | Input::Stored { .. } => {
                panic!("nobody asked for it")
            }
        }
    }

    fn flush(&mut self, _now: Now, out: &mut Outbox) {
        for to in self.mail.others() {
            if self.mail.flush(to) && !out.doorbells.contains(&to) {
                out.doorbells.push(to);
            }
        }
    }

    fn take_output(&mut self, conn: ConnId) -> Output {
        let entry = self.conns.get_mut(&conn).expect("took output of an unknown connection");
        assert!(!entry.sending, "two sends at once");
        entry.sending = true;
        std::mem::take(&mut entry.output)
    }

    fn reuse(&mut self, _output: Output) {}

    fn next_deadline(&self) -> Option<Time> {
        None
    }

    fn has_work(&self) -> bool {
        self.mail.has_staged()
    }

    fn has_mail(&self) -> bool {
        self.mail.has_mail()
    }
}

impl Drop for RoamCore {
    fn drop(&mut self) {
        // As with `closed`.
        let _ = self.tallies.send(self.tally);
        assert!(thread::panicking() || self.conns.is_empty(), "{:?} are left", self.conns);
    }
}

/// Shards on threads, all of which listen.
pub(crate) struct World {
    pub(crate) address: SocketAddr,
    stations: Arc<Stations>,
    threads: Vec<JoinHandle<()>>,
    closed: Receiver<()>,
    tallies: Receiver<Tally>,
}

impl World {
    pub(crate) fn start(shards: u8, ring_bytes: usize, idle: Idle, transports: Transports) -> Self {
        let any = "127.0.0.1:0".parse().unwrap();
        let listeners = listen::open(&[(0, any)], usize::from(shards)).unwrap();
        let address = listeners[0][0].bound.address().unwrap();
        let stations = Arc::new(Stations::new(shards).unwrap());
        let (closed_in, closed) = channel();
        let (tallies_in, tallies) = channel();
        let ends = mesh(shards, ring_bytes).into_iter().zip(listeners);
        let threads = (0..shards).map(ShardId).zip(ends).map(|(own, (mail, listeners))| {
            let core = RoamCore {
                own,
                shards,
                mail,
                conns: HashMap::new(),
                tally: Tally::default(),
                expected: HashSet::new(),
                closed: closed_in.clone(),
                tallies: tallies_in.clone(),
            };
            let stations = Arc::clone(&stations);
            let buffers = BufferSizes { count: 16, bytes: 1024 };
            let transports = transports.clone();
            let parts = ReactorParts {
                transports,
                admission: Rules::default(),
                shard: own,
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
        // What is left are the shards' own.
        drop((closed_in, tallies_in));
        Self { address, stations, threads, closed, tallies }
    }

    /// Waits until `count` connections have ended, then stops the shards.
    pub(crate) fn end(mut self, count: u64) -> Tally {
        for ended in 0..count {
            let closed = self.closed.recv_timeout(PATIENCE);
            assert!(closed.is_ok(), "{ended} of {count} connections ended: {closed:?}");
        }
        self.stop();
        self.tallies.iter().fold(Tally::default(), |sum, tally| Tally {
            accepted: sum.accepted + tally.accepted,
            left: sum.left + tally.left,
            arrived: sum.arrived + tally.arrived,
            closed: sum.closed + tally.closed,
        })
    }

    fn stop(&mut self) {
        self.stations.stop();
        for thread in self.threads.drain(..) {
            let ended = thread.join();
            assert!(ended.is_ok() || thread::panicking(), "a shard panicked");
        }
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.stop();
    }
}
