//! Precedence and mistakes, as an operator meets them.

use std::io::Write as _;
use std::net::SocketAddr;

use super::*;

mod security;

const CORES: [usize; 4] = [0, 1, 2, 3];

/// A file in the temporary directory, removed at the end.
struct File(PathBuf);

impl File {
    fn new(name: &str, text: &str) -> Self {
        let name = format!("muring-config-{}-{name}.toml", std::process::id());
        let path = std::env::temp_dir().join(name);
        std::fs::File::create(&path).unwrap().write_all(text.as_bytes()).unwrap();
        Self(path)
    }
}

impl Drop for File {
    fn drop(&mut self) {
        std::fs::remove_file(&self.0).unwrap();
    }
}

fn load(
    file: Option<&File>,
    environment: &[(&str, &str)],
    flags: &[&str],
) -> Result<Loaded, ConfigError> {
    use clap::Parser as _;
    let mut cli =
        Cli::try_parse_from(std::iter::once("muring").chain(flags.iter().copied())).unwrap();
    if let Some(file) = file {
        cli.config = Some(file.0.clone());
    }
    let environment = environment.iter().map(|(name, value)| ((*name).into(), (*value).into()));
    Config::load(&cli, environment, &CORES)
}

fn address(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

fn addresses(config: &Config) -> Vec<SocketAddr> {
    config.listeners.iter().flat_map(ListenerConfig::addresses).copied().collect()
}

#[track_caller]
fn refused(file: Option<&File>, environment: &[(&str, &str)], flags: &[&str], parts: &[&str]) {
    let message = load(file, environment, flags).unwrap_err().to_string();
    for part in parts {
        assert!(message.contains(part), "{message:?} does not say {part:?}");
    }
}

#[test]
fn nothing_needs_to_be_configured() {
    let config = load(None, &[], &[]).unwrap().config;
    let listener = &config.listeners[0];
    assert_eq!((config.listeners.len(), addresses(&config)), (1, vec![address("127.0.0.1:1883")]));
    assert_eq!(listener.authentication, [Method::Anonymous]);
    assert_eq!((config.acl.as_ref(), config.auth.jwt.as_ref()), (None, None));
    assert_eq!(config.cores, CORES);
    assert_eq!(config.settings, Settings::default());
    assert_eq!(config.idle, Idle::Park(Duration::ZERO));
    assert_eq!(config.stop_timeout, Duration::from_secs(10));
}

#[test]
fn flags_win_over_the_environment_and_that_over_the_file() {
    let file = File::new(
        "precedence",
        "shards = 1\nidle = 7\nlog_level = \"debug\"\n[limits]\nlinger_ms = 1\nsessions_max = 5\n",
    );
    let environment =
        [("MURING_SHARDS", "2"), ("MURING_LIMITS_LINGER_MS", "2"), ("MURING_IDLE", "9")];
    let flags = ["--shards", "3", "--set", "limits.linger_ms=3"];

    let config = load(Some(&file), &[], &[]).unwrap().config;
    assert_eq!((config.cores.len(), config.settings.linger_ms), (1, 1));
    assert_eq!(config.idle, Idle::Park(Duration::from_micros(7)));
    let config = load(Some(&file), &environment, &[]).unwrap().config;
    assert_eq!((config.cores.len(), config.settings.linger_ms), (2, 2));
    assert_eq!(config.idle, Idle::Park(Duration::from_micros(9)));
    let config = load(Some(&file), &environment, &flags).unwrap().config;
    assert_eq!((config.cores.len(), config.settings.linger_ms), (3, 3));
    assert_eq!(config.settings.sessions_max, 5);
    assert_eq!(config.log_level, LogLevel::Debug);
}

#[test]
fn addresses_of_all_kinds() {
    let flags = ["--listen", "0.0.0.0:1883", "--listen", "[::1]:0", "--listen", "127.0.0.1:0"];
    let config = load(None, &[("MURING_LISTEN", "127.0.0.1:1")], &flags).unwrap().config;
    let expected = ["0.0.0.0:1883", "[::1]:0", "127.0.0.1:0"];
    assert_eq!(addresses(&config), expected.map(address));
    assert_eq!(config.listeners.len(), 3);
    let config = load(None, &[("MURING_LISTEN", "127.0.0.1:1, 127.0.0.1:2")], &[]).unwrap().config;
    assert_eq!(addresses(&config), ["127.0.0.1:1", "127.0.0.1:2"].map(address));
    refused(None, &[], &["--listen", "127.0.0.1"], &["flag --listen", "127.0.0.1:1883"]);
    refused(None, &[], &["--listen", "[::]:1", "--listen", "[::]:1"], &["given twice"]);
}

#[test]
fn a_mistake_in_the_file_is_found_by_its_line() {
    let file = File::new("typo", "shards = 2\n\n[limits]\npacket_bytes_maxx = 5\n");
    refused(Some(&file), &[], &[], &["typo.toml, line 4", "packet_bytes_maxx", "packet_bytes_max"]);
    let file = File::new("type", "shards = \"two\"\n");
    refused(Some(&file), &[], &[], &["line 1", "integer"]);
    let file = File::new("range", "# comment\n[limits]\nsessions_max = 3\nlinger_ms = -1\n");
    refused(Some(&file), &[], &[], &["line 4", "limits.linger_ms", "-1", "range 0 to"]);
    let file = File::new("syntax", "shards = 2\nlisten = [\n");
    refused(Some(&file), &[], &[], &["syntax.toml, line"]);
    let missing: PathBuf = "/does/not/exist.toml".into();
    let cli = Cli { config: Some(missing), ..Cli::default() };
    let error = Config::load(&cli, std::iter::empty(), &CORES).unwrap_err();
    assert!(error.to_string().contains("/does/not/exist.toml"));
}

#[test]
fn a_mistake_elsewhere_names_variable_or_flag() {
    refused(None, &[("MURING_SHARDS", "many")], &[], &["variable MURING_SHARDS", "no number"]);
    refused(None, &[("MURING_SHARDS", "65")], &[], &["MURING_SHARDS", "range 1 to 64"]);
    refused(None, &[("MURING_SESSION_EMPTY_CLIENT_ID", "no")], &[], &["true or false"]);
    refused(None, &[], &["--shards", "0"], &["flag --shards", "range 1 to 64"]);
    refused(None, &[], &["--idle", "sleep"], &["flag --idle", "spin, park"]);
    refused(
        None,
        &[],
        &["--cores", "0-9"],
        &["flag --cores", "core 4 is not available", "0,1,2,3"],
    );
    refused(None, &[], &["--log", "xml"], &["flag --log", "text"]);
    refused(None, &[], &["--set", "limits.nothing=1"], &["no setting is called limits.nothing"]);
    refused(None, &[], &["--set", "limits"], &["KEY=VALUE"]);
    refused(None, &[], &["--set", "reactor.receive_buffers=100"], &["power of two"]);
    refused(None, &[], &["--set", "session.overflow=explode"], &["drop_oldest"]);
    refused(None, &[], &["--set", "mqtt.maximum_qos=3"], &["range 0 to 2"]);
}

#[test]
fn foreign_variables_are_mentioned_and_ignored() {
    let loaded = load(None, &[("MURING_SERVICE_HOST", "10.0.0.1"), ("HOME", "/")], &[]).unwrap();
    assert_eq!(loaded.warnings.len(), 1);
    assert!(loaded.warnings[0].contains("MURING_SERVICE_HOST"));
}

#[test]
fn what_is_printed_can_be_read_again() {
    let flags = ["--shards", "6", "--idle", "25", "--set", "share.strategy=sticky"];
    let first = load(None, &[], &flags).unwrap();
    assert!(first.warnings[0].contains("6 shards share 4 cores"));
    let file = File::new("printed", &first.printed);
    let second = load(Some(&file), &[], &[]).unwrap();
    assert_eq!(first.config, second.config);
    assert_eq!(first.printed, second.printed);
}

#[test]
fn the_example_file_says_the_defaults() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/config/muring.toml");
    let cli = Cli { config: Some(path.into()), ..Cli::default() };
    let example = Config::load(&cli, std::iter::empty(), &CORES).unwrap();
    let default = Config::load(&Cli::default(), std::iter::empty(), &CORES).unwrap();
    assert_eq!(example.config, default.config);
}
