//! SIGHUP: new certificates, authorities, lists, passwords and permissions take effect at once, under load,
//! and nobody is disconnected who may stay; a broken file changes nothing.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Instant;

use rustix::process::Signal;

use crate::harness::client::Client;
use crate::harness::wire::{Connect, Packet, Publish};

use super::authority::{Authority, Validity};
use super::site::{At, Site, set_password};

/// Two clients with TLS that exchange messages until they are told to stop; none may be lost.
struct Load {
    stop: Arc<AtomicBool>,
    exchanged: Arc<AtomicU64>,
    thread: JoinHandle<()>,
}

impl Load {
    fn begin(site: &Site, name: &str) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let exchanged = Arc::new(AtomicU64::new(0));
        let topic = format!("load/{name}");
        let config = site.tls(None);
        let login = |client: Client, id: &str| {
            let connect = Connect::new(5, &format!("{name}-{id}")).login("alice", "wonderland");
            let (client, code) = client.introduce(&connect);
            assert_eq!(code, 0);
            client
        };
        let address = site.address(At::Mqtts);
        let mut subscriber = login(Client::open_tls(address, 5, &config), "to");
        assert_eq!(subscriber.subscribe(&topic, 1), 1);
        let mut publisher = login(Client::open_tls(address, 5, &config), "from");
        let thread = thread::spawn({
            let (stop, exchanged) = (Arc::clone(&stop), Arc::clone(&exchanged));
            move || {
                let mut number = 0_u64;
                while !stop.load(Ordering::Relaxed) {
                    publisher.publish(&topic, number.to_string(), 1);
                    assert_eq!(subscriber.message().text(), number.to_string());
                    number += 1;
                    exchanged.store(number, Ordering::Relaxed);
                }
                publisher.disconnect();
                subscriber.disconnect();
            }
        });
        Self { stop, exchanged, thread }
    }

    /// Blocks until some more messages were exchanged.
    fn goes_on(&self) {
        let goal = self.exchanged.load(Ordering::Relaxed) + 50;
        while self.exchanged.load(Ordering::Relaxed) < goal {
            assert!(!self.thread.is_finished(), "the load has ended");
            thread::yield_now();
        }
    }

    fn end(self) {
        self.goes_on();
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().expect("no message was lost");
    }
}

/// Sends SIGHUP and waits for the line about it that was not there before.
fn reload(site: &Site, word: &str) -> String {
    let before = site.broker.log_lines(word).len();
    let start = Instant::now();
    site.broker.signal(Signal::HUP);
    let line = site.broker.logged_again(word, before);
    eprintln!("{word} after {:?}", start.elapsed());
    line
}

/// The code of the CONNACK that this login gets.
fn login(site: &Site, at: At, user: &str, password: &str) -> u8 {
    let connect = Connect::new(5, "").login(user, password);
    let (client, code) = match at {
        At::Mqtts => Client::open_tls(site.address(at), 5, &site.tls(None)).introduce(&connect),
        _ => Client::open_at(site.address(at), 5).introduce(&connect),
    };
    drop(client);
    code
}

#[test]
fn everything_changes_and_nobody_is_lost() {
    for shards in [1, 2] {
        let site = Site::start(shards, "");
        let loads = [Load::begin(&site, "a"), Load::begin(&site, "b")];
        loads.iter().for_each(Load::goes_on);

        // A new password for bob, none for carol any more, dave is new.
        set_password(&site.folder, "bob", "plumber", &[]);
        set_password(&site.folder, "dave", "diver", &[]);
        assert_eq!(login(&site, At::Plain, "bob", "builder"), 0, "not before SIGHUP");
        // What bob may do.
        let acl = std::fs::read_to_string(site.path("acl")).expect("our file");
        std::fs::write(site.path("acl"), acl.replace("read news/#", "read weather/#"))
            .expect("ours");
        // A certificate of a new authority, which is also the one that clients must have.
        let newer = Authority::new("newer");
        newer.write(&site.path("ca.pem"));
        newer.server(&site.folder, "server");
        newer.revoke(&[7], &site.path("crl.pem"));
        let good = newer.client(&site.folder, "device", 6, Validity::Now);
        let revoked = newer.client(&site.folder, "taken", 7, Validity::Now);
        let old = site.authority.client(&site.folder, "old", 8, Validity::Now);
        reload(&site, "reloaded");

        // New connections see all of it at once; `tls` reads the new authority.
        assert_eq!(login(&site, At::Mqtts, "bob", "plumber"), 0);
        assert_eq!(login(&site, At::Mqtts, "bob", "builder"), 0x86);
        assert_eq!(login(&site, At::Plain, "dave", "diver"), 0);
        let connect = Connect::new(5, "device");
        let certificates = site.address(At::Certificates);
        let (_, code) =
            Client::open_tls(certificates, 5, &site.tls(Some(&good))).introduce(&connect);
        assert_eq!(code, 0);
        for pair in [&revoked, &old] {
            let mut client = Client::open_tls(certificates, 5, &site.tls(Some(pair)));
            assert!(client.is_refused_by_tls(&connect.encode()), "{pair:?}");
        }
        // The load never noticed.
        loads.into_iter().for_each(Load::end);
    }
}

#[test]
fn old_sessions_are_checked_anew() {
    for shards in [1, 2] {
        let site = Site::start(shards, "");
        let plain = |id: &str, user: &str, password: &str| {
            let connect = Connect::new(5, id).login(user, password);
            let (client, code) = Client::open_at(site.address(At::Plain), 5).introduce(&connect);
            assert_eq!(code, 0);
            client
        };
        let mut bob = plain("bob", "bob", "builder");
        assert_eq!(bob.subscribe("news/#", 1), 1);
        assert_eq!(bob.subscribe("secret/#", 1), 0x87, "not authorised");
        let mut carol = plain("carol", "carol", "singing");
        let mut alice = plain("alice", "alice", "wonderland");
        alice.publish("news/1", "first", 1);
        assert_eq!(bob.message().text(), "first");

        // bob may not read news any more, but weather; carol is gone.
        let acl = std::fs::read_to_string(site.path("acl")).expect("our file");
        std::fs::write(site.path("acl"), acl.replace("read news/#", "read weather/#"))
            .expect("ours");
        set_password(&site.folder, "carol", "", &["--delete"]);
        reload(&site, "reloaded");

        let Packet::Disconnect { code, .. } = carol.recv() else { panic!("carol may stay") };
        assert_eq!(code, 0x87);
        assert_eq!(bob.subscribe("weather/#", 1), 1);
        alice.publish("news/2", "second", 1);
        alice.publish("weather/1", "third", 1);
        assert_eq!(bob.message().text(), "third", "news are not for bob any more");
        assert_eq!(bob.publish_as(Publish::new("news/3", "no", 1)), 0x87);
        assert_eq!(bob.publish_as(Publish::new("bob/1", "yes", 1)), 0x10, "nobody subscribes");
    }
}

#[test]
fn a_broken_file_is_refused_as_a_whole() {
    let site = Site::start(2, "");
    let load = Load::begin(&site, "a");
    set_password(&site.folder, "bob", "plumber", &[]);
    let files = [
        ("acl", "user bob\ntopic read news/#\ntopic raed all/#\n", "line 3"),
        ("passwords", "bob:$7$not-a-number$x$y\n", "line 1"),
        ("server.pem", "no certificate\n", "server.pem"),
        ("crl.pem", "-----BEGIN X509 CRL-----\nAAAA\n-----END X509 CRL-----\n", "crl.pem"),
    ];
    for (name, broken, place) in files {
        let whole = std::fs::read(site.path(name)).expect("our file");
        std::fs::write(site.path(name), broken).expect("our file");
        let line = reload(&site, "not reloaded");
        assert!(line.contains(name) && line.contains(place), "{line}");
        std::fs::write(site.path(name), whole).expect("our file");
        // The old still counts as a whole: not even the password file, which is in order, is taken.
        assert_eq!(login(&site, At::Plain, "bob", "builder"), 0, "{name}");
        assert_eq!(login(&site, At::Mqtts, "bob", "plumber"), 0x86, "{name}");
    }
    reload(&site, " reloaded");
    assert_eq!(login(&site, At::Plain, "bob", "plumber"), 0);
    load.end();
}
