//! Foreign clients over every transport: with good credentials all their scenarios, with wrong ones the
//! right answer.

use std::process::Command;

use crate::harness::tools::{Tool, bounded, mqttjs, python, succeed};

use super::authority::Pair;
use super::site::{At, Site, TOKEN_SECRET};
use super::tokens::{now_s, token};

/// How somebody logs in, and over what.
struct Login<'a> {
    scheme: &'static str,
    at: At,
    pair: Option<&'a Pair>,
    user: Option<&'a str>,
    password: Option<&'a str>,
}

impl<'a> Login<'a> {
    fn new(scheme: &'static str, at: At) -> Self {
        Self { scheme, at, pair: None, user: None, password: None }
    }

    fn log_in(self, user: &'a str, password: &'a str) -> Self {
        Self { user: Some(user), password: Some(password), ..self }
    }

    fn with(self, pair: &'a Pair) -> Self {
        Self { pair: Some(pair), ..self }
    }

    fn is_tls(&self) -> bool {
        matches!(self.scheme, "mqtts" | "wss")
    }

    /// Options that both scripts understand.
    fn args(&self, site: &Site, version: &str) -> Vec<String> {
        let path = if self.scheme.starts_with("ws") { "/mqtt" } else { "" };
        let port = site.address(self.at).port();
        let mut args =
            vec![format!("{}://localhost:{port}{path}", self.scheme), version.to_owned()];
        let mut option = |name: &str, value: &str| {
            args.push(format!("--{name}"));
            args.push(value.to_owned());
        };
        if self.is_tls() {
            option("ca", &site.path("ca.pem").display().to_string());
        }
        if let Some(pair) = self.pair {
            option("cert", &pair.certificate.display().to_string());
            option("key", &pair.key.display().to_string());
        }
        if let Some(user) = self.user {
            option("user", user);
        }
        if let Some(password) = self.password {
            option("password", password);
        }
        args
    }

    fn paho(&self, site: &Site, version: &str) -> Command {
        let mut command = bounded(python());
        command.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/clients/paho/scenarios.py"));
        command.args(self.args(site, version));
        command
    }

    fn mqttjs(&self, site: &Site, version: &str) -> Command {
        let mut command = bounded("node");
        command.current_dir(mqttjs()).arg("scenarios.js").args(self.args(site, version));
        command
    }

    /// `mosquitto_pub` of one message.
    fn mosquitto(&self, site: &Site, version: &str) -> Command {
        let mut command = bounded("mosquitto_pub");
        let port = site.address(self.at).port().to_string();
        command.args(["-h", "localhost", "-p", &port, "-V", version]);
        command.args(["-t", "own/alice/x", "-m", "text", "-q", "1"]);
        if self.is_tls() {
            command.arg("--cafile").arg(site.path("ca.pem"));
        }
        if let Some(pair) = self.pair {
            command.arg("--cert").arg(&pair.certificate).arg("--key").arg(&pair.key);
        }
        if let (Some(user), Some(password)) = (self.user, self.password) {
            command.args(["-u", user, "-P", password]);
        }
        command
    }
}

/// Transports with a password; mosquitto's clients have no WebSocket.
const PASSWORD_LISTENERS: [(&str, At); 3] =
    [("mqtts", At::Mqtts), ("ws", At::Ws), ("wss", At::Wss)];

#[test]
fn paho_over_every_transport() {
    if !Tool::Paho.is_present() {
        return;
    }
    for version in ["4", "5"] {
        for (scheme, at) in PASSWORD_LISTENERS {
            let site = Site::start(2, "");
            let login = Login::new(scheme, at).log_in("alice", "wonderland");
            succeed(login.paho(&site, version));
        }
        let site = Site::start(2, "");
        succeed(Login::new("mqtts", At::Certificates).with(&site.device).paho(&site, version));
    }
}

#[test]
fn mqttjs_over_every_transport() {
    if !Tool::MqttJs.is_present() {
        return;
    }
    for version in ["4", "5"] {
        for (scheme, at) in PASSWORD_LISTENERS {
            let site = Site::start(2, "");
            let login = Login::new(scheme, at).log_in("alice", "wonderland");
            succeed(login.mqttjs(&site, version));
        }
        let site = Site::start(2, "");
        succeed(Login::new("mqtts", At::Certificates).with(&site.device).mqttjs(&site, version));
    }
}

#[test]
fn mosquitto_over_tls() {
    if !Tool::MosquittoClients.is_present() {
        return;
    }
    let site = Site::start(2, "");
    let good = token(TOKEN_SECRET, "alice", now_s() + 600, "");
    for version in ["mqttv311", "mqttv5"] {
        let login = || Login::new("mqtts", At::Mqtts);
        succeed(login().log_in("alice", "wonderland").mosquitto(&site, version));
        succeed(login().log_in("alice", &good).mosquitto(&site, version));
        let device = Login::new("mqtts", At::Certificates).with(&site.device);
        succeed(device.mosquitto(&site, version));
    }
    let wrong = Login::new("mqtts", At::Mqtts).log_in("alice", "looking-glass");
    // Its exit status is the return code of 3.1.1 or the reason code of 5.0.
    let code = |version| wrong.mosquitto(&site, version).output().expect("it runs").status.code();
    assert_eq!(code("mqttv311"), Some(4));
    assert_eq!(code("mqttv5"), Some(0x86));
    for pair in [&site.expired, &site.revoked, &site.stranger] {
        let login = Login::new("mqtts", At::Certificates).with(pair);
        let output = login.mosquitto(&site, "mqttv5").output().expect("it runs");
        assert!(!output.status.success(), "{pair:?}");
    }
    for reason in ["expired", "Revoked", "UnknownIssuer"] {
        let line = site.broker.logged(&["event=\"transport_refused\"", reason]);
        assert!(line.contains("addr=127.0.0.1"), "{line}");
    }
}

/// What the scripts print when they only try.
fn tried(mut command: Command) -> String {
    let output = command.arg("--try").output().expect("it runs");
    let text = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    assert!(!text.is_empty(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    text
}

#[test]
fn wrong_credentials_get_the_right_answer() {
    if !Tool::Paho.is_present() || !Tool::MqttJs.is_present() {
        return;
    }
    let site = Site::start(2, "");
    let now = now_s();
    let good = token(TOKEN_SECRET, "alice", now + 600, "");
    let expired = token(TOKEN_SECRET, "alice", now - 600, "");
    let forged = token(b"another secret of thirty-two byt", "alice", now + 600, "");
    // The claims of another token under the signature of a good one.
    let other = token(TOKEN_SECRET, "bob", now + 600, "");
    let (claims, _) = other.rsplit_once('.').expect("three parts");
    let (_, signature) = good.rsplit_once('.').expect("three parts");
    let altered = format!("{claims}.{signature}");
    let cases = [
        ("wonderland", true),
        (&*good, true),
        ("looking-glass", false),
        (&*expired, false),
        (&*forged, false),
        (&*altered, false),
    ];
    for (scheme, at) in PASSWORD_LISTENERS {
        for (password, is_good) in cases {
            let login = || Login::new(scheme, at).log_in("alice", password);
            // Bad user name or password.
            for (version, refusal) in [("4", 4), ("5", 0x86)] {
                let code = if is_good { 0 } else { refusal };
                let want = format!("connack {code}");
                assert_eq!(tried(login().mqttjs(&site, version)), want, "{scheme} {password}");
            }
            let code = if is_good { 0 } else { 0x86 };
            assert_eq!(tried(login().paho(&site, "5")), format!("connack {code}"), "{scheme}");
        }
    }
    let device = |pair| Login::new("mqtts", At::Certificates).with(pair);
    assert_eq!(tried(device(&site.device).paho(&site, "5")), "connack 0");
    for pair in [&site.expired, &site.revoked, &site.stranger] {
        let answer = tried(device(pair).paho(&site, "5"));
        assert!(!answer.starts_with("connack"), "{pair:?}: {answer}");
        let answer = tried(device(pair).mqttjs(&site, "5"));
        assert!(!answer.starts_with("connack"), "{pair:?}: {answer}");
    }
    // Without a certificate there is no connection either.
    let answer = tried(Login::new("mqtts", At::Certificates).paho(&site, "5"));
    assert!(!answer.starts_with("connack"), "{answer}");
    // No log shows what was guessed.
    for secret in ["looking-glass", &*expired, &*forged, "wonderland"] {
        assert_eq!(site.broker.log_lines(secret), Vec::<String>::new());
    }
}
