//! Enhanced authentication (MQTT 5.0 section 4.12), what is granted and for how long.

use shards::auth::{Grant, Verdict};
use shards::codec::{self, Auth, Connect, Will};
use shards::ids::{QoS, Version};
use shards::reject::ReasonCode;

use sim::client::Got;
use sim::drive::{Post, VERSIONS, everywhere, keeping, plain, seconds};
use sim::rules::METHOD;
use sim::world::World;

use ReasonCode::{ContinueAuthentication, ReAuthenticate};

fn connect(name: &'static str, data: &'static str) -> Connect<'static> {
    Connect {
        authentication_method: Some(METHOD),
        authentication_data: Some(data.as_bytes()),
        ..Connect::new(Version::V5, name)
    }
}

fn begin(world: &mut World, name: &'static str, data: &'static str) -> usize {
    let client = world.open(name, Version::V5);
    world.say_connect(client, &connect(name, data));
    world.settle();
    client
}

fn say(world: &mut World, client: usize, reason: ReasonCode, method: &str, data: &str) {
    let auth = Auth { data: Some(data.as_bytes()), ..Auth::new(reason, method) };
    world.write(client, |out| auth.encode(Version::V5, out));
    world.settle();
}

#[track_caller]
fn expect_auth(world: &mut World, client: usize, reason: ReasonCode, data: &str) {
    let got = world.clients[client].got.pop_front();
    assert_eq!(got, Some(Got::Auth(reason, data.as_bytes().to_vec())));
}

#[track_caller]
fn expect_refused(world: &mut World, client: usize, reason: ReasonCode) {
    assert_eq!(world.expect_welcome(client).reason, reason);
    assert!(world.clients[client].is_ended);
    assert!(world.clients[client].got.is_empty());
}

/// 0x18, the method and data each time [MQTT-4.12.0-2], [MQTT-4.12.0-5]; the model client checks the method.
#[test]
fn challenges_go_back_and_forth_before_connack() {
    everywhere(&plain(), |world| {
        for name in ["one", "two", "three", ""] {
            let client = begin(world, name, "more");
            for data in ["more", "more", "later"] {
                expect_auth(world, client, ContinueAuthentication, "say more");
                say(world, client, ContinueAuthentication, METHOD, data);
            }
            world.expect_nothing(client);
            world.decide(client, Verdict::Challenge(b"say more".to_vec()));
            expect_auth(world, client, ContinueAuthentication, "say more");
            say(world, client, ContinueAuthentication, METHOD, "later");
            world.decide(client, Verdict::allow());
            assert_eq!(world.expect_welcome(client).reason, ReasonCode::Success);
            world.expect_alive(client);
            // A late answer to nothing is passed over.
            world.decide(client, Verdict::Deny(ReasonCode::NotAuthorized));
            world.expect_alive(client);
            world.disconnect(client);
        }
    });
}

/// [MQTT-4.12.0-4].
#[test]
fn a_connection_can_be_let_in_or_refused_at_each_step() {
    everywhere(&plain(), |world| {
        let client = begin(world, "at-once", "ok");
        let welcome = world.expect_welcome(client);
        assert_eq!(welcome.reason, ReasonCode::Success);
        assert_eq!(
            (welcome.method.as_deref(), welcome.data),
            (Some(METHOD), Some(b"well done".to_vec()))
        );
        let (plain, welcome) = world.connect_with(&Connect::new(Version::V5, "plain"));
        assert_eq!((welcome.method, welcome.data), (None, None));
        world.disconnect(plain);
        let client = begin(world, "never", "no");
        expect_refused(world, client, ReasonCode::NotAuthorized);
        let client = begin(world, "late", "later");
        world.decide(client, Verdict::Deny(ReasonCode::NotAuthorized));
        world.settle();
        expect_refused(world, client, ReasonCode::NotAuthorized);
        let client = begin(world, "second", "more");
        expect_auth(world, client, ContinueAuthentication, "say more");
        say(world, client, ContinueAuthentication, METHOD, "no");
        expect_refused(world, client, ReasonCode::NotAuthorized);
        // Not a word after the challenge: the connect time-out ends it.
        let client = begin(world, "silent", "more");
        expect_auth(world, client, ContinueAuthentication, "say more");
        world.advance(seconds(11));
        assert!(world.clients[client].is_ended);
    });
}

/// [MQTT-4.12.0-5], [MQTT-3.1.2-30].
#[test]
fn before_connack_only_the_awaited_auth_goes_on() {
    everywhere(&plain(), |world| {
        let wrong: [(ReasonCode, &str); 3] = [
            (ContinueAuthentication, "other"),
            (ReAuthenticate, METHOD),
            (ReasonCode::Success, METHOD),
        ];
        for (reason, method) in wrong {
            let client = begin(world, "wrong", "more");
            expect_auth(world, client, ContinueAuthentication, "say more");
            say(world, client, reason, method, "ok");
            expect_refused(world, client, ReasonCode::ProtocolError);
        }
        let client = begin(world, "impatient", "more");
        expect_auth(world, client, ContinueAuthentication, "say more");
        world.write(client, |out| out.extend_from_slice(&codec::PINGREQ));
        world.settle();
        expect_refused(world, client, ReasonCode::ProtocolError);
        let client = begin(world, "leaving", "more");
        expect_auth(world, client, ContinueAuthentication, "say more");
        world.disconnect(client);
        assert!(world.clients[client].got.is_empty());
    });
}

#[test]
fn a_client_authenticates_again_while_its_packets_go_on() {
    everywhere(&plain(), |world| {
        let client = begin(world, "client", "ok");
        world.expect_welcome(client);
        world.subscribe(client, "a", QoS::AtLeastOnce);
        for _ in 0..2 {
            say(world, client, ReAuthenticate, METHOD, "more");
            expect_auth(world, client, ContinueAuthentication, "say more");
            say(world, client, ContinueAuthentication, METHOD, "later");
            world.publish(client, "a", "x", QoS::AtLeastOnce);
            world.expect_publish(client, "a", "x");
            world.decide(client, Verdict::allow());
            expect_auth(world, client, ReasonCode::Success, "");
        }
        say(world, client, ReAuthenticate, METHOD, "ok");
        expect_auth(world, client, ReasonCode::Success, "well done");
        world.expect_alive(client);
    });
}

/// [MQTT-4.12.1-1], [MQTT-4.12.1-2].
#[test]
fn authentication_again_that_fails_ends_the_connection() {
    everywhere(&plain(), |world| {
        let cases: [(ReasonCode, &str, &str, ReasonCode); 6] = [
            (ReAuthenticate, METHOD, "no", ReasonCode::NotAuthorized),
            (ReAuthenticate, METHOD, "ok 9 somebody", ReasonCode::NotAuthorized),
            (ReAuthenticate, "other", "ok", ReasonCode::ProtocolError),
            (ContinueAuthentication, METHOD, "ok", ReasonCode::ProtocolError),
            (ReasonCode::Success, METHOD, "ok", ReasonCode::ProtocolError),
            (ReAuthenticate, METHOD, "later", ReasonCode::ProtocolError),
        ];
        for (reason, method, data, end) in cases {
            let client = begin(world, "client", "ok");
            world.expect_welcome(client);
            say(world, client, reason, method, data);
            if data == "later" {
                // A second one before the first is answered.
                say(world, client, ReAuthenticate, METHOD, "ok");
            }
            world.expect_end(client, end);
        }
    });
}

/// Its token's time: then the connection ends, with its will.
#[test]
fn what_is_granted_for_a_time_ends_with_it() {
    everywhere(&plain(), |world| {
        let watcher = world.connect("watcher", Version::V5);
        world.subscribe(watcher, "will", QoS::AtMostOnce);
        for version in VERSIONS {
            let client = world.open("client", version);
            let (user_name, password) = (Some("anna"), Some(&b"20"[..]));
            let will = Some(Will::new("will", b"gone"));
            let connect = Connect { user_name, password, will, ..Connect::new(version, "client") };
            assert_eq!(world.greet(client, &connect).reason, ReasonCode::Success);
            world.advance(seconds(19));
            world.expect_alive(client);
            world.advance(seconds(2));
            world.expect_end(client, ReasonCode::MaximumConnectTime);
            world.expect_publish(watcher, "will", "gone");
        }
        assert_eq!(world.snapshot().counters.grants_ended, 3);
    });
}

#[test]
fn authentication_again_puts_off_the_end() {
    everywhere(&plain(), |world| {
        let client = begin(world, "client", "ok 20");
        world.expect_welcome(client);
        world.advance(seconds(15));
        say(world, client, ReAuthenticate, METHOD, "ok 20");
        expect_auth(world, client, ReasonCode::Success, "well done");
        world.advance(seconds(15));
        world.expect_alive(client);
        world.advance(seconds(6));
        world.expect_end(client, ReasonCode::MaximumConnectTime);
        // And without a time there is no end.
        let client = begin(world, "client", "ok 20");
        world.expect_welcome(client);
        say(world, client, ReAuthenticate, METHOD, "ok");
        expect_auth(world, client, ReasonCode::Success, "well done");
        world.advance(seconds(1000));
        world.expect_alive(client);
    });
}

/// A grant that comes late is kept until the CONNECT is worked on.
#[test]
fn a_late_grant_counts_like_one_at_once() {
    everywhere(&plain(), |world| {
        let client = world.open("later", Version::V5);
        world.say_connect(client, &Connect::new(Version::V5, "later"));
        world.settle();
        let lasts = Some(seconds(5));
        world.decide(client, Verdict::Allow(Grant { lasts, ..Grant::default() }));
        assert_eq!(world.expect_welcome(client).reason, ReasonCode::Success);
        world.advance(seconds(6));
        world.expect_end(client, ReasonCode::MaximumConnectTime);
    });
}

/// A client identifier is no secret: what is kept under it is its user's.
#[test]
fn another_user_gets_a_session_of_its_own() {
    everywhere(&plain(), |world| {
        let sender = world.connect("sender", Version::V5);
        let user = |name| Connect { user_name: Some(name), ..keeping(Version::V5, "client", 1000) };
        let (client, _) = world.connect_with(&user("anna"));
        world.subscribe(client, "a", QoS::AtLeastOnce);
        world.disconnect(client);
        world.publish(sender, "a", "for anna", QoS::AtLeastOnce);
        assert!(world.reconnect(client, &user("anna")).session_present);
        world.expect_publish(client, "a", "for anna");
        world.disconnect(client);
        world.publish(sender, "a", "for anna too", QoS::AtLeastOnce);
        let (other, welcome) = world.connect_with(&user("dora"));
        assert!(!welcome.session_present);
        world.publish(sender, "a", "x", QoS::AtLeastOnce);
        world.expect_nothing(other);
        assert_eq!(world.snapshot().gauges.sessions, 2);
    });
}

/// The transport's word is part of the credentials, and its address stands in the notes.
#[test]
fn a_certificate_names_the_user() {
    everywhere(&plain(), |world| {
        let peer = "192.0.2.7:4000".parse().ok();
        let client = world.open("client", Version::V5);
        world.identify(client, peer, Some("anna"));
        let shard = world.shard_of(client);
        let welcome = world.greet(client, &keeping(Version::V5, "client", 1000));
        assert_eq!(welcome.reason, ReasonCode::Success);
        // Only the shell repeats it after a hand-over, and this world has none.
        let is_same_shard = world.shard_of(client) == shard;
        let anna = Connect { user_name: Some("anna"), ..keeping(Version::V5, "client", 1000) };
        world.disconnect(client);
        assert_eq!(world.reconnect(client, &anna).session_present, is_same_shard);
        assert_eq!(
            world.post(client, &Post::new("a", "x", QoS::AtLeastOnce)),
            ReasonCode::NoMatchingSubscribers
        );
    });
}
