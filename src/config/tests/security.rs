//! Listeners and security: what is read, what is refused and which line is blamed.

use std::os::unix::fs::PermissionsExt as _;

use super::*;

/// Everything that a listener can be.
const FULL: &str = r##"
[[listener]]
kind = "mqtts"
address = "127.0.0.1:8883"
connections_max = 100
packet_bytes_max = 4096
protocol_versions = ["5.0", "3.1.1"]
mount_point = "factory/"
publishes_per_s = 10
bytes_per_s = 0
proxy_protocol = true
proxy_networks = ["10.1.2.3/8", "::1"]
authentication = ["x509", "jwt", "password", "scram", "http", "anonymous"]
[listener.tls]
certificate = "tls/server.pem"
key = "tls/server.key"
client_ca = "/etc/ca.pem"
crl = "crl.pem"
client_certificates = "optional"
identity = "common_name"
minimum_version = "1.3"
[[listener.tls.additional]]
certificate = "other.pem"
key = "env:OTHER_KEY"
[listener.admission]
connects_per_s = 7
penalty_s = 5

[[listener]]
kind = "wss"
address = "127.0.0.1:8443"
[listener.websocket]
path = "/broker"
origins = ["https://example.org"]
[listener.tls]
certificate = "tls/server.pem"
key = "file:tls/server.key"

[[listener]]
kind = "unix"
path = "muring.sock"
mode = "600"
owner = "root:0"
peer_credentials = true
authentication = ["x509"]

[limits]
bytes_per_s = 1000

[auth]
helper_threads = 3
queue_max = 10
[auth.password]
file = "passwords"
[auth.jwt]
secret = "env:MURING_TOKEN_SECRET"
key_files = ["a.pem"]
audience = "broker"
publish_claim = "pub"
subscribe_claim = "subs"
leeway_s = 5
[auth.jwt.claims]
role = "device"
[auth.http]
url = "https://127.0.0.1/check"
timeout_ms = 500

[acl]
file = "acl"

[admission]
connects_per_s = 100
failures_max = 3
deny_networks = ["192.0.2.0/24"]
deny_client_ids = ["intruder"]
"##;

const VARIABLES: [(&str, &str); 2] = [("OTHER_KEY", "-----"), ("MURING_TOKEN_SECRET", "hunter2")];

/// The file's text with `old` replaced by `new`.
#[track_caller]
fn changed(old: &str, new: &str) -> String {
    assert_eq!(FULL.matches(old).count(), 1, "{old:?}");
    FULL.replace(old, new)
}

/// `text` is refused with all `parts` in the message, which names the line that `blamed` stands in.
#[track_caller]
fn blames(name: &str, text: &str, blamed: &str, parts: &[&str]) {
    let file = File::new(name, text);
    let line = text.lines().position(|line| line.contains(blamed));
    let line = format!("line {}:", line.expect("it stands there") + 1);
    refused(Some(&file), &VARIABLES, &[], &[&[line.as_str()], parts].concat());
}

#[test]
fn listeners_of_all_kinds() {
    let file = File::new("full", FULL);
    let Config { listeners, settings, cores, .. } =
        load(Some(&file), &VARIABLES, &[]).unwrap().config;
    let folder = file.0.parent().unwrap();
    let [tls, wss, unix] = &listeners[..] else { panic!("three listeners: {listeners:?}") };

    assert_eq!((tls.kind, tls.addresses()), (Kind::Mqtts, &[address("127.0.0.1:8883")][..]));
    assert_eq!((tls.connections_max, tls.packet_bytes_max), (Some(100), Some(4096)));
    assert_eq!(tls.versions, [shards::ids::Version::V311, shards::ids::Version::V5]);
    assert_eq!(tls.mount_point.as_deref(), Some("factory/"));
    assert_eq!((tls.publishes_per_s, tls.bytes_per_s), (Some(10), None));
    let core = &settings.listeners[0];
    assert_eq!((settings.listeners.len(), core), (3, &tls.settings(cores.len())));
    assert_eq!((core.mount(), core.packet_bytes_max), (Some("factory/"), Some(4096)));
    assert_eq!(tls.settings(3).connections_max, Some(34));
    assert!(!core.versions.has(shards::ids::Version::V31));
    let networks = ["10.0.0.0/8", "::1/128"].map(|text| text.parse().unwrap());
    assert_eq!(tls.proxy_networks.as_deref(), Some(&networks[..]));
    let methods = [
        Method::X509,
        Method::Jwt,
        Method::Password,
        Method::Scram,
        Method::Http,
        Method::Anonymous,
    ];
    assert_eq!(tls.authentication, methods);
    let limits = AdmissionLimits {
        connects_per_s: 7,
        failures_max: 3,
        penalty_s: 5,
        penalty_max_s: 300,
        ..AdmissionLimits::default()
    };
    assert_eq!(tls.admission, limits);
    let expected = TlsConfig {
        certificates: vec![
            CertificateConfig {
                certificate: folder.join("tls/server.pem"),
                key: Secret::File(folder.join("tls/server.key")),
            },
            CertificateConfig {
                certificate: folder.join("other.pem"),
                key: Secret::Variable("OTHER_KEY".to_owned()),
            },
        ],
        client_ca: Some("/etc/ca.pem".into()),
        crl: Some(folder.join("crl.pem")),
        client_certificates: ClientCertificates::Optional,
        identity: CertificateIdentity::CommonName,
        minimum_version: TlsVersion::V1_3,
    };
    assert_eq!(tls.tls.as_ref(), Some(&expected));

    let websocket = wss.websocket.as_ref().unwrap();
    assert_eq!(websocket.path, "/broker");
    assert_eq!(websocket.origins, ["https://example.org"]);
    assert_eq!(wss.tls.as_ref().unwrap().certificates[0], expected.certificates[0]);
    assert_eq!((wss.admission.connects_per_s, wss.bytes_per_s), (100, Some(1000)));

    let owner = crate::accounts::Owner { user: Some(0), group: Some(0) };
    let path = folder.join("muring.sock");
    let place = UnixPlace { path, mode: 0o600, owner, peer_credentials: true };
    assert_eq!(unix.place, Place::Unix(place));
}

#[test]
fn sections_for_all_listeners() {
    let file = File::new("sections", FULL);
    let config = load(Some(&file), &VARIABLES, &[]).unwrap().config;
    let folder = file.0.parent().unwrap();
    assert_eq!(config.acl, Some(folder.join("acl")));
    assert_eq!((config.auth.helper_threads, config.auth.queue_max), (3, 10));
    assert_eq!(config.auth.password_file, Some(folder.join("passwords")));
    let jwt = config.auth.jwt.unwrap();
    assert_eq!(jwt.secret, Some(Secret::Variable("MURING_TOKEN_SECRET".to_owned())));
    assert_eq!((jwt.key_files, jwt.jwks), (vec![folder.join("a.pem")], None));
    assert_eq!((jwt.user_claim.as_str(), jwt.publish_claim.as_deref()), ("sub", Some("pub")));
    assert_eq!((jwt.leeway, jwt.expiry_required), (Duration::from_secs(5), true));
    assert_eq!(jwt.claims, [("role".to_owned(), "device".to_owned())]);
    let http = config.auth.http.unwrap();
    assert_eq!(
        (http.url.as_str(), http.timeout),
        ("https://127.0.0.1/check", Duration::from_millis(500))
    );
    assert_eq!(config.admission.deny_networks, ["192.0.2.0/24".parse().unwrap()]);
    assert_eq!(config.admission.deny_client_ids, ["intruder"]);
}

#[test]
fn what_is_printed_has_references_and_can_be_read_again() {
    let file = File::new("references", FULL);
    let first = load(Some(&file), &VARIABLES, &[]).unwrap();
    assert!(first.printed.contains("secret = \"env:MURING_TOKEN_SECRET\""), "{}", first.printed);
    assert!(!first.printed.contains("hunter2"));
    let printed = File::new("references-printed", &first.printed);
    let second = load(Some(&printed), &VARIABLES, &[]).unwrap();
    assert_eq!(first.config, second.config);
    assert_eq!(first.printed, second.printed);
    // The variable is the operator's; nobody wonders about it.
    assert_eq!(first.warnings, Vec::<String>::new());
}

#[test]
fn a_websocket_listener_is_for_all_pages_unless_it_says_otherwise() {
    let text = "[[listener]]\nkind = \"ws\"\naddress = \"127.0.0.1:5\"\n";
    for (more, expected) in [
        ("", &["*"][..]),
        ("[listener.websocket]\norigins = [\"*\"]\n", &["*"]),
        ("[listener.websocket]\norigins = []\n", &[]),
    ] {
        let file = File::new("pages", &format!("{text}{more}"));
        let config = load(Some(&file), &[], &[]).unwrap().config;
        let websocket = config.listeners[0].websocket.as_ref().unwrap();
        assert_eq!(
            (websocket.path.as_str(), &websocket.origins[..]),
            ("/mqtt", &expected.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>()[..])
        );
    }
}

#[test]
fn the_default_listener_gives_way_to_tables() {
    let text = "[[listener]]\naddress = \"127.0.0.1:5\"\n";
    let file = File::new("tables", text);
    let config = load(Some(&file), &[], &[]).unwrap().config;
    assert_eq!(addresses(&config), ["127.0.0.1:5"].map(address));
    // Those that somebody asked for come first.
    let config = load(Some(&file), &[], &["--listen", "127.0.0.1:6"]).unwrap().config;
    assert_eq!(addresses(&config), ["127.0.0.1:6", "127.0.0.1:5"].map(address));
    let file = File::new("none", "listen = []\n");
    refused(Some(&file), &[], &[], &["line 1", "empty"]);
}

#[test]
fn scalars_of_deep_sections_come_from_everywhere() {
    let environment = [
        ("MURING_AUTH_PASSWORD_FILE", "/p"),
        ("MURING_AUTH_JWT_KEY_FILES", "/a, /b"),
        ("MURING_ADMISSION_DENY_NETWORKS", "192.0.2.1"),
        ("MURING_AUTH_HTTP_TIMEOUT_MS", "7"),
    ];
    let flags = ["--set", "auth.http.url=http://[::1]:80/", "--set", "acl.file=/acl"];
    let config = load(None, &environment, &flags).unwrap().config;
    assert_eq!(config.auth.password_file, Some("/p".into()));
    assert_eq!(config.auth.jwt.unwrap().key_files, [PathBuf::from("/a"), PathBuf::from("/b")]);
    assert_eq!(config.admission.deny_networks, ["192.0.2.1/32".parse().unwrap()]);
    assert_eq!(config.auth.http.unwrap().timeout, Duration::from_millis(7));
    assert_eq!(config.acl, Some("/acl".into()));
    refused(
        None,
        &[("MURING_AUTH_HTTP_TIMEOUT_MS", "0")],
        &[],
        &["MURING_AUTH_HTTP_TIMEOUT_MS", "range 1 to"],
    );
}

#[test]
fn listeners_with_tables_only_stand_in_the_file() {
    refused(None, &[("MURING_LISTENER", "x")], &[], &["MURING_LISTENER", "only stand in the file"]);
    refused(
        None,
        &[("MURING_LISTENER_0_KIND", "ws")],
        &[],
        &["MURING_LISTENER_0_KIND", "[[listener]]"],
    );
    refused(
        None,
        &[],
        &["--set", "listener=x"],
        &["flag --set listener", "only stand in the file"],
    );
    // What a container platform says about a service of that name.
    let loaded = load(None, &[("MURING_LISTENER_SERVICE_HOST", "10.0.0.1")], &[]).unwrap();
    assert_eq!(loaded.warnings.len(), 1);
}

#[test]
fn mistakes_in_a_listener_are_found_by_their_line() {
    let text = changed("mode = \"600\"", "mode = \"wide\"");
    blames("mode", &text, "wide", &["listener[2].mode", "octal"]);
    let text = changed("\"root:0\"", "\"no such user\"");
    blames("owner", &text, "no such user", &["listener[2].owner", "there is no user"]);
    let text = changed("kind = \"unix\"", "kind = \"pigeon\"");
    blames("kind", &text, "pigeon", &["mqtts"]);
    let text = changed("peer_credentials = true", "peer_credential = true");
    blames("unknown", &text, "peer_credential = true", &["unknown field", "peer_credentials"]);
    let text = changed("[\"5.0\", \"3.1.1\"]", "[\"4.0\"]");
    blames("version", &text, "4.0", &["protocol_versions", "3.1.1"]);
    let text = changed("[\"5.0\", \"3.1.1\"]", "[]");
    blames("no-version", &text, "protocol_versions", &["empty"]);
    for mount in ["", "a/+", "$SYS/", "a"] {
        let text = changed("\"factory/\"", &format!("{mount:?}"));
        blames("mount", &text, "mount_point", &["listener[0].mount_point"]);
    }
    let text = changed("connections_max = 100", "connections_max = 0");
    blames("connections", &text, "connections_max", &["listener[0].connections_max", "range 1 to"]);
    let text = changed("packet_bytes_max = 4096", "packet_bytes_max = 5");
    blames("packet", &text, "packet_bytes_max", &["range 256 to"]);
    let text = changed("\"127.0.0.1:8443\"", "\"127.0.0.1\"");
    blames("address", &text, "\"127.0.0.1\"", &["listener[1].address", "HOST:PORT"]);
    let text = changed("\"127.0.0.1:8443\"", "\"127.0.0.1:8883\"");
    let file = File::new("twice", &text);
    refused(Some(&file), &VARIABLES, &[], &["listener[1].address", "given twice"]);
    let text = changed("path = \"/broker\"", "path = \"broker\"");
    blames("websocket", &text, "\"broker\"\n".trim_end(), &["listener[1].websocket.path"]);
    let text = changed("https://example.org", "example.org");
    blames("no-origin", &text, "origins", &["listener[1].websocket.origins", "https://HOST"]);
    let text = changed("\"https://example.org\"", "\"*\", \"https://example.org\"");
    blames("any-origin", &text, "origins", &["\"*\" is no origin", "only \"*\""]);
    let text = changed("\"10.1.2.3/8\"", "\"10.1.2.3/99\"");
    blames("network", &text, "proxy_networks", &["10.1.2.3/99", "no network"]);
    let text = changed("proxy_networks = [\"10.1.2.3/8\", \"::1\"]", "");
    blames("any-proxy", &text, "proxy_protocol", &["proxy_networks"]);
    let text = changed("penalty_s = 5", "penalty_s = 500");
    blames("penalty", &text, "penalty_s = 500", &["listener[0].admission.penalty_s", "less than"]);
}

#[test]
fn keys_that_mean_nothing_on_a_listener_are_refused() {
    let plain = "[[listener]]\naddress = \"127.0.0.1:1\"\n";
    for (line, parts) in [
        ("[listener.tls]\ncertificate = \"a\"\nkey = \"b\"", ["tls", "mqtts or wss"]),
        ("[listener.websocket]", ["websocket", "ws or wss"]),
        ("path = \"a\"", ["path", "unix"]),
        ("mode = \"600\"", ["mode", "unix"]),
        ("owner = \"root\"", ["owner", "unix"]),
        ("peer_credentials = true", ["peer_credentials", "unix"]),
        ("proxy_networks = [\"::1\"]", ["proxy_networks", "proxy_protocol = true"]),
    ] {
        blames("useless", &format!("{plain}{line}\n"), line.lines().next().unwrap(), &parts);
    }
    let unix = "[[listener]]\nkind = \"unix\"\npath = \"a\"\n";
    blames("unix-address", &format!("{unix}address = \"a:1\"\n"), "address", &["only for"]);
    blames(
        "unix-proxy",
        &format!("{unix}proxy_protocol = true\n"),
        "proxy_protocol",
        &["only for"],
    );
    blames("no-address", "# x\n[[listener]]\n", "[[listener]]", &["listener[0]:", "no address"]);
    let text = "[[listener]]\naddress = \"127.0.0.1:0\"\n\n[[listener]]\nkind = \"unix\"\n";
    let file = File::new("no-path", text);
    refused(Some(&file), &[], &[], &["line 4:", "listener[1]:", "no path"]);
    let text = format!("{unix}{unix}");
    refused(
        Some(&File::new("paths", &text)),
        &[],
        &[],
        &["line 6:", "listener[1].path", "given twice"],
    );
    let long = format!("[[listener]]\nkind = \"unix\"\npath = \"/{}\"\n", "x".repeat(107));
    blames("long", &long, "path", &["107 bytes"]);
}

#[test]
fn tls_needs_what_it_needs() {
    let tls = "[[listener]]\nkind = \"mqtts\"\naddress = \"127.0.0.1:1\"\n";
    blames("no-tls", tls, "kind", &["listener[0].kind", "certificate and key"]);
    let text = format!("{tls}[listener.tls]\ncertificate = \"a\"\n");
    blames("no-key", &text, "[listener.tls]", &["both certificate and key"]);
    let tls = format!("{tls}[listener.tls]\ncertificate = \"a\"\nkey = \"b\"\n");
    let text = format!("{tls}client_certificates = \"required\"\n");
    blames("no-ca", &text, "client_certificates", &["client_ca"]);
    for line in ["client_ca = \"a\"", "crl = \"a\"", "identity = \"common_name\""] {
        blames("no-clients", &format!("{tls}{line}\n"), line, &["of no use without"]);
    }
    let text = format!("{tls}minimum_version = \"1.1\"\n");
    blames("old-tls", &text, "1.1", &["1.2"]);
    let text = format!("{tls}[[listener.tls.additional]]\ncertificate = \"c\"\n");
    blames("half", &text, "additional", &["missing field", "key"]);
}

#[test]
fn methods_need_their_sections() {
    let listener = "[[listener]]\naddress = \"127.0.0.1:1\"\nauthentication = ";
    for (methods, parts) in [
        ("[\"jwt\"]", "[auth.jwt]"),
        ("[\"password\"]", "[auth.password]"),
        ("[\"scram\"]", "[auth.password]"),
        ("[\"http\"]", "[auth.http]"),
        ("[\"x509\"]", "peer_credentials"),
        ("[]", "nobody could connect"),
        ("[\"anonymous\", \"password\"]", "put it last"),
        ("[\"anonymous\", \"anonymous\"]", "put it last"),
        ("[\"guess\"]", "anonymous"),
    ] {
        blames("methods", &format!("{listener}{methods}\n"), "authentication", &[parts]);
    }
    let text = changed("[\"x509\"]", "[\"x509\", \"x509\"]");
    blames("same-method", &text, "[\"x509\", \"x509\"]", &["listener[2].authentication", "twice"]);
}

#[test]
fn what_tokens_permit_has_two_directions() {
    let text = changed("subscribe_claim = \"subs\"\n", "");
    blames("claims", &text, "publish_claim", &["auth.jwt.publish_claim", "go together"]);
    let text = changed("publish_claim = \"pub\"\n", "user_claim = \"\"\n");
    blames("empty-claim", &text, "user_claim", &["auth.jwt.user_claim", "empty name"]);
}

#[test]
fn secrets_are_referred_to_and_never_shown() {
    let reference = "\"env:MURING_TOKEN_SECRET\"";
    for (secret, problem) in [
        ("\"hunter2\"", "may not stand here"),
        ("1234567", "may not stand here"),
        ("\"env:NOT_THERE\"", "no environment variable \"NOT_THERE\""),
        ("\"file:\"", "not the path of a file"),
    ] {
        let text = changed(reference, secret);
        blames("secret", &text, "secret =", &["auth.jwt.secret", problem]);
        let file = File::new("secret-again", &text);
        let message = load(Some(&file), &VARIABLES, &[]).unwrap_err().to_string();
        assert!(!message.contains("hunter2") && !message.contains("1234567"), "{message}");
    }
    let flags = ["--set", "auth.jwt.secret=hunter2"];
    let message = load(None, &[], &flags).unwrap_err().to_string();
    assert!(message.contains("flag --set auth.jwt.secret:"), "{message}");
    assert!(!message.contains("hunter2"), "{message}");
    let text = changed("https://127.0.0.1/check", "https://me:hunter2@127.0.0.1/");
    blames("url", &text, "url =", &["auth.http.url", "may not stand in the URL"]);
    let text = changed("https://127.0.0.1/check", "ftp://127.0.0.1/");
    blames("ftp", &text, "url =", &["auth.http.url", "https://"]);
}

#[test]
fn a_secret_is_read_without_its_line_end() {
    let file = File::new("read", "hunter2\r\n");
    let secret = Secret::File(file.0.clone());
    assert_eq!(secret.read().unwrap(), b"hunter2");
    assert_eq!(secret.reference(), format!("file:{}", file.0.display()));
    assert!(Secret::File("/does/not/exist".into()).read().is_err());
    let missing = Secret::Variable("MURING_TEST_NOT_THERE".to_owned());
    assert_eq!(missing.read().unwrap_err().kind(), io::ErrorKind::NotFound);
    assert_eq!(missing.reference(), "env:MURING_TEST_NOT_THERE");
}

#[test]
fn what_others_can_read_or_reach_is_warned_about() {
    let warnings = |text: &str| {
        let file = File::new("warnings", text);
        load(Some(&file), &[], &["--cores", "0"]).unwrap().warnings
    };
    let secret = File::new("passwords", "");
    let path = secret.0.display();
    let text = format!("listen = [\"127.0.0.1:1\"]\n[auth.password]\nfile = \"{path}\"\n");
    for (mode, expected) in [(0o600, 0), (0o640, 1), (0o604, 1)] {
        std::fs::set_permissions(&secret.0, std::fs::Permissions::from_mode(mode)).unwrap();
        let warnings = warnings(&text);
        assert_eq!(warnings.len(), expected, "{warnings:?}");
        assert!(warnings.iter().all(|warning| warning.contains("chmod 600")), "{warnings:?}");
    }
    let found = warnings("listen = [\"127.0.0.1:1\", \"0.0.0.0:1\"]\n");
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].starts_with("0.0.0.0:1: clients need no password"), "{found:?}");
    let found = warnings(
        "[[listener]]\naddress = \"[::]:1\"\nauthentication = [\"password\"]\n[auth.password]\nfile = \"/p\"\n",
    );
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].contains("readable on the way"), "{found:?}");
}

#[test]
fn the_examples_are_fit_wherever_they_stand() {
    let folder = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/examples"));
    let mut count = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let text = std::fs::read_to_string(&path).unwrap();
        let file = File::new("example", &text);
        let loaded =
            load(Some(&file), &[], &[]).unwrap_or_else(|error| panic!("{path:?}: {error}"));
        assert!(!loaded.config.listeners.is_empty());
        assert!(!loaded.printed.contains("examples"), "{path:?}:\n{}", loaded.printed);
        let anonymous =
            |listener: &ListenerConfig| listener.authentication.contains(&Method::Anonymous);
        assert!(!loaded.config.listeners.iter().any(anonymous), "{path:?} lets strangers in");
        count += 1;
    }
    assert_eq!(count, 3);
}
