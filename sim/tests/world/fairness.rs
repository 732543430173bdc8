//! One client's flood and the others: no turn works on more of a connection than its share of a turn,
//! and nothing is lost by what waits for the next one.

use shards::codec::{Connect, PINGREQ, SubscribeOptions};
use shards::ids::{QoS, Version};
use shards::limits::Settings;

use sim::client::Got;
use sim::drive::{Post, everywhere, keeping, plain};
use sim::world::World;

const SHARE: u32 = 8;

fn sharing() -> Settings {
    Settings { turn_packets_max: SHARE, ..plain() }
}

fn packets(world: &World) -> u64 {
    world.snapshot().counters.packets_received
}

#[test]
fn a_flood_is_taken_in_shares_and_others_pass_it() {
    everywhere(&sharing(), |world| {
        let subscriber = world.connect("subscriber", Version::V5);
        world.subscribe(subscriber, "a", QoS::AtMostOnce);
        let publisher = world.connect("publisher", Version::V311);
        let flooder = world.connect("flooder", Version::V311);
        let before = packets(world);
        let flood: u64 = 5000;
        world.write(flooder, |out| (0..flood).for_each(|_| out.extend_from_slice(&PINGREQ)));
        for n in 0..10 {
            world.say(publisher, &Post::new("a", &format!("{n}"), QoS::AtMostOnce));
            while world.clients[subscriber].got.is_empty() {
                let before = packets(world);
                world.stir(1);
                // A share when bytes come, and one when that ends the batch.
                let share = 2 * u64::from(SHARE);
                assert!(packets(world) - before <= share, "more than its share in a step");
            }
            world.expect_publish(subscriber, "a", &format!("{n}"));
        }
        assert!(packets(world) - before < flood / 2, "the flood was worked off first");
        world.settle();
        assert!(world.snapshot().counters.paused_turn_spent > flood / u64::from(SHARE) / 2);
        assert_eq!(world.clients[flooder].got.drain(..).count() as u64, flood);
    });
}

/// A subscriber that says nothing is heard of by the mail for it.
#[test]
fn a_flood_yields_to_what_comes_from_another_shard() {
    const NAMES: [&str; 16] =
        ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l", "m", "n", "o", "p"];
    let share = 64;
    let settings = Settings { turn_packets_max: share, ..plain() };
    everywhere(&settings, |world| {
        let subscriber = world.connect("subscriber", Version::V5);
        world.subscribe(subscriber, "a", QoS::AtMostOnce);
        let clients = NAMES.map(|name| world.connect(name, Version::V311));
        let here = world.shard_of(subscriber);
        let is_here = |client: &&usize| world.shard_of(**client) == here;
        let flooder = clients.iter().find(is_here).copied();
        let publisher = clients.iter().find(|client| !is_here(client)).copied();
        let (Some(flooder), Some(publisher)) = (flooder, publisher) else {
            return assert_eq!(publisher, None, "nobody shares the subscriber's shard");
        };
        world.write(flooder, |out| (0..20_000).for_each(|_| out.extend_from_slice(&PINGREQ)));
        // As many as a share, so long as nobody else wants anything of this shard.
        let taken = |world: &mut World| {
            let before = packets(world);
            world.stir(1);
            packets(world) - before
        };
        while taken(world) < u64::from(share) {}
        world.say(publisher, &Post::new("a", "m", QoS::AtMostOnce));
        while world.clients[subscriber].got.is_empty() {
            world.stir(1);
        }
        for _ in 0..20 {
            let most = 2 * u64::from(share) / 8;
            let taken = taken(world);
            assert!(taken <= most, "{taken} packets of a flood in a step");
        }
        world.expect_publish(subscriber, "a", "m");
        world.settle();
    });
}

#[test]
fn filters_are_worked_off_in_pieces_and_answered_as_one() {
    everywhere(&sharing(), |world| {
        let names: Vec<String> = (0..300).map(|n| format!("f/{n}/+")).collect();
        let filters: Vec<_> =
            names.iter().map(|name| (&**name, SubscribeOptions::new(QoS::AtLeastOnce))).collect();
        let client = world.connect("client", Version::V5);
        let publisher = world.connect("publisher", Version::V311);
        world.say_subscribe(client, None, &filters);
        world.write(client, |out| out.extend_from_slice(&PINGREQ));
        let mut steps = 0;
        while world.clients[client].got.is_empty() {
            let before = world.snapshot().gauges.subscriptions;
            world.stir(1);
            let filed = world.snapshot().gauges.subscriptions - before;
            assert!(filed <= u64::from(SHARE), "{filed} filters in a step");
            steps += u32::from(filed > 0);
        }
        assert!(steps > 100, "300 filters in {steps} steps");
        world.settle();
        let got: Vec<_> = world.clients[client].got.drain(..).collect();
        assert!(
            matches!(&got[..], [Got::Suback(_, codes), Got::Pingresp] if *codes == [1; 300]),
            "{got:?}"
        );
        for n in [0, 150, 299] {
            world.publish(publisher, &format!("f/{n}/x"), "m", QoS::AtMostOnce);
            world.expect_publish(client, &format!("f/{n}/x"), "m");
        }
        let all: Vec<_> = names.iter().map(|name| &**name).collect();
        assert_eq!(world.unsubscribe(client, &all), [0; 300]);
        assert_eq!(world.snapshot().gauges.subscriptions, 0);
        // A client that leaves in the middle leaves nothing behind.
        world.say_subscribe(client, None, &filters);
        world.stir(20);
        world.cut(client);
        assert_eq!(world.snapshot().gauges.subscriptions, 0);
    });
}

#[test]
fn what_came_before_the_end_counts() {
    everywhere(&sharing(), |world| {
        let subscriber = world.connect("subscriber", Version::V5);
        world.subscribe(subscriber, "a", QoS::AtMostOnce);
        let want: Vec<_> = (0..200).map(|n| format!("a={n}")).collect();
        let connect = keeping(Version::V5, "publisher", 100);
        let (publisher, _) = world.connect_with(&connect);
        for n in 0..200 {
            world.say(publisher, &Post::new("a", &format!("{n}"), QoS::AtMostOnce));
        }
        world.disconnect(publisher);
        assert_eq!(world.take_texts(subscriber), want);
        // Instead of an end, a newer connection: what the older one has brought is first.
        world.reconnect(publisher, &connect);
        for n in 0..200 {
            world.say(publisher, &Post::new("a", &format!("{n}"), QoS::AtMostOnce));
        }
        let wire = world.clients[publisher].wire;
        while !world.wires[wire].upward.is_empty() {
            world.stir(1);
        }
        let newer = world.open("publisher", Version::V5);
        let welcome = world.greet(newer, &Connect { ..connect });
        assert!(welcome.session_present);
        world.settle();
        assert_eq!(world.take_texts(subscriber), want);
        world.expect_alive(newer);
    });
}

/// A topic that matches filters at twice as many nodes with each level.
const DEEP: &str = "d/d/d/d/d/d/d/d/d";

fn with_deep_filters(world: &mut World) -> usize {
    let subscriber = world.connect("deep", Version::V5);
    let level = |number: usize, at: usize| if number >> at & 1 == 1 { "+" } else { "d" };
    let filters: Vec<String> = (0..512_usize)
        .map(|number| (0..9).map(|at| level(number, at)).collect::<Vec<_>>().join("/"))
        .collect();
    for some in filters.chunks(64) {
        let some: Vec<_> =
            some.iter().map(|name| (&**name, SubscribeOptions::new(QoS::ExactlyOnce))).collect();
        world.say_subscribe(subscriber, None, &some);
        world.settle();
        assert!(matches!(world.clients[subscriber].got.pop_front(), Some(Got::Suback(..))));
    }
    subscriber
}

#[test]
fn a_deep_topic_is_looked_up_in_pieces_and_others_pass_it() {
    everywhere(&sharing(), |world| {
        let subscriber = with_deep_filters(world);
        let publisher = world.connect("publisher", Version::V311);
        let bystander = world.connect("bystander", Version::V311);
        for (qos, payload_bytes) in
            [(QoS::AtMostOnce, 1), (QoS::AtLeastOnce, 1), (QoS::ExactlyOnce, 70_000)]
        {
            // An answer that is kept needs no walk.
            world.subscribe(subscriber, "+/new", QoS::AtMostOnce);
            world.unsubscribe(subscriber, &["+/new"]);
            let before = world.snapshot().counters;
            let payload = "x".repeat(payload_bytes);
            world.say(publisher, &Post::new(DEEP, &payload, qos));
            world.say(publisher, &Post::new(DEEP, "second", qos));
            world.write(bystander, |out| out.extend_from_slice(&PINGREQ));
            while world.clients[bystander].got.is_empty() {
                world.stir(1);
            }
            assert!(matches!(world.clients[bystander].got.pop_front(), Some(Got::Pingresp)));
            assert!(world.clients[subscriber].got.is_empty(), "the walk takes many turns");
            world.settle();
            let want = [format!("{DEEP}={payload}"), format!("{DEEP}=second")];
            assert_eq!(world.take_texts(subscriber), want);
            let after = world.snapshot().counters;
            assert_eq!(after.messages_received - before.messages_received, 2);
        }
    });
}
