//! Foreign programs that scenarios drive: whether they are there, running them with a bound in time.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// A program the tests use and the repository does not contain.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Tool {
    /// The broker and `mosquitto_passwd`.
    Mosquitto,
    MosquittoClients,
    Paho,
    MqttJs,
    Strace,
    OpenSsl,
}

impl Tool {
    fn probe(self) -> Command {
        match self {
            Self::Mosquitto => {
                let mut command = Command::new("sh");
                command.args(["-c", "command -v mosquitto && command -v mosquitto_passwd"]);
                command
            }
            Self::MosquittoClients => {
                let mut command = Command::new("mosquitto_sub");
                command.arg("--version");
                command
            }
            Self::Paho => {
                let mut command = Command::new(python());
                command.args(["-c", "import paho.mqtt as m; assert m.__version__ >= '2'"]);
                command
            }
            Self::MqttJs => {
                let mut command = Command::new("node");
                command.args(["-e", "require('mqtt')"]).current_dir(mqttjs());
                command
            }
            Self::Strace => {
                let mut command = Command::new("strace");
                command.args(["-f", "true"]);
                command
            }
            Self::OpenSsl => {
                let mut command = Command::new("openssl");
                command.arg("version");
                command
            }
        }
    }

    fn remedy(self) -> &'static str {
        match self {
            Self::Mosquitto => "apt-get install mosquitto",
            Self::MosquittoClients => "apt-get install mosquitto-clients",
            Self::Paho => {
                "python3 -m venv target/paho && target/paho/bin/pip install \
                 -r tests/clients/paho/requirements.txt"
            }
            Self::MqttJs => "npm ci --prefix tests/clients/mqttjs",
            Self::Strace => "apt-get install strace, and permission to trace a child",
            Self::OpenSsl => "apt-get install openssl",
        }
    }

    /// Whether the tool can be used here. In CI (`CI=true`) everything must be.
    pub(crate) fn is_present(self) -> bool {
        let probed = self.probe().stdin(Stdio::null()).output();
        let is_there = |output: &Output| match self {
            // It tells its version with exit status 1.
            Self::MosquittoClients => output.stdout.starts_with(b"mosquitto_sub version"),
            Self::Mosquitto | Self::Paho | Self::MqttJs | Self::Strace | Self::OpenSsl => {
                output.status.success()
            }
        };
        if probed.is_ok_and(|output| is_there(&output)) {
            return true;
        }
        let line = format!("not run: {self:?} missing: install with: {}", self.remedy());
        assert!(std::env::var("CI").as_deref() != Ok("true"), "{line}");
        // Not `eprintln!`: the output of a test that passes is not shown, and this must be.
        let _ = writeln!(std::io::stderr(), "{line}");
        false
    }
}

/// Python with Paho: the environment that `.ci/run` makes, or the system's.
pub(crate) fn python() -> PathBuf {
    let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/paho/bin/python");
    if own.exists() { own } else { PathBuf::from("python3") }
}

pub(crate) fn mqttjs() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients/mqttjs")
}

/// `command` under coreutils' `timeout`, so that a client that hangs fails its scenario.
pub(crate) fn bounded(command: impl AsRef<std::ffi::OsStr>) -> Command {
    let mut bounded = Command::new("timeout");
    bounded.args(["--kill-after=5", "60"]).arg(command).stdin(Stdio::null());
    bounded
}

/// Runs to the end; its output is the message if it fails.
#[track_caller]
pub(crate) fn succeed(mut command: Command) -> Output {
    let output = command.output().unwrap_or_else(|e| panic!("{command:?}: {e}"));
    assert!(
        output.status.success(),
        "{command:?}: {}\n{}{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    output
}
