//! What a scanner of TLS servers would say, with OpenSSL: protocols, cipher suites, application protocols,
//! resumption.

use std::process::Command;

use crate::harness::tools::{Tool, bounded};

use super::site::{At, Site};

/// A handshake with these options: what `openssl s_client` printed.
fn s_client(site: &Site, at: At, args: &[&str]) -> String {
    let mut command: Command = bounded("openssl");
    command.args(["s_client", "-connect", &format!("localhost:{}", site.address(at).port())]);
    command.arg("-CAfile").arg(site.path("ca.pem")).args(["-verify_return_error"]).args(args);
    let output = command.output().expect("openssl runs");
    let mut text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.push_str(&String::from_utf8_lossy(&output.stderr));
    text
}

fn is_agreed(text: &str) -> bool {
    text.contains("Verification: OK") && !text.contains("Cipher is (NONE)")
}

/// Suites that OpenSSL knows, by its own words for them.
fn suites(which: &str) -> Vec<String> {
    let mut command = bounded("openssl");
    let output = command.args(["ciphers", "-s", "-tls1_2", which]).output().expect("openssl runs");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.trim().split(':').filter(|name| !name.is_empty()).map(ToOwned::to_owned).collect()
}

#[test]
fn only_current_protocols_and_suites() {
    if !Tool::OpenSsl.is_present() {
        return;
    }
    let site = Site::start(1, "");
    for at in [At::Mqtts, At::Wss, At::Certificates] {
        // Level 0, so that it is not OpenSSL which refuses to offer them.
        for old in ["-tls1", "-tls1_1"] {
            let text = s_client(&site, at, &[old, "-cipher", "ALL:@SECLEVEL=0"]);
            assert!(!is_agreed(&text), "{at:?} {old}\n{text}");
        }
    }
    for (version, name) in [("-tls1_2", "TLSv1.2"), ("-tls1_3", "TLSv1.3")] {
        let text = s_client(&site, At::Mqtts, &[version]);
        assert!(is_agreed(&text) && text.contains(name), "{text}");
    }
    let mut agreed = Vec::new();
    for suite in suites("ALL:COMPLEMENTOFALL:@SECLEVEL=0") {
        let offer = format!("{suite}:@SECLEVEL=0");
        let text = s_client(&site, At::Mqtts, &["-tls1_2", "-cipher", &offer]);
        if is_agreed(&text) {
            agreed.push(suite);
        }
    }
    assert!(!agreed.is_empty(), "no suite of TLS 1.2");
    for suite in &agreed {
        // Forward secrecy and authenticated encryption, nothing else.
        let is_strong = suite.starts_with("ECDHE-")
            && (suite.contains("-GCM-") || suite.ends_with("CHACHA20-POLY1305"));
        assert!(is_strong, "{agreed:?}");
    }
    println!("suites of TLS 1.2: {agreed:?}");
}

#[test]
fn application_protocols_and_resumption() {
    if !Tool::OpenSsl.is_present() {
        return;
    }
    let site = Site::start(2, "");
    let text = s_client(&site, At::Mqtts, &["-alpn", "mqtt"]);
    assert!(text.contains("ALPN protocol: mqtt"), "{text}");
    let text = s_client(&site, At::Wss, &["-alpn", "http/1.1"]);
    assert!(text.contains("ALPN protocol: http/1.1"), "{text}");
    let text = s_client(&site, At::Mqtts, &["-alpn", "h2"]);
    assert!(!text.contains("ALPN protocol: h2"), "{text}");
    let text = s_client(&site, At::Mqtts, &["-tls1_2", "-reconnect"]);
    assert!(text.contains("Reused, "), "{text}");
    // Compression and renegotiation by the client are long gone.
    assert!(text.contains("Compression: NONE") || !text.contains("Compression:"), "{text}");
}
