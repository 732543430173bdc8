//! Steps of several tests here: a pair of clients, a QoS 2 exchange cut anywhere, time that passes.

use crate::harness::broker::Broker;
use crate::harness::client::Client;
use crate::harness::wire::{Connect, Prop, Publish, Will, prop};

/// A PUBLISH above QoS 0 with this packet identifier.
pub(crate) fn publish_id(topic: &str, payload: &str, qos: u8, id: u16) -> Publish {
    Publish { id, ..Publish::new(topic, payload, qos) }
}

/// A subscriber of `filter`, and somebody else who publishes.
#[track_caller]
pub(crate) fn pair(broker: &Broker, version: u8, filter: &str, qos: u8) -> (Client, Client) {
    let mut subscriber = Client::plain(broker, version, "subscriber");
    assert_eq!(subscriber.subscribe(filter, qos), qos);
    (subscriber, Client::plain(broker, version, "publisher"))
}

/// Returns when at least so many seconds have passed for the broker: a will with a delay says so.
#[track_caller]
pub(crate) fn let_pass(broker: &Broker, seconds: u32) {
    let mut watcher = Client::plain(broker, 5, "clock-watcher");
    watcher.subscribe("clock", 0);
    let mut will = Will::new("clock", "now");
    will.props.push(Prop::four(prop::WILL_DELAY, seconds));
    let connect = Connect::new(5, "clock").with(Prop::four(prop::SESSION_EXPIRY, 3600)).will(will);
    Client::connect(broker, &connect).vanish();
    assert_eq!(watcher.message().text(), "now");
}
