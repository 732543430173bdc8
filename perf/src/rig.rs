//! Shards without a shell: inputs in, effects out, on one thread and with no socket.
//!
//! Takes the place of the reactor as cheaply as can be, so that what is measured is the core. Owned
//! by one benchmark.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use shards::Shard;
use shards::auth::AllowAll;
use shards::codec::{Connect, Packet, Subscribe, SubscribeOptions};
use shards::ids::{ConnId, PacketId, QoS, ShardId, Version};
use shards::limits::Settings;
use shards::mailbox::mesh;
use shards::shard::{CloseCause, Input, Origin, Outbox, ShardParts};
use shards::slots::owner_of;
use shards::time::{Now, Time};
use shards::topic::topic_hash;

const SEED: u64 = 7;

/// Microseconds from one input to the next.
const STEP: Duration = Duration::from_micros(1);

/// A network connection of one of the shards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Client {
    pub(crate) shard: ShardId,
    pub(crate) conn: ConnId,
}

/// One shard, and what the reactor would keep for it.
#[derive(Debug)]
struct Seat {
    shard: Shard,
    /// Filled by the shard.
    outbox: Outbox,
    /// Being carried out.
    effects: Outbox,
}

/// All shards of a broker.
#[derive(Debug)]
pub(crate) struct Rig {
    seats: Vec<Seat>,
    now: Now,
    conns: u32,
}

impl Rig {
    pub(crate) fn new(count: u8) -> Self {
        let settings = Settings { sys_interval_s: 0, ..Settings::default() };
        let mailboxes = mesh(count, settings.mailbox_bytes);
        let seats = (0..count).zip(mailboxes).map(|(id, mailboxes)| {
            let shard = Shard::new(ShardParts {
                id: ShardId(id),
                shards: count,
                settings: settings.clone(),
                seed: SEED,
                mailboxes,
                authenticate: Box::new(AllowAll),
                authorise: Box::new(AllowAll),
            });
            Seat { shard, outbox: Outbox::default(), effects: Outbox::default() }
        });
        let now = Now { time: Time::from_secs(1), unix_secs: 1_700_000_000 };
        Self { seats: seats.collect(), now, conns: 0 }
    }

    /// A connected client whose session lives on `shard`.
    pub(crate) fn client(&mut self, shard: ShardId, version: Version) -> Client {
        let client = Client { shard, conn: ConnId { index: self.conns, generation: 0 } };
        self.conns += 1;
        self.open(client);
        let count = self.count();
        let name = (0..u32::MAX)
            .map(|n| format!("client-{}-{n}", client.conn.index))
            .find(|name| owner_of(topic_hash(name.as_bytes()), count) == shard)
            .unwrap_or_default();
        let mut connect = Vec::new();
        Connect::new(version, &name).encode(&mut connect);
        self.give(client, &connect);
        self.settle(|_, _| {});
        client
    }

    pub(crate) fn subscribe(&mut self, client: Client, version: Version, filter: &str, qos: QoS) {
        let filters = [(filter, SubscribeOptions::new(qos))];
        let mut subscribe = Vec::new();
        Packet::Subscribe(Subscribe::new(PacketId::MIN, &filters)).encode(version, &mut subscribe);
        self.give(client, &subscribe);
        self.settle(|_, _| {});
    }

    pub(crate) fn open(&mut self, client: Client) {
        let peer = SocketAddr::from((Ipv4Addr::LOCALHOST, 1883));
        let handle = u64::from(client.conn.index);
        let origin = Origin { handle, listener: 0, peer };
        self.handle(client.shard, Input::Opened { conn: client.conn, origin });
    }

    /// What `client` sends; [`Self::settle`] carries out what it leads to.
    pub(crate) fn give(&mut self, client: Client, bytes: &[u8]) {
        self.handle(client.shard, Input::Received { conn: client.conn, bytes });
    }

    /// Gives turns to all shards until nothing moves any more; `sent` sees all that goes to clients.
    pub(crate) fn settle(&mut self, mut sent: impl FnMut(Client, &[u8])) {
        let mut is_moving = true;
        while is_moving {
            is_moving = false;
            for shard in (0..self.count()).map(ShardId) {
                is_moving |= self.turn(shard, &mut sent);
            }
        }
    }

    /// One turn of one shard's reactor. True if it led to anything.
    fn turn(&mut self, id: ShardId, sent: &mut impl FnMut(Client, &[u8])) -> bool {
        for from in (0..self.count()).map(ShardId).filter(|&from| from != id) {
            let seat = self.seats.get(id.index());
            if seat.is_some_and(|seat| seat.shard.has_mail_from(from)) {
                self.handle(id, Input::Mail { from });
            }
        }
        let now = self.now;
        let Some(Seat { shard, outbox, effects }) = self.seats.get_mut(id.index()) else {
            return false;
        };
        shard.flush(now, outbox);
        std::mem::swap(outbox, effects);
        for &conn in effects.sends.iter().chain(&effects.bulk_sends) {
            let output = shard.take_output(conn);
            sent(Client { shard: id, conn }, &output.bytes);
            shard.reuse(output);
            shard.handle(now, Input::Drained { conn }, outbox);
        }
        for &(conn, _) in &effects.closes {
            shard.handle(now, Input::Closed { conn, cause: CloseCause::Asked }, outbox);
        }
        let is_moving = !(effects.sends.is_empty()
            && effects.bulk_sends.is_empty()
            && effects.closes.is_empty()
            && effects.releases.is_empty()
            && effects.doorbells.is_empty());
        effects.clear();
        is_moving
    }

    /// A turn of one shard while nothing happens; how many mailboxes it looked into, 0 if one held
    /// something after all.
    pub(crate) fn idle_turn(&mut self, id: ShardId) -> u64 {
        let others = u64::from(self.count()).saturating_sub(1);
        if self.turn(id, &mut |_, _| {}) { 0 } else { others }
    }

    fn handle(&mut self, id: ShardId, input: Input<'_>) {
        self.now.time = self.now.time + STEP;
        if let Some(Seat { shard, outbox, .. }) = self.seats.get_mut(id.index()) {
            shard.handle(self.now, input, outbox);
        }
    }

    fn count(&self) -> u8 {
        u8::try_from(self.seats.len()).unwrap_or(u8::MAX)
    }
}
