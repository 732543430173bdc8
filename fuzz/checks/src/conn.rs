//! Arbitrary bytes to a connection, in every state that one can be in.
//!
//! Input: state and version (one byte), settings (one byte), a seed for the order of events (one
//! byte), and what the client sends. Whole shards hear it beside two well-behaved clients, which
//! must go on; when all have gone, nothing may be left.

use shards::auth::Verdict;
use shards::codec::{Connect, Disconnect, SubscribeOptions, Will};
use shards::ids::{QoS, Version};
use shards::limits::{OverflowPolicy, Settings};
use shards::reject::ReasonCode;
use sim::client::{Answers, Got};
use sim::drive::{Post, keeping, plain, seconds};
use sim::world::World;

use crate::version_of;

/// Longer inputs find nothing more.
const BYTES_MAX: usize = 4096;

/// Stands in all names and topics of the well-behaved: whoever names it may disturb them.
const MARK: &str = "bystander";
const TOPIC: &str = "bystander/x";

/// What has happened on the connection before the bytes come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Opened,
    Connected,
    /// A kept session is taken up again, with messages in flight and queued.
    Resumed,
    /// A SUBSCRIBE is under way between the shards.
    Subscribing,
    /// Whether the client may come in is being asked.
    Authenticating,
    /// The client has sent DISCONNECT and does not close.
    Closing,
    /// The client does not read.
    Stalled,
    /// The session's older connection is still there.
    TakingOver,
}

const STATES: [State; 8] = [
    State::Opened,
    State::Connected,
    State::Resumed,
    State::Subscribing,
    State::Authenticating,
    State::Closing,
    State::Stalled,
    State::TakingOver,
];

/// # Panics
/// If the core does, if a well-behaved client notices, or if something is left.
pub fn check(data: &[u8]) {
    let &[state, setup, seed, ref bytes @ ..] = data else { return };
    let bytes = &bytes[..bytes.len().min(BYTES_MAX)];
    if bytes.windows(MARK.len()).any(|window| window == MARK.as_bytes()) {
        return;
    }
    let shards = if setup & 1 == 0 { 1 } else { 2 };
    let seed = (seed != 0).then_some(u64::from(seed));
    let mut world = World::new(shards, seed, &settings(setup));
    let good =
        [world.connect("bystander1", Version::V5), world.connect("bystander2", Version::V311)];
    world.subscribe(good[0], TOPIC, QoS::AtLeastOnce);
    world.subscribe(good[1], TOPIC, QoS::AtMostOnce);

    let state_of_conn = STATES[usize::from(state >> 2) % STATES.len()];
    let client = reach(&mut world, state_of_conn, version_of(state), good[0]);
    world.write(client, |out| out.extend_from_slice(bytes));
    // Some of it is heard while the other clients do something, the rest afterwards.
    world.stir(usize::from(setup & 0x0F));
    greet_each_other(&mut world, good);
    if state_of_conn == State::Authenticating {
        let verdict = match state & 0x80 {
            0 => Verdict::allow(),
            _ => Verdict::Deny(ReasonCode::NotAuthorized),
        };
        answer(&mut world, client, verdict);
    }
    world.advance(seconds(3));
    greet_each_other(&mut world, good);
    leave(&mut world);
}

fn settings(setup: u8) -> Settings {
    let tiny = setup & 0x10 != 0;
    let overflow = match setup >> 6 {
        0 => OverflowPolicy::DropOldest,
        1 => OverflowPolicy::DropNewest,
        2 => OverflowPolicy::Refuse,
        _ => OverflowPolicy::Disconnect,
    };
    let limits = Settings {
        session_expiry_max_s: 50,
        packet_bytes_max: 2048,
        mailbox_bytes: 4096,
        retained_messages_max: 8,
        is_durable: setup & 0x20 != 0,
        overflow,
        ..plain()
    };
    if !tiny {
        return limits;
    }
    Settings {
        queue_messages_max: 1,
        out_bytes_max: 100,
        mailbox_bytes: 64,
        packet_bytes_max: 200,
        topic_levels_max: 4,
        subscriptions_max: 2,
        receive_maximum: 2,
        inflight_max: 2,
        topic_alias_max: 1,
        retained_messages_max: 1,
        ..limits
    }
}

/// A client in the state asked for; what comes to it is not looked at.
fn reach(world: &mut World, state: State, version: Version, good: usize) -> usize {
    let name = if state == State::Authenticating { "later" } else { "c" };
    let client = world.open(name, version);
    let connect = Connect {
        will: (state == State::Connected).then(|| Will::new("w", b"bye")),
        topic_alias_max: 2,
        receive_maximum: version.is_v5().then_some(3),
        ..keeping(version, name, 30)
    };
    match state {
        State::Opened => {}
        State::Authenticating => world.say_connect(client, &connect),
        State::Connected => drop(world.greet(client, &connect)),
        State::Closing => {
            world.greet(client, &connect);
            let wire = world.clients[client].wire;
            world.wires[wire].is_lingering = true;
            let disconnect = Disconnect::new(ReasonCode::Success);
            world.write(client, |out| disconnect.encode(version, out));
        }
        State::Subscribing => {
            world.greet(client, &connect);
            let options = SubscribeOptions::new(QoS::ExactlyOnce);
            world.say_subscribe(client, None, &[("a/#", options), ("$share/g/b", options)]);
        }
        State::Stalled => {
            world.greet(client, &connect);
            world.subscribe(client, "#", QoS::ExactlyOnce);
            world.stall(client);
        }
        State::Resumed | State::TakingOver => {
            world.greet(client, &connect);
            load(world, client, good);
            if state == State::Resumed {
                world.cut(client);
            }
            let wire = world.dial(client);
            world.clients[client].renew(wire);
            world.say_connect(client, &connect);
        }
    }
    world.clients[client].is_deaf = true;
    client
}

/// Messages of every QoS, half acknowledged.
fn load(world: &mut World, client: usize, good: usize) {
    world.subscribe(client, "t/#", QoS::ExactlyOnce);
    for answers in [Answers::ToPubrec, Answers::None] {
        world.answer(client, answers);
        for qos in [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce] {
            world.say(good, &Post::new("t/1", "x", qos));
            world.settle();
        }
    }
    world.clients[good].got.clear();
}

/// The well-behaved still reach each other.
fn greet_each_other(world: &mut World, good: [usize; 2]) {
    for from in good {
        world.say(from, &Post::new(TOPIC, "hello", QoS::AtLeastOnce));
        world.settle();
        for to in good {
            let messages = world.take_messages(to);
            let is_it = messages.iter().any(|message| message.topic == TOPIC);
            assert!(is_it, "nothing came to a well-behaved client");
        }
        let is_ack = |got: &Got| matches!(got, Got::Ack(..));
        let is_acknowledged = world.clients[from].got.iter().any(is_ack);
        assert!(is_acknowledged, "a well-behaved client waits for its acknowledgement");
        world.clients[from].got.clear();
    }
}

fn answer(world: &mut World, client: usize, verdict: Verdict) {
    let wire = world.clients[client].wire;
    if world.wires[wire].place.is_some() {
        world.decide(client, verdict);
    }
}

fn leave(world: &mut World) {
    for wire in &mut world.wires {
        wire.is_stalled = false;
        wire.is_client_gone = true;
    }
    world.advance(seconds(200));
    world.expect_empty();
}
