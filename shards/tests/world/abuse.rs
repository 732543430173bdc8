//! Clients that take more than their share: each ends at a bound that has a name, and holds no more
//! memory than it.

use shards::codec::Connect;
use shards::ids::{QoS, Version};
use shards::limits::Settings;
use shards::reject::ReasonCode;

use crate::drive::{Post, VERSIONS, everywhere, plain};

/// A CONNECT of exactly `bytes` bytes, by means of its password.
fn connect_of(version: Version, bytes: usize) -> Vec<u8> {
    let password = vec![b'x'; bytes];
    let encode = |count: usize| {
        let connect = Connect {
            user_name: Some("user"),
            password: Some(&password[..count]),
            ..Connect::new(version, "client")
        };
        let mut out = Vec::new();
        connect.encode(&mut out);
        out
    };
    let over = encode(bytes).len() - bytes;
    let connect = encode(bytes - over);
    assert_eq!(connect.len(), bytes, "the length of the remaining length is the same");
    connect
}

#[test]
fn the_first_packet_has_a_bound_of_its_own() {
    let settings = Settings { connect_packet_bytes_max: 1000, ..plain() };
    everywhere(&settings, |world| {
        for version in VERSIONS {
            let fits = world.open("client", version);
            world.write(fits, |out| out.extend(connect_of(version, 1000)));
            world.settle();
            assert_eq!(world.expect_welcome(fits).reason, ReasonCode::Success);
            // Later packets may be larger.
            world.say(fits, &Post::new("a", &"x".repeat(5000), QoS::AtMostOnce));
            world.settle();
            world.expect_alive(fits);
            world.disconnect(fits);
            // What is announced is enough: nothing waits for the rest.
            let large = world.open("client", version);
            world.write(large, |out| out.extend_from_slice(&connect_of(version, 1001)[..5]));
            world.settle();
            assert!(world.clients[large].is_ended);
            assert!(world.clients[large].got.is_empty());
        }
        assert_eq!(world.snapshot().counters.rejected_packet_too_large, 3);
    });
}
