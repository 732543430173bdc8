//! The example configurations, as they are but for the ports: started, used, and misused.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rcgen::KeyPair;
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};

use crate::harness::broker::{Broker, Options};
use crate::harness::client::{Client, DEADLINE};
use crate::harness::wire::{Connect, Publish};

use super::authority::{Authority, Validity};
use super::site::{client_config, scratch_folder, scratch_folder_in, set_password};
use super::tokens::now_s;

/// Starts a broker by an example, in a folder that has the files which it names.
fn start(folder: &Path, example: &str) -> Broker {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples").join(example);
    let text = std::fs::read_to_string(path).expect("the example is there");
    let lines = text.lines().map(|line| {
        let is_address = line.starts_with("address = ");
        if is_address { "address = \"127.0.0.1:0\"" } else { line }
    });
    let text: Vec<_> = lines.collect();
    let config = folder.join(example);
    std::fs::write(&config, text.join("\n")).expect("a scratch file");
    Broker::start_with(&Options::configured(2, config))
}

#[test]
fn home_server() {
    // The path of a unix socket must be short.
    let folder = scratch_folder_in(&std::env::temp_dir());
    set_password(&folder, "thermostat", "21 degrees", &["--create"]);
    let acl = "user thermostat\ntopic readwrite home/heating/#\n";
    std::fs::write(folder.join("acl"), acl).expect("a scratch file");
    let broker = start(&folder, "home-server.toml");

    let login = |password: &str| {
        let connect = Connect::new(5, "thermostat").login("thermostat", password);
        Client::offer(&broker, &connect)
    };
    assert_eq!(login("22 degrees").1, 0x86);
    let (mut thermostat, code) = login("21 degrees");
    assert_eq!(code, 0);
    assert_eq!(thermostat.subscribe("home/heating/#", 1), 1);
    assert_eq!(thermostat.publish_as(Publish::new("home/heating/set", "20", 1)), 0);
    assert_eq!(thermostat.message().text(), "20");
    assert_eq!(thermostat.publish_as(Publish::new("home/door/open", "now", 1)), 0x87);

    // Whoever this test runs as is known by that.
    let mut local = UnixStream::connect(folder.join("muring.sock")).expect("it listens");
    local.set_read_timeout(Some(DEADLINE)).expect("a socket");
    local.write_all(&Connect::new(4, "local").encode()).expect("it reads");
    let mut connack = [0; 4];
    local.read_exact(&mut connack).expect("it answers");
    assert_eq!(connack, [0x20, 2, 0, 0]);
    drop(broker);
    let _ = std::fs::remove_dir_all(folder);
}

#[test]
fn tls_with_client_certificates() {
    let folder = scratch_folder();
    let tls = folder.join("tls");
    std::fs::create_dir(&tls).expect("a scratch folder");
    let (own, clients) = (Authority::new("the broker's"), Authority::new("the clients'"));
    own.write(&tls.join("ca.pem"));
    own.server(&tls, "server");
    clients.write(&tls.join("clients-ca.pem"));
    clients.revoke(&[3], &tls.join("clients.crl"));
    let device = clients.client(&tls, "device", 2, Validity::Now);
    let lost = clients.client(&tls, "lost", 3, Validity::Now);
    let acl = "user device\ntopic readwrite devices/#\n";
    std::fs::write(folder.join("acl"), acl).expect("a scratch file");
    let broker = start(&folder, "tls-client-certificates.toml");

    let trust = |pair| client_config(&tls.join("ca.pem"), pair);
    let connect = Connect::new(5, "device");
    let open = |pair| Client::open_tls(broker.addr, 5, &trust(pair));
    let (mut client, code) = open(Some(&device)).introduce(&connect);
    assert_eq!(code, 0);
    assert_eq!(client.subscribe("devices/#", 1), 1);
    assert_eq!(client.publish_as(Publish::new("devices/1", "on", 1)), 0);
    assert_eq!(client.message().text(), "on");
    assert_eq!(client.subscribe("#", 1), 1, "granted, for what is below devices/");
    assert!(open(Some(&lost)).is_refused_by_tls(&connect.encode()));
    assert!(open(None).is_refused_by_tls(&connect.encode()));
    drop(broker);
    let _ = std::fs::remove_dir_all(folder);
}

/// A token signed with ES256.
fn token(key: &KeyPair, client_id: &str, tenant: &str) -> String {
    let random = SystemRandom::new();
    let algorithm = &ECDSA_P256_SHA256_FIXED_SIGNING;
    let key = EcdsaKeyPair::from_pkcs8(algorithm, &key.serialize_der(), &random).expect("a key");
    let header = URL_SAFE_NO_PAD.encode(r#"{"alg":"ES256"}"#);
    let claims = format!(
        r#"{{"sub":"alice","client_id":"{client_id}","aud":"broker","tenant":"{tenant}",
            "exp":{},"pub":["acme/alice/#"],"subs":["acme/#"]}}"#,
        now_s() + 600
    );
    let signed = format!("{header}.{}", URL_SAFE_NO_PAD.encode(claims));
    let signature = key.sign(&random, signed.as_bytes()).expect("a signature");
    format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
}

#[test]
fn jwt_behind_a_proxy() {
    let folder = scratch_folder();
    let key = KeyPair::generate().expect("a key");
    std::fs::write(folder.join("tokens.pem"), key.public_key_pem()).expect("a scratch file");
    let broker = start(&folder, "jwt-behind-proxy.toml");

    let come = |id: &str, token: &str| {
        let mut client = Client::open(&broker, 5);
        client.send(b"PROXY TCP4 203.0.113.7 127.0.0.1 5000 1884\r\n");
        client.introduce(&Connect::new(5, id).login("", token))
    };
    let (mut alice, code) = come("alice-phone", &token(&key, "alice-phone", "acme"));
    assert_eq!(code, 0);
    assert_eq!(alice.subscribe("acme/#", 1), 1);
    assert_eq!(alice.publish_as(Publish::new("acme/alice/1", "hello", 1)), 0);
    assert_eq!(alice.message().text(), "hello");
    assert_eq!(alice.publish_as(Publish::new("acme/bob/1", "hello", 1)), 0x87);
    assert_eq!(alice.subscribe("else/#", 1), 0x87);
    // Another client identifier, another tenant, another key.
    let stranger = KeyPair::generate().expect("a key");
    for wrong in [
        token(&key, "bobs-phone", "acme"),
        token(&key, "alice-phone", "emca"),
        token(&stranger, "alice-phone", "acme"),
    ] {
        assert_eq!(come("alice-phone", &wrong).1, 0x86);
    }
    // The log has the client's address, and no proxy's.
    broker.logged(&["event=\"login_failed\"", "addr=203.0.113.7:5000"]);
    drop(broker);
    let _ = std::fs::remove_dir_all(folder);
}
