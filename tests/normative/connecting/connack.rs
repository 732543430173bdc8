//! Section 3.2: CONNACK.

use crate::harness::client::Client;
use crate::harness::wire::{Publish, find, prop};
use crate::support::{assert_ended, broker_set};

#[test]
fn mqtt_5_3_2_2_15_a_packet_above_the_maximum_ends_the_connection() {
    let broker = broker_set(&["limits.packet_bytes_max=4096"]);
    let mut client = Client::plain(&broker, 5, "large");
    let maximum = find(&client.props, prop::MAXIMUM_PACKET_SIZE).expect("it is told");
    assert_eq!(maximum.number(), 4096);
    client.subscribe("large", 0);
    // Three bytes of header, the topic with its length, no properties.
    let most = 4096 - 3 - 7 - 1;
    client.send(&Publish::new("large", vec![b'x'; most], 0).encode(5));
    assert_eq!(client.message().payload.len(), most);
    client.send(&Publish::new("large", vec![b'x'; most + 1], 0).encode(5));
    assert_ended(&mut client, 5, 0x95);
    Client::plain(&broker, 5, "after").ping();
}
