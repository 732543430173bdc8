//! A connection answers the same, in whatever pieces the bytes come.
//!
//! Input: what was said before (one byte), a seed for the pieces (two bytes), and the bytes. One
//! shard hears them in one piece and another in pieces; their answers are compared byte by byte.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use shards::Shard;
use shards::codec::{Connect, Subscribe, SubscribeOptions};
use shards::ids::{ConnId, PacketId, QoS, ShardId};
use shards::limits::Settings;
use shards::mailbox::mesh;
use shards::rng::Rng;
use shards::shard::{CloseCause, Closing, Input, Origin, Outbox, Output, ShardParts};
use shards::time::{Now, Time};
use sim::rules::Rules;
use sim::wire::flatten;

use crate::version_of;

/// Longer inputs find nothing more.
const BYTES_MAX: usize = 4096;

const CONN: ConnId = ConnId { index: 0, generation: 1 };

/// # Panics
/// If the answers differ, or something is left when the connection is gone.
pub fn check(data: &[u8]) {
    let &[before, high, low, ref bytes @ ..] = data else { return };
    let bytes = &bytes[..bytes.len().min(BYTES_MAX)];
    let mut whole = Peer::new();
    let mut pieces = Peer::new();
    let prelude = prelude(before);
    whole.hear(&prelude);
    pieces.hear(&prelude);
    let mut rng = Rng::new(u64::from(u16::from_be_bytes([high, low])));
    whole.hear(bytes);
    let mut rest = bytes;
    while !rest.is_empty() {
        let most = if rng.next_u64().is_multiple_of(4) { 64 } else { 4 };
        let count = 1 + usize::try_from(rng.next_u64() % most).unwrap_or(0);
        let (piece, behind) = rest.split_at(count.min(rest.len()));
        pieces.hear(piece);
        rest = behind;
    }
    assert_eq!(whole.said, pieces.said, "the answers depend on the pieces");
    assert_eq!(whole.closing, pieces.closing, "the end depends on the pieces");
    whole.leave();
    pieces.leave();
}

/// Nothing, a CONNECT of a version, or one with a subscription to everything.
fn prelude(before: u8) -> Vec<u8> {
    let mut bytes = Vec::new();
    let version = version_of(before);
    if before & 0x0C != 0 {
        Connect { topic_alias_max: 2, ..Connect::new(version, "c") }.encode(&mut bytes);
    }
    if before & 0x08 != 0 {
        let options = SubscribeOptions::new(QoS::ExactlyOnce);
        Subscribe::new(PacketId::MIN, &[("#", options)]).encode(version, &mut bytes);
    }
    bytes
}

/// A shard with one connection, whose client reads everything at once.
struct Peer {
    shard: Shard,
    out: Outbox,
    now: Now,
    said: Vec<u8>,
    closing: Option<Closing>,
}

impl Peer {
    fn new() -> Self {
        let settings = Settings {
            sys_interval_s: 0,
            session_expiry_max_s: 50,
            packet_bytes_max: 2048,
            // Many packets in one piece are one turn, in which much waits for the next one; and a
            // connection may have ended by then.
            turn_packets_max: u32::MAX,
            // Their output is not more than a client takes at once.
            out_bytes_max: 1 << 30,
            ..Settings::default()
        };
        let mailboxes = mesh(1, settings.mailbox_bytes).pop().expect("one shard");
        let shard = Shard::new(ShardParts {
            id: ShardId(0),
            shards: 1,
            settings,
            seed: 7,
            mailboxes,
            authenticate: Box::new(Rules::default()),
            authorise: Box::new(Rules::default()),
        });
        let now = Now { time: Time::from_secs(1000), unix_secs: 1_700_000_000 };
        let mut peer = Self { shard, out: Outbox::default(), now, said: Vec::new(), closing: None };
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 1883));
        let origin = Origin { handle: 0, listener: 0, peer: address };
        peer.give(Input::Opened { conn: CONN, origin });
        peer
    }

    fn hear(&mut self, bytes: &[u8]) {
        // The shell has no connection any more that it could read from.
        if self.closing != Some(Closing::Abort) && !bytes.is_empty() {
            self.give(Input::Received { conn: CONN, bytes });
        }
    }

    /// Gives one input, and goes on until there is nothing to do.
    fn give(&mut self, input: Input<'_>) {
        self.shard.handle(self.now, input, &mut self.out);
        loop {
            self.shard.flush(self.now, &mut self.out);
            assert!(self.out.adopts.is_empty() && self.out.doorbells.is_empty());
            self.closing = self.out.closes.last().map(|&(_, closing)| closing).or(self.closing);
            let is_sending = !(self.out.sends.is_empty() && self.out.bulk_sends.is_empty());
            self.out.clear();
            if is_sending {
                let output: Output = self.shard.take_output(CONN);
                self.said.extend_from_slice(&flatten(&output));
                self.shard.reuse(output);
                self.shard.handle(self.now, Input::Drained { conn: CONN }, &mut self.out);
            } else if !self.shard.has_work() {
                break;
            }
        }
    }

    fn leave(mut self) {
        self.give(Input::Closed { conn: CONN, cause: CloseCause::Eof });
        let end = self.now.time + Duration::from_secs(100);
        while let Some(next) = self.shard.next_deadline().filter(|&next| next <= end) {
            self.now.time = self.now.time.max(next);
            self.give(Input::Deadline);
        }
        let gauges = self.shard.snapshot().gauges;
        let left =
            (gauges.connections, gauges.sessions, gauges.subscriptions, gauges.messages_kept);
        assert_eq!(left, (0, 0, 0, 0), "something is left");
    }
}
