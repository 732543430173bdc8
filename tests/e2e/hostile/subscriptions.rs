//! More subscriptions than anybody needs, in one packet, and everything for everybody.

use super::siege::Siege;
use super::{besieged, sized};
use crate::harness::broker::Options;
use crate::harness::client::Client;
use crate::harness::wire::{Packet, Publish};

besieged!(ten_thousand_subscriptions_in_one_packet, everything_for_everybody_is_bounded,);

fn ten_thousand_subscriptions_in_one_packet(shards: u8) {
    let mut siege = Siege::plain(shards);
    let clients = sized(20, 4);
    let names: Vec<String> = (0..10_000).map(|n| format!("s/{n}/+/{}/#", n % 7)).collect();
    let different: Vec<(&str, u8)> = names.iter().map(|name| (name.as_str(), 1)).collect();
    let same: Vec<(&str, u8)> = vec![("s/same", 2); 10_000];
    let unsubscribed: Vec<&str> = names.iter().map(String::as_str).collect();
    let held: Vec<Client> = siege.attack("10,000 filters in a SUBSCRIBE", |siege| {
        (0..clients)
            .map(|number| {
                let mut client = Client::plain(&siege.broker, 5, &format!("hostile-{number}"));
                assert_eq!(client.subscribe_with(&different, &[]), vec![1; 10_000]);
                assert_eq!(client.subscribe_with(&same, &[]), vec![2; 10_000]);
                client
            })
            .collect()
    });
    let own = siege.subscriptions();
    siege.expect_gauge("subscriptions/count", clients as u64 * 10_001 + own);
    siege.attack("10,000 filters in an UNSUBSCRIBE", |siege| {
        for (number, mut client) in held.into_iter().enumerate() {
            // Others leave them to the end of their session.
            if number % 2 == 0 {
                assert_eq!(client.unsubscribe(&unsubscribed), vec![0; 10_000]);
                assert_eq!(client.unsubscribe(&unsubscribed), vec![0x11; 10_000]);
                client.disconnect();
            } else {
                client.reset();
            }
        }
        siege.served(100);
    });
    siege.lift();
}

/// Clients that want everything get the bystanders' messages too, and do not read them in time.
fn everything_for_everybody_is_bounded(shards: u8) {
    let out_bytes_max: u64 = 16 * 1024;
    let options = Options::new(shards.into()).set("limits.out_bytes_max", out_bytes_max);
    let mut siege = Siege::lay(shards, options);
    let (count, messages) = (sized(300, 100), sized(100, 50));
    siege.attack("# for everybody", |siege| {
        let mut clients: Vec<Client> = (0..count)
            .map(|number| {
                let mut client = Client::plain(&siege.broker, 4, &format!("hostile-{number}"));
                client.subscribe("#", 1);
                client
            })
            .collect();
        let mut publisher = Client::plain(&siege.broker, 4, "publisher");
        for number in 0..messages {
            publisher.publish("everybody", number.to_string(), 1);
        }
        siege.served(200);
        let bound = siege.buffers_bytes() + count as u64 * 4 * out_bytes_max;
        let grown = siege.grown_bytes();
        assert!(grown < bound, "grew by {grown} bytes, above {bound}");
        for client in &mut clients {
            for number in 0..messages {
                assert_eq!(next(client, "everybody").text(), number.to_string());
            }
        }
        clients.into_iter().for_each(Client::reset);
    });
    siege.lift();
}

/// The next message to this topic, acknowledged; others are passed over.
fn next(client: &mut Client, topic: &str) -> Publish {
    loop {
        let Packet::Publish(publish) = client.recv() else { panic!("not a PUBLISH") };
        client.acknowledge(&publish);
        if publish.topic == topic {
            return publish;
        }
    }
}
