//! Enhanced authentication with SCRAM-SHA-256 (MQTT 5.0 section 4.12, RFC 5802, RFC 7677), by a client of
//! our own: no foreign one speaks it.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::{digest, hmac, pbkdf2};

use crate::harness::broker::Broker;
use crate::harness::client::Client;
use crate::harness::wire::{self, Connect, Packet, Prop, Value, prop};

use super::site::{At, Site};

const METHOD: &str = "SCRAM-SHA-256";

/// AUTH: go on, or begin anew.
const CONTINUE: u8 = 0x18;
const AGAIN: u8 = 0x19;

/// The client's side of one exchange.
struct Exchange {
    bare: String,
    /// What proves that the server knows the password too.
    server_signature: Vec<u8>,
}

impl Exchange {
    fn begin(user: &str) -> (Self, Vec<u8>) {
        let bare = format!("n={user},r=rOprNGfwEbeRWgbNEkqO");
        let first = format!("n,,{bare}");
        (Self { bare, server_signature: Vec::new() }, first.into_bytes())
    }

    /// The answer to the server's first message.
    fn prove(&mut self, server_first: &[u8], password: &str) -> Vec<u8> {
        let server_first = std::str::from_utf8(server_first).expect("text");
        let part = |letter: &str| {
            let parts = server_first.split(',');
            parts.filter_map(|part| part.strip_prefix(letter)).next().expect("an attribute")
        };
        let salt = STANDARD.decode(part("s=")).expect("base64");
        let iterations = part("i=").parse().expect("a number");
        let mut salted = [0; digest::SHA256_OUTPUT_LEN];
        let algorithm = pbkdf2::PBKDF2_HMAC_SHA256;
        pbkdf2::derive(algorithm, iterations, &salt, password.as_bytes(), &mut salted);
        let without = format!("c=biws,r={}", part("r="));
        let message = format!("{},{server_first},{without}", self.bare);
        let mac = |key: &[u8], text: &[u8]| {
            hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), text).as_ref().to_vec()
        };
        let client_key = mac(&salted, b"Client Key");
        let stored = digest::digest(&digest::SHA256, &client_key);
        let signature = mac(stored.as_ref(), message.as_bytes());
        let proof: Vec<u8> = client_key.iter().zip(&signature).map(|(a, b)| a ^ b).collect();
        self.server_signature = mac(&mac(&salted, b"Server Key"), message.as_bytes());
        format!("{without},p={}", STANDARD.encode(proof)).into_bytes()
    }

    fn check(&self, server_final: &[u8]) {
        let want = format!("v={}", STANDARD.encode(&self.server_signature));
        assert_eq!(String::from_utf8_lossy(server_final), want);
    }
}

fn auth(reason: u8, data: &[u8]) -> Vec<u8> {
    let mut body = vec![reason];
    let props = [
        Prop::text(prop::AUTHENTICATION_METHOD, METHOD),
        Prop::binary(prop::AUTHENTICATION_DATA, data),
    ];
    wire::put_props(&mut body, 5, &props);
    wire::packet(0xF0, &body)
}

fn data(props: &[Prop]) -> Vec<u8> {
    let found = wire::find(props, prop::AUTHENTICATION_DATA).expect("authentication data");
    let Value::Binary(bytes) = &found.value else { panic!("{found:?}") };
    bytes.clone()
}

/// The data of the AUTH that comes next.
#[track_caller]
fn challenge(client: &mut Client) -> Vec<u8> {
    let Packet::Auth { code, props } = client.recv() else { panic!("no AUTH") };
    assert_eq!(code, CONTINUE);
    data(&props)
}

/// Connects with this password: the client, its exchange and the code of CONNACK.
fn connect(site: &Site, id: &str, user: &str, password: &str) -> (Client, Exchange, u8) {
    let (mut exchange, first) = Exchange::begin(user);
    let mut client = Client::open_at(site.address(At::Plain), 5);
    let connect = Connect::new(5, id)
        .with(Prop::text(prop::AUTHENTICATION_METHOD, METHOD))
        .with(Prop::binary(prop::AUTHENTICATION_DATA, &first));
    client.send(&connect.encode());
    let proof = exchange.prove(&challenge(&mut client), password);
    client.send(&auth(CONTINUE, &proof));
    let code = client.connack();
    (client, exchange, code)
}

fn on_shards(scenario: impl Fn(&Site)) {
    for shards in [1, 2, 8] {
        scenario(&Site::start(shards, ""));
    }
}

#[test]
fn a_proof_lets_in_and_the_server_proves_itself() {
    on_shards(|site| {
        for n in 0..4 {
            let (mut client, exchange, code) =
                connect(site, &format!("carol-{n}"), "carol", "singing");
            assert_eq!(code, 0);
            exchange.check(&data(&client.props));
            client.ping();
            client.disconnect();
        }
    });
}

#[test]
fn a_wrong_proof_and_an_unknown_user_look_the_same() {
    on_shards(|site| {
        for (user, password) in [("carol", "whistling"), ("nobody", "singing")] {
            let (mut client, _, code) = connect(site, "carol", user, password);
            assert_eq!(code, 0x87, "{user}");
            assert!(client.until_end().is_empty());
        }
        site.broker.logged(&["event=\"login_failed\"", "client_id=\"carol\""]);
    });
}

#[test]
fn authenticating_again_keeps_or_ends_the_connection() {
    on_shards(|site| {
        let (mut client, ..) = connect(site, "again", "carol", "singing");
        for password in ["singing", "whistling"] {
            let (mut exchange, first) = Exchange::begin("carol");
            client.send(&auth(AGAIN, &first));
            let proof = exchange.prove(&challenge(&mut client), password);
            client.send(&auth(CONTINUE, &proof));
            match client.recv() {
                Packet::Auth { code: 0, props } if password == "singing" => {
                    exchange.check(&data(&props));
                    client.ping();
                }
                Packet::Disconnect { code: 0x87, .. } if password != "singing" => {}
                other => panic!("{password}: {other:?}"),
            }
        }
        assert!(client.until_end().is_empty());
    });
}

#[test]
fn an_unknown_method_is_refused() {
    let site = Site::start(1, "");
    let connect = Connect::new(5, "x").with(Prop::text(prop::AUTHENTICATION_METHOD, "KERBEROS"));
    let (_, code) = Client::open_at(site.address(At::Plain), 5).introduce(&connect);
    assert_eq!(code, 0x8C);
    // Where the listener does not offer the method, too.
    let broker = Broker::start(1);
    let connect = Connect::new(5, "x").with(Prop::text(prop::AUTHENTICATION_METHOD, METHOD));
    let (_, code) = Client::offer(&broker, &connect);
    assert_eq!(code, 0x8C);
}
