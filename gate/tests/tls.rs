//! TLS stacks in memory, against rustls's client with certificates made here.
#![expect(clippy::unwrap_used, reason = "in a test, a panic is the report")]

mod tls_side;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use gate::transport::tls::{
    Application, ClientAuth, ExpiredCrl, IdentitySource, Pem, TlsMaterial, VersionMin,
};
use gate::transport::{Passage, Stack};
use rustls::pki_types::UnixTime;
use rustls::time_provider::TimeProvider;
use tls_side::{Authority, Client, config, exchange, stack_of};

/// A listener with one certificate.
fn material(ca: &Authority) -> TlsMaterial {
    TlsMaterial { certificates: vec![ca.server("broker.test")], ..TlsMaterial::default() }
}

/// A listener that asks for client certificates.
fn verifying(ca: &Authority) -> TlsMaterial {
    TlsMaterial {
        client_auth: ClientAuth::Required,
        client_ca: Some(Pem::new("ca.pem", ca.pem())),
        identity: IdentitySource::CommonName,
        ..material(ca)
    }
}

#[track_caller]
fn check_echo(client: &mut Client, stack: &mut Stack) {
    exchange(client, stack, usize::MAX).unwrap();
    assert!(stack.is_established());
    client.write(b"\x10\x00hello");
    let plain = exchange(client, stack, usize::MAX).unwrap();
    assert_eq!(plain, b"\x10\x00hello");
    let mut wire = Vec::new();
    stack.send([&b"\x20\x02"[..], &b"\x00\x00"[..]].into_iter(), &mut wire);
    assert_eq!(client.read(&wire), b"\x20\x02\x00\x00");
}

/// The problem that a client with these certificates runs into.
#[track_caller]
fn refusal(material: &TlsMaterial, client: &mut Client) -> String {
    let mut stack = stack_of(material);
    let error = exchange(client, &mut stack, usize::MAX).unwrap_err();
    assert!(client.is_refused(), "the client was sent an alert");
    error.to_string()
}

#[test]
fn both_versions_carry_packets() {
    let ca = Authority::new("ca");
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let mut client = Client::new(config(&ca, &[version], None), "broker.test");
        let mut stack = stack_of(&material(&ca));
        check_echo(&mut client, &mut stack);
        assert_eq!(client.version(), Some(version.version));
    }
}

#[test]
fn the_oldest_version_can_be_raised() {
    let ca = Authority::new("ca");
    let material = TlsMaterial { version_min: VersionMin::Tls13, ..material(&ca) };
    let mut client = Client::new(config(&ca, &[&rustls::version::TLS12], None), "broker.test");
    let problem = refusal(&material, &mut client);
    assert!(problem.contains("Tls12NotOffered"), "{problem}");
}

#[test]
fn bytes_may_come_one_at_a_time() {
    let ca = Authority::new("ca");
    let mut client = Client::new(config(&ca, rustls::ALL_VERSIONS, None), "broker.test");
    let mut stack = stack_of(&material(&ca));
    exchange(&mut client, &mut stack, 1).unwrap();
    client.write(b"abc");
    assert_eq!(exchange(&mut client, &mut stack, 1).unwrap(), b"abc");
}

#[test]
fn pieces_share_records() {
    let ca = Authority::new("ca");
    let mut client = Client::new(config(&ca, rustls::ALL_VERSIONS, None), "broker.test");
    let mut stack = stack_of(&material(&ca));
    exchange(&mut client, &mut stack, usize::MAX).unwrap();
    let mut wire = Vec::new();
    stack.send(std::iter::repeat_n(&[7_u8; 10][..], 100), &mut wire);
    // One header and one tag around a thousand bytes.
    assert!((1_000..1_040).contains(&wire.len()), "{} bytes", wire.len());
    assert_eq!(client.read(&wire), [7; 1_000]);
    wire.clear();
    let large = vec![1_u8; 300_000];
    stack.send([&large[..]].into_iter(), &mut wire);
    assert!(wire.len() < 300_000 + 19 * 40, "records are full: {} bytes", wire.len());
    assert_eq!(client.read(&wire), large);
}

#[test]
fn a_session_is_resumed_with_its_identity() {
    let ca = Authority::new("ca");
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let policy = Arc::new(verifying(&ca).policy().unwrap());
        let config = config(&ca, &[version], Some(ca.client("anna")));
        for is_resumed in [false, true] {
            let mut client = Client::new(config.clone(), "broker.test");
            let mut stack = tls_side::stack(&policy);
            check_echo(&mut client, &mut stack);
            assert_eq!(client.is_resumed(), is_resumed, "{version:?}");
            assert_eq!(stack.peer().identity.as_deref(), Some("anna"));
        }
        // What was agreed upon before a reload is void.
        let mut client = Client::new(config, "broker.test");
        check_echo(&mut client, &mut stack_of(&verifying(&ca)));
        assert!(!client.is_resumed());
    }
}

#[test]
fn the_certificate_follows_the_name() {
    let ca = Authority::new("ca");
    let certificates = vec![ca.server("one.test"), ca.server("*.two.test")];
    let material = TlsMaterial { certificates, ..TlsMaterial::default() };
    for name in ["one.test", "x.two.test"] {
        let mut client = Client::new(config(&ca, rustls::ALL_VERSIONS, None), name);
        check_echo(&mut client, &mut stack_of(&material));
    }
    // An unknown name is shown the first one, and that is the client's to refuse.
    let mut client = Client::new(config(&ca, rustls::ALL_VERSIONS, None), "three.test");
    exchange(&mut client, &mut stack_of(&material), usize::MAX).unwrap_err();
}

#[test]
fn alpn_is_answered_or_refused() {
    let ca = Authority::new("ca");
    let check = |application, offered: &[&[u8]], want: Option<&[u8]>| {
        let mut config = Arc::unwrap_or_clone(config(&ca, rustls::ALL_VERSIONS, None));
        config.alpn_protocols = offered.iter().map(|name| name.to_vec()).collect();
        let mut client = Client::new(config.into(), "broker.test");
        let mut stack = stack_of(&TlsMaterial { application, ..material(&ca) });
        let end = exchange(&mut client, &mut stack, usize::MAX);
        assert_eq!(end.ok().and_then(|_| client.alpn()), want.map(<[u8]>::to_vec), "{offered:?}");
    };
    check(Application::Mqtt, &[b"x", b"mqtt"], Some(b"mqtt"));
    check(Application::WebSocket, &[b"h2", b"http/1.1"], Some(b"http/1.1"));
    check(Application::Mqtt, &[], None);
    check(Application::Mqtt, &[b"http/1.1"], None);
    let mut config = Arc::unwrap_or_clone(config(&ca, rustls::ALL_VERSIONS, None));
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    let problem = refusal(&material(&ca), &mut Client::new(config.into(), "broker.test"));
    assert!(problem.contains("any known protocol"), "{problem}");
}

#[test]
fn identities_come_from_the_configured_place() {
    let ca = Authority::new("ca");
    let check = |identity, want: Option<&str>| {
        let material = TlsMaterial { identity, ..verifying(&ca) };
        let mut stack = stack_of(&material);
        let client = config(&ca, rustls::ALL_VERSIONS, Some(ca.client("anna")));
        check_echo(&mut Client::new(client, "broker.test"), &mut stack);
        assert_eq!(stack.peer().identity.as_deref(), want);
    };
    check(IdentitySource::None, None);
    check(IdentitySource::CommonName, Some("anna"));
    check(IdentitySource::SubjectAltName, Some("anna@clients.test"));
}

#[test]
fn names_that_are_more_than_names_are_refused() {
    let ca = Authority::new("ca");
    for name in ["#", "a/+/b", "a\nb", "", "*.x"] {
        let client = config(&ca, rustls::ALL_VERSIONS, Some(ca.client(name)));
        let problem = refusal(&verifying(&ca), &mut Client::new(client, "broker.test"));
        assert!(problem.contains("user name"), "{name:?}: {problem}");
    }
}

#[test]
fn bad_client_certificates_are_refused() {
    let ca = Authority::new("ca");
    let other = Authority::new("other");
    let check = |material: &TlsMaterial, client, want: &str| {
        for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
            let mut client =
                Client::new(config(&ca, &[version], client_copy(&client)), "broker.test");
            let problem = refusal(material, &mut client);
            assert!(problem.contains(want), "{problem}, not {want}");
        }
    };
    let required = verifying(&ca);
    check(&required, None, "peer sent no certificates");
    check(&required, Some(other.client("anna")), "UnknownIssuer");
    check(&required, Some(ca.expired_client("anna")), "xpired");
    let revoking =
        TlsMaterial { crls: vec![Pem::new("crl.pem", ca.crl(&[7], 2_099))], ..required.clone() };
    check(&revoking, Some(ca.client_numbered("anna", 7)), "Revoked");
    let late = TlsMaterial { crls: vec![Pem::new("crl.pem", ca.crl(&[7], 2_001))], ..required };
    check(&late, Some(ca.client("anna")), "xpired");
    let late = TlsMaterial { expired_crl: ExpiredCrl::Accept, ..late };
    check(&late, Some(ca.client_numbered("anna", 7)), "Revoked");
    for material in [revoking, late] {
        let client = config(&ca, rustls::ALL_VERSIONS, Some(ca.client_numbered("bert", 8)));
        check_echo(&mut Client::new(client, "broker.test"), &mut stack_of(&material));
    }
}

fn client_copy(client: &Option<tls_side::Credentials>) -> Option<tls_side::Credentials> {
    client.as_ref().map(|(chain, key)| (chain.clone(), key.clone_key()))
}

#[test]
fn a_certificate_can_be_optional() {
    let ca = Authority::new("ca");
    let material = TlsMaterial { client_auth: ClientAuth::Optional, ..verifying(&ca) };
    for (client, want) in [(None, None), (Some(ca.client("anna")), Some("anna"))] {
        let mut stack = stack_of(&material);
        let client = config(&ca, rustls::ALL_VERSIONS, client);
        check_echo(&mut Client::new(client, "broker.test"), &mut stack);
        assert_eq!(stack.peer().identity.as_deref(), want);
    }
    let other = Authority::new("other").client("anna");
    let client = config(&ca, rustls::ALL_VERSIONS, Some(other));
    refusal(&material, &mut Client::new(client, "broker.test"));
}

#[test]
fn both_sides_say_goodbye() {
    let ca = Authority::new("ca");
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let mut client = Client::new(config(&ca, &[version], None), "broker.test");
        let mut stack = stack_of(&material(&ca));
        check_echo(&mut client, &mut stack);
        client.finish();
        let mut out = Passage::default();
        stack.receive(&client.take_wire(), &mut out).unwrap();
        assert!(out.is_ended);
        client.read(&out.wire);
        assert!(client.has_ended());

        let mut client = Client::new(config(&ca, &[version], None), "broker.test");
        let mut stack = stack_of(&material(&ca));
        check_echo(&mut client, &mut stack);
        let mut wire = Vec::new();
        stack.finish(&mut wire);
        client.read(&wire);
        assert!(client.has_ended());
    }
}

#[test]
fn what_is_no_tls_is_answered_with_an_alert() {
    let ca = Authority::new("ca");
    let mut stack = stack_of(&material(&ca));
    let mut out = Passage::default();
    let connect = b"\x10\x0c\x00\x04MQTT\x04\x02\x00\x3c\x00\x00";
    stack.receive(connect, &mut out).unwrap_err();
    assert_eq!(out.wire.first(), Some(&21), "an alert: {:?}", out.wire);
    assert!(out.plain.is_empty());
    let mut wire = Vec::new();
    stack.send([&b"x"[..]].into_iter(), &mut wire);
    assert!(wire.is_empty());
    // Later bytes change nothing.
    let mut later = Passage::default();
    stack.receive(connect, &mut later).unwrap();
    assert!(later.plain.is_empty() && later.wire.is_empty());
}

#[test]
fn errors_name_the_file_the_line_and_the_remedy() {
    let ca = Authority::new("ca");
    let check = |material: &TlsMaterial, want: &str| {
        let error = material.policy().map(drop).unwrap_err().to_string();
        assert!(error.contains(want), "{error:?} does not say {want:?}");
    };
    let good = material(&ca);
    check(&TlsMaterial::default(), "needs a certificate");
    let with = |change: &dyn Fn(&mut TlsMaterial)| {
        let mut material = good.clone();
        change(&mut material);
        material
    };
    check(&with(&|m| m.certificates[0].key.text.clear()), "broker.test.key: no private key");
    check(
        &with(&|m| m.certificates[0].key = ca.server("x.test").key),
        "x.test.key: the key is not that of the first certificate in broker.test.pem",
    );
    check(&with(&|m| m.certificates[0].chain.text.truncate(120)), "broker.test.pem:1: the section");
    check(
        &with(&|m| {
            m.certificates[0].chain.text.extend(
                b"# a comment\n-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
            )
        }),
        "this is not a certificate",
    );
    let encrypted =
        b"-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n";
    check(&with(&|m| m.certificates[0].key.text = encrypted.to_vec()), "openssl pkey");
    check(&with(&|m| m.client_auth = ClientAuth::Required), "no authority is named");
    check(&with(&|m| m.client_ca = Some(Pem::new("ca.pem", ca.pem()))), "ca.pem: it is for client");
    check(&with(&|m| m.identity = IdentitySource::CommonName), "not asked for");
    let verifying = verifying(&ca);
    let crl = Pem::new("crl.pem", ca.pem());
    check(&TlsMaterial { crls: vec![crl], ..verifying.clone() }, "crl.pem: no revocation list");
    let empty = Pem::new("ca.pem", "");
    check(&TlsMaterial { client_ca: Some(empty), ..verifying }, "ca.pem: no certificate");
}

#[test]
fn an_expired_certificate_of_ones_own_is_told_not_refused() {
    let ca = Authority::new("ca");
    let certificates = vec![ca.expired_server("broker.test")];
    let policy = TlsMaterial { certificates, ..TlsMaterial::default() }.policy().unwrap();
    let [expiry] = policy.expiries() else { panic!("{policy:?}") };
    assert_eq!((expiry.file.as_str(), expiry.line), ("broker.test.pem", 1));
    // The second day of 2001, at its first second.
    assert_eq!(expiry.at, 978_393_600);
}

#[test]
fn nothing_secret_is_printed() {
    let ca = Authority::new("ca");
    let material = material(&ca);
    let key = String::from_utf8(material.certificates[0].key.text.clone()).unwrap();
    let secret = key.lines().nth(1).unwrap();
    let policy = material.policy().unwrap();
    let stack = stack_of(&material);
    for printed in [format!("{material:?}"), format!("{policy:?}"), format!("{stack:?}")] {
        assert!(!printed.contains(secret) && !printed.contains("PRIVATE"), "{printed}");
        assert!(printed.len() < 600, "{printed}");
    }
}

/// Stacks move from shard to shard.
#[test]
fn stacks_can_move() {
    fn check<T: Send>(_: &T) {}
    check(&stack_of(&material(&Authority::new("ca"))));
}

/// A clock that the test sets, in seconds since 1970.
#[derive(Debug)]
struct Clock(AtomicU64);

impl TimeProvider for Clock {
    fn current_time(&self) -> Option<UnixTime> {
        Some(UnixTime::since_unix_epoch(Duration::from_secs(self.0.load(Ordering::Relaxed))))
    }
}

/// A ticket carries the certificate of the first handshake, and rustls does not look at it again.
#[test]
fn a_certificate_does_not_outlive_its_validity_in_a_ticket() {
    const END: u64 = 1_893_542_400;
    let ca = Authority::new("ca");
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let clock = Arc::new(Clock(AtomicU64::new(END - 600)));
        let policy = Arc::new(verifying(&ca).policy_by(Arc::clone(&clock) as _).unwrap());
        let config = config(&ca, &[version], Some(ca.client_until("anna", 1, 2_030)));
        let mut client = Client::new(Arc::clone(&config), "broker.test");
        check_echo(&mut client, &mut tls_side::stack(&policy));
        clock.0.store(END + 600, Ordering::Relaxed);
        let mut client = Client::new(config, "broker.test");
        let mut stack = tls_side::stack(&policy);
        let error = exchange(&mut client, &mut stack, usize::MAX).unwrap_err();
        assert!(client.is_resumed(), "{version:?}");
        assert!(error.to_string().contains("xpired"), "{error}");
        assert!(!stack.is_established());
    }
}
