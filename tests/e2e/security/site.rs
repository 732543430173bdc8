//! A folder with everything a secured broker needs, and the broker that uses it.

use std::io::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::harness::broker::{Broker, Options, muring};

use super::authority::{Authority, Pair, Validity};
use super::write_secret;

/// Signs the tokens that are good.
pub(super) const TOKEN_SECRET: &[u8] = b"a secret of thirty-two bytes!!!!";

/// Serial number of the client's certificate that is revoked.
const REVOKED: u64 = 99;

/// Positions of the listeners in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum At {
    /// TLS, password or token.
    Mqtts = 0,
    /// WebSocket, password or token.
    Ws = 1,
    /// WebSocket over TLS, password or token.
    Wss = 2,
    /// TLS, the client's certificate says who it is.
    Certificates = 3,
    /// Plain, password, token or SCRAM.
    Plain = 4,
}

pub(super) struct Site {
    pub(super) folder: PathBuf,
    pub(super) authority: Authority,
    /// Client certificates: valid, expired, revoked, of an authority that nobody knows.
    pub(super) device: Pair,
    pub(super) expired: Pair,
    pub(super) revoked: Pair,
    pub(super) stranger: Pair,
    pub(super) broker: Broker,
}

impl Site {
    /// `more` is further configuration, sections with names of their own.
    pub(super) fn start(shards: usize, more: &str) -> Self {
        Self::start_with(shards, more, |options| options)
    }

    pub(super) fn start_with(
        shards: usize,
        more: &str,
        adapt: impl FnOnce(Options) -> Options,
    ) -> Self {
        let folder = scratch_folder();
        let authority = Authority::new("muring tests");
        authority.write(&folder.join("ca.pem"));
        authority.server(&folder, "server");
        let device = authority.client(&folder, "device", 2, Validity::Now);
        let expired = authority.client(&folder, "expired", 3, Validity::Past);
        let revoked = authority.client(&folder, "revoked", REVOKED, Validity::Now);
        let stranger = Authority::new("strangers").client(&folder, "stranger", 4, Validity::Now);
        authority.revoke(&[REVOKED], &folder.join("crl.pem"));
        write_secret(&folder.join("token.secret"), TOKEN_SECRET);
        set_password(&folder, "alice", "wonderland", &["--create"]);
        set_password(&folder, "bob", "builder", &[]);
        set_password(&folder, "carol", "singing", &["--scram"]);
        let acl = "user alice\ntopic readwrite #\n\nuser bob\ntopic read news/#\ntopic write bob/#\n\n\
                   user carol\ntopic readwrite #\n\nuser device\ntopic readwrite #\n\n\
                   pattern readwrite own/%u/#\n";
        std::fs::write(folder.join("acl"), acl).expect("a scratch file");
        let config = folder.join("muring.toml");
        std::fs::write(&config, format!("{CONFIG}{more}")).expect("a scratch file");
        let options = adapt(Options::configured(shards, config));
        let broker = Broker::start_with(&options);
        Self { folder, authority, device, expired, revoked, stranger, broker }
    }

    pub(super) fn address(&self, at: At) -> SocketAddr {
        self.broker.listeners[at as usize]
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// As a client configures TLS that trusts the site's authority, with a certificate of its own or not.
    pub(super) fn tls(&self, pair: Option<&Pair>) -> Arc<rustls::ClientConfig> {
        client_config(&self.path("ca.pem"), pair)
    }
}

/// As a client configures TLS that trusts this authority, with a certificate of its own or not.
pub(super) fn client_config(ca: &Path, pair: Option<&Pair>) -> Arc<rustls::ClientConfig> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(ca).expect("PEM")).expect("an authority");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_root_certificates(roots);
    let config = match pair {
        None => builder.with_no_client_auth(),
        Some(pair) => {
            let certificate = CertificateDer::from_pem_file(&pair.certificate).expect("PEM");
            let key = PrivateKeyDer::from_pem_file(&pair.key).expect("PEM");
            builder.with_client_auth_cert(vec![certificate], key).expect("a pair")
        }
    };
    Arc::new(config)
}

impl Drop for Site {
    fn drop(&mut self) {
        // What stays behind lies in cargo's scratch directory.
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

const CONFIG: &str = r#"
[[listener]]
kind = "mqtts"
address = "127.0.0.1:0"
authentication = ["jwt", "password"]
[listener.tls]
certificate = "server.pem"
key = "file:server.key"

[[listener]]
kind = "ws"
address = "127.0.0.1:0"
authentication = ["jwt", "password"]

[[listener]]
kind = "wss"
address = "127.0.0.1:0"
authentication = ["jwt", "password"]
[listener.tls]
certificate = "server.pem"
key = "file:server.key"

[[listener]]
kind = "mqtts"
address = "127.0.0.1:0"
authentication = ["x509"]
[listener.tls]
certificate = "server.pem"
key = "file:server.key"
client_ca = "ca.pem"
crl = "crl.pem"
client_certificates = "required"
identity = "common_name"

[[listener]]
kind = "mqtt"
address = "127.0.0.1:0"
authentication = ["scram", "jwt", "password"]

[auth.password]
file = "passwords"

[auth.jwt]
secret = "file:token.secret"
audience = "broker"
publish_claim = "publish"
subscribe_claim = "subscribe"

[acl]
file = "acl"

[admission]
failures_max = 1000
"#;

/// A new folder in cargo's scratch directory for tests.
pub(super) fn scratch_folder() -> PathBuf {
    scratch_folder_in(env!("CARGO_TARGET_TMPDIR").as_ref())
}

pub(super) fn scratch_folder_in(parent: &Path) -> PathBuf {
    use std::sync::atomic::{AtomicU32, Ordering};
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let name = format!("muring-site-{}-{number}", std::process::id());
    let folder = parent.join(name);
    std::fs::create_dir_all(&folder).expect("a scratch directory is writable");
    folder
}

/// What an operator types to give somebody a password.
pub(super) fn set_password(folder: &Path, user: &str, password: &str, flags: &[&str]) {
    let mut command = muring();
    command.arg("passwd").args(flags);
    if !flags.contains(&"--delete") {
        command.arg("--stdin");
    }
    command.arg(folder.join("passwords")).arg(user).stderr(Stdio::null());
    let mut child = command.stdin(Stdio::piped()).spawn().expect("the program starts");
    let mut input = child.stdin.take().expect("stdin is piped");
    // It may not want one.
    let _ = writeln!(input, "{password}");
    drop(input);
    assert!(child.wait().expect("our child").success(), "{command:?}");
}
