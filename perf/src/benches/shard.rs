//! Whole exchanges with one shard, or two, through the seam: bytes in, bytes out.

use shards::codec::{Connect, Disconnect, Packet, Publish};
use shards::ids::{ConnId, PacketId, QoS, ShardId, Version};
use shards::reject::ReasonCode;

use super::{Bench, Loop, Size};
use crate::rig::{Client, Rig};

const TOPIC: &str = "site/12/device/3456/temperature";
const FILTER: &str = "site/12/device/+/temperature";
const PAYLOAD: [u8; 64] = [b'x'; 64];
/// Where a PUBLISH of [`TOPIC`] has its packet identifier.
const ID_OFFSET: usize = 4 + TOPIC.len();
/// Bytes of a PUBLISH at QoS 0, and at QoS 1 and 2.
const PUBLISH_BYTES: u64 = 99;
const PUBLISH_BYTES_QOS_1: u64 = 101;
const ACK_BYTES: u64 = 4;
const RUN_PACKETS: u64 = 100;

const V311: Version = Version::V311;
const FIRST: ShardId = ShardId(0);
const SECOND: ShardId = ShardId(1);

pub(super) const FANOUT_1: Bench = Bench {
    name: "shard/fanout-1",
    operation: "a QoS 0 PUBLISH with 64 bytes of payload, to 1 subscriber",
    budget_operations: 5_000,
    achieves: PUBLISH_BYTES,
    make: |_: Size| fanout(1),
};

pub(super) const FANOUT_50: Bench = Bench {
    name: "shard/fanout-50",
    operation: "the same to 50 subscribers",
    budget_operations: 500,
    achieves: 50 * PUBLISH_BYTES,
    make: |_: Size| fanout(50),
};

pub(super) const FANOUT_500: Bench = Bench {
    name: "shard/fanout-500",
    operation: "the same to 500 subscribers",
    budget_operations: 50,
    achieves: 500 * PUBLISH_BYTES,
    make: |_: Size| fanout(500),
};

pub(super) const FANOUT_CROSS: Bench = Bench {
    name: "shard/fanout-cross-1",
    operation: "the same to 1 subscriber on another shard",
    budget_operations: 5_000,
    achieves: PUBLISH_BYTES,
    make: |_: Size| {
        let (rig, publisher) = crossing();
        publishing(rig, publisher)
    },
};

pub(super) const RUN: Bench = Bench {
    name: "shard/run-100",
    operation: "100 such packets that come at once, to 1 subscriber",
    budget_operations: 500,
    achieves: RUN_PACKETS * PUBLISH_BYTES,
    make: |_: Size| {
        let (rig, publisher, _) = pair(QoS::AtMostOnce);
        publishing_all(rig, publisher, &publish(QoS::AtMostOnce).repeat(100))
    },
};

pub(super) const RUN_CROSS: Bench = Bench {
    name: "shard/run-cross-100",
    operation: "the same to 1 subscriber on another shard",
    budget_operations: 500,
    achieves: RUN_PACKETS * PUBLISH_BYTES,
    make: |_: Size| {
        let (rig, publisher) = crossing();
        publishing_all(rig, publisher, &publish(QoS::AtMostOnce).repeat(100))
    },
};

pub(super) const POLL_1: Bench = Bench {
    name: "shard/poll-1",
    operation: "a turn without work, with a look into the mailbox of 1 other shard",
    budget_operations: 10_000,
    achieves: 1,
    make: |_: Size| idle_turns(1),
};

pub(super) const POLL_63: Bench = Bench {
    name: "shard/poll-63",
    operation: "the same with 63 other shards",
    budget_operations: 1_000,
    achieves: 63,
    make: |_: Size| idle_turns(63),
};

pub(super) const QOS_1_ROUND: Bench = Bench {
    name: "shard/qos-1-round",
    operation: "PUBLISH and PUBACK at QoS 1 on both sides, 1 publisher, 1 subscriber",
    budget_operations: 2_000,
    achieves: PUBLISH_BYTES_QOS_1 + ACK_BYTES,
    make: |_: Size| {
        let (mut rig, publisher, subscriber) = pair(QoS::AtLeastOnce);
        let publish = publish(QoS::AtLeastOnce);
        Loop::new(move || {
            rig.give(publisher, &publish);
            let (bytes, id) = settle(&mut rig, subscriber);
            rig.give(subscriber, &ack(0x40, id));
            bytes + settle(&mut rig, subscriber).0
        })
    },
};

pub(super) const QOS_2_ROUND: Bench = Bench {
    name: "shard/qos-2-round",
    operation: "the four packets of QoS 2 on both sides, 1 publisher, 1 subscriber",
    budget_operations: 2_000,
    achieves: PUBLISH_BYTES_QOS_1 + 3 * ACK_BYTES,
    make: |_: Size| {
        let (mut rig, publisher, subscriber) = pair(QoS::ExactlyOnce);
        let publish = publish(QoS::ExactlyOnce);
        let pubrel = ack(0x62, PacketId::MIN.value().to_be_bytes());
        Loop::new(move || {
            rig.give(publisher, &publish);
            let (mut bytes, id) = settle(&mut rig, subscriber);
            rig.give(publisher, &pubrel);
            rig.give(subscriber, &ack(0x50, id));
            bytes += settle(&mut rig, subscriber).0;
            rig.give(subscriber, &ack(0x70, id));
            bytes + settle(&mut rig, subscriber).0
        })
    },
};

pub(super) const CONNECT: Bench = Bench {
    name: "shard/connect",
    operation: "open a connection, CONNECT, CONNACK, DISCONNECT, closed; MQTT 3.1.1, clean session",
    budget_operations: 1_000,
    achieves: 4,
    make: |_: Size| {
        let mut rig = Rig::new(1);
        let other = rig.client(FIRST, V311);
        let mut connect = Vec::new();
        Connect::new(V311, "site-12-device-3456").encode(&mut connect);
        let mut disconnect = Vec::new();
        let packet = Packet::Disconnect(Disconnect::new(ReasonCode::Success));
        packet.encode(V311, &mut disconnect);
        let mut conn = ConnId { index: other.conn.index + 1, generation: 0 };
        Loop::new(move || {
            let client = Client { shard: FIRST, conn };
            conn.generation = conn.generation.wrapping_add(1);
            rig.open(client);
            rig.give(client, &connect);
            let (bytes, _) = settle(&mut rig, client);
            rig.give(client, &disconnect);
            bytes + settle(&mut rig, client).0
        })
    },
};

fn fanout(subscribers: u32) -> Loop {
    let mut rig = Rig::new(1);
    let publisher = rig.client(FIRST, V311);
    for _ in 0..subscribers {
        let subscriber = rig.client(FIRST, V311);
        rig.subscribe(subscriber, V311, FILTER, QoS::AtMostOnce);
    }
    publishing(rig, publisher)
}

fn idle_turns(others: u8) -> Loop {
    let mut rig = Rig::new(others + 1);
    // What starts a broker, `$SYS` and counters among it, is over before the first turn that counts.
    rig.settle(|_, _| {});
    Loop::new(move || rig.idle_turn(FIRST))
}

fn publishing(rig: Rig, publisher: Client) -> Loop {
    publishing_all(rig, publisher, &publish(QoS::AtMostOnce))
}

fn publishing_all(mut rig: Rig, publisher: Client, packets: &[u8]) -> Loop {
    let packets = packets.to_vec();
    Loop::new(move || {
        rig.give(publisher, &packets);
        let mut bytes = 0;
        rig.settle(|_, sent| bytes += sent.len() as u64);
        bytes
    })
}

/// A publisher whose subscriber is on another shard.
fn crossing() -> (Rig, Client) {
    let mut rig = Rig::new(2);
    let publisher = rig.client(FIRST, V311);
    let subscriber = rig.client(SECOND, V311);
    rig.subscribe(subscriber, V311, FILTER, QoS::AtMostOnce);
    (rig, publisher)
}

/// A publisher and a subscriber on one shard.
fn pair(qos: QoS) -> (Rig, Client, Client) {
    let mut rig = Rig::new(1);
    let publisher = rig.client(FIRST, V311);
    let subscriber = rig.client(FIRST, V311);
    rig.subscribe(subscriber, V311, FILTER, qos);
    (rig, publisher, subscriber)
}

fn publish(qos: QoS) -> Vec<u8> {
    let mut bytes = Vec::new();
    let packet_id = (qos != QoS::AtMostOnce).then_some(PacketId::MIN);
    let publish = Publish { qos, packet_id, ..Publish::new(TOPIC, &PAYLOAD) };
    publish.encode(V311, &mut bytes);
    bytes
}

fn ack(first: u8, [high, low]: [u8; 2]) -> [u8; 4] {
    [first, 2, high, low]
}

/// Lets the shards work. The bytes that went to clients, and the packet identifier of the PUBLISH
/// that `subscriber` got.
fn settle(rig: &mut Rig, subscriber: Client) -> (u64, [u8; 2]) {
    let (mut bytes, mut id) = (0, [0; 2]);
    rig.settle(|client, sent| {
        bytes += sent.len() as u64;
        if client == subscriber
            && let Some(&found) = sent.get(ID_OFFSET..).and_then(<[u8]>::first_chunk)
        {
            id = found;
        }
    });
    (bytes, id)
}
