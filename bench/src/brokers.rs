//! Brokers as child processes: found, configured from `brokers/`, started, and ended with us.

use std::fs;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process, set_parent_process_death_signal};

use crate::cli::{Knobs, Place};
use crate::error::Error;
use crate::load::Target;
use crate::measure::process::Process;
use crate::pin::{self, Cores};
use crate::plan::WireKind;
use crate::settings::Settings;

/// Until a broker takes connections; FlashMQ and others may need some seconds for their port.
const START_MAX: Duration = Duration::from_secs(20);

/// After SIGTERM.
const STOP_MAX: Duration = Duration::from_secs(5);

/// Between two looks at a process that starts or ends.
const POLL: Duration = Duration::from_millis(10);

/// Lines of its log that are shown if it does not start.
const LOG_LINES_SHOWN: usize = 8;

/// Who is to be measured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Choice {
    Start(Kind),
    /// muring with settings of its own, named by them.
    Tuned {
        name: String,
        settings: Settings,
    },
    /// One that runs already.
    Running {
        name: String,
        address: SocketAddr,
        pid: Option<u32>,
    },
}

/// Brokers that this program knows how to start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Muring,
    Mosquitto,
    Rumqttd,
    Nats,
    FloorEpoll,
    FloorUring,
}

const KINDS: [Kind; 6] =
    [Kind::Muring, Kind::Mosquitto, Kind::Rumqttd, Kind::Nats, Kind::FloorEpoll, Kind::FloorUring];

impl Kind {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Muring => "muring",
            Self::Mosquitto => "mosquitto",
            Self::Rumqttd => "rumqttd",
            Self::Nats => "nats",
            Self::FloorEpoll => "floor-epoll",
            Self::FloorUring => "floor-uring",
        }
    }

    fn program(self) -> &'static str {
        match self {
            Self::Muring => "muring",
            Self::Mosquitto => "mosquitto",
            Self::Rumqttd => "rumqttd",
            Self::Nats => "nats-server",
            Self::FloorEpoll | Self::FloorUring => "bench",
        }
    }

    fn install(self) -> &'static str {
        match self {
            Self::Muring => "build it with `cargo build --release -p muring`",
            Self::Mosquitto => "install it with `apt-get install mosquitto`",
            Self::Rumqttd => {
                "install it with `cargo install rumqttd --root target/peers` (some minutes; its own lock \
                 file, `--locked`, does not build with a current compiler)"
            }
            Self::Nats => "install it with `apt-get install nats-server`",
            Self::FloorEpoll | Self::FloorUring => "it is this program itself",
        }
    }
}

impl Choice {
    /// A name that can be started, `muring{KEY=VALUE}`, or `NAME=HOST:PORT[,pid=N]`.
    pub(crate) fn parse(text: &str) -> Result<Self, Error> {
        if let Some((name, settings)) = Settings::split(text)? {
            if name != Kind::Muring.name() {
                return Err(Error::Usage(format!("{text}: only muring takes settings")));
            }
            return Ok(Self::Tuned { name: text.to_owned(), settings });
        }
        let Some((name, rest)) = text.split_once('=') else {
            let kind = KINDS.into_iter().find(|kind| kind.name() == text);
            return kind.map(Self::Start).ok_or_else(|| {
                let known: Vec<&str> = KINDS.iter().map(|kind| kind.name()).collect();
                Error::Usage(format!(
                    "no broker {text:?}: {}, or NAME=HOST:PORT[,pid=N] for one that runs",
                    known.join(", ")
                ))
            });
        };
        let (address, pid) = match rest.split_once(",pid=") {
            Some((address, pid)) => (address, Some(pid.parse())),
            None => (rest, None),
        };
        match (address.parse::<SocketAddr>(), pid.transpose()) {
            (Ok(address), Ok(pid)) if address.ip().is_loopback() => {
                Ok(Self::Running { name: name.to_owned(), address, pid })
            }
            (Ok(_), Ok(_)) => Err(Error::Usage(format!(
                "--broker {text}: only addresses of this machine (127.0.0.0/8, ::1) are loaded"
            ))),
            _ => Err(Error::Usage(format!(
                "--broker {text}: NAME=HOST:PORT[,pid=N] is wanted, for example x=127.0.0.1:1883"
            ))),
        }
    }

    pub(crate) fn name(&self) -> &str {
        match self {
            Self::Start(kind) => kind.name(),
            Self::Tuned { name, .. } | Self::Running { name, .. } => name,
        }
    }

    pub(crate) fn wire(&self) -> WireKind {
        // A relay that runs already is recognised by its name, as the flag's help says.
        if self.name().starts_with("floor") { WireKind::Floor } else { WireKind::Mqtt }
    }

    /// Says how to get the program if it is not there.
    pub(crate) fn check(&self, place: &Place) -> Result<(), Error> {
        match self {
            Self::Start(kind) => find(*kind, place).map(drop),
            Self::Tuned { .. } => find(Kind::Muring, place).map(drop),
            Self::Running { .. } => Ok(()),
        }
    }

    /// Starts it, or takes it as it is.
    pub(crate) fn start(&self, place: &Place, knobs: &Knobs) -> Result<Broker, Error> {
        match self {
            Self::Start(kind) => {
                Broker::start((*kind, kind.name()), &Settings::default(), place, knobs)
            }
            Self::Tuned { name, settings } => {
                Broker::start((Kind::Muring, name), settings, place, knobs)
            }
            Self::Running { name, address, pid } => Ok(Broker {
                target: Target {
                    name: name.clone(),
                    address: *address,
                    process: pid.map(Process::new),
                    pid: *pid,
                },
                own: None,
            }),
        }
    }
}

/// A broker that takes connections. Dropping it ends it, if it was started here.
#[derive(Debug)]
pub(crate) struct Broker {
    pub(crate) target: Target,
    own: Option<Own>,
}

#[derive(Debug)]
struct Own {
    child: Child,
    directory: PathBuf,
}

impl Broker {
    fn start(
        (kind, name): (Kind, &str),
        settings: &Settings,
        place: &Place,
        knobs: &Knobs,
    ) -> Result<Self, Error> {
        let program = find(kind, place)?;
        let directory = scratch_directory()?;
        let (port, port2) = free_ports().map_err(Error::system("find a free port"))?;
        let mut command = Command::new(program);
        arguments(kind, &mut command, &directory, (port, port2), place, knobs)?;
        settings.apply(&mut command);
        let log_path = directory.join("log");
        let log = file(&log_path, fs::File::create(&log_path))?;
        let log2 = file(&log_path, log.try_clone())?;
        command.stdin(Stdio::null()).stdout(log).stderr(log2);
        end_with_us(&mut command);
        let child = pin::restored(|| {
            if !place.no_pin {
                Cores::parse(&place.broker_cores, "--broker-cores")?.bind("--broker-cores")?;
            }
            command.spawn().map_err(Error::system("start the broker"))
        })?;
        // rumqttd has a listener of its own for each version.
        let is_v5 = knobs.protocol.as_deref() == Some("5.0");
        let port = if kind == Kind::Rumqttd && is_v5 { port2 } else { port };
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let pid = child.id();
        let target = Target {
            name: name.to_owned(),
            address,
            process: Some(Process::new(pid)),
            pid: Some(pid),
        };
        let mut broker = Self { target, own: Some(Own { child, directory }) };
        broker.wait_until_ready()?;
        Ok(broker)
    }

    fn wait_until_ready(&mut self) -> Result<(), Error> {
        let Some(own) = &mut self.own else { return Ok(()) };
        let end = Instant::now() + START_MAX;
        loop {
            if TcpStream::connect_timeout(&self.target.address, POLL).is_ok() {
                return Ok(());
            }
            let ended = own.child.try_wait().map_err(Error::system("watch the broker"))?;
            if ended.is_some() || Instant::now() > end {
                let log = fs::read_to_string(own.directory.join("log")).unwrap_or_default();
                let lines: Vec<&str> = log.lines().collect();
                let tail = lines[lines.len().saturating_sub(LOG_LINES_SHOWN)..].join("\n  ");
                let why = match ended {
                    Some(status) => format!("ended at once ({status})"),
                    None => format!("takes no connections after {} s", START_MAX.as_secs()),
                };
                return Err(Error::Broker(format!(
                    "{} {why}; its log:\n  {tail}",
                    self.target.name
                )));
            }
            thread::sleep(POLL);
        }
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        let Some(own) = &mut self.own else { return };
        // It may have ended by itself; the wait says so.
        let _ = kill_process(Pid::from_child(&own.child), Signal::TERM);
        let end = Instant::now() + STOP_MAX;
        while matches!(own.child.try_wait(), Ok(None)) && Instant::now() < end {
            thread::sleep(POLL);
        }
        let _ = own.child.kill();
        let _ = own.child.wait();
        // Left behind in a directory for temporary files is no harm.
        let _ = fs::remove_dir_all(&own.directory);
    }
}

/// The kernel ends the child when this process ends, however that happens.
#[expect(unsafe_code, reason = "the only way to say something between fork and exec")]
fn end_with_us(command: &mut Command) {
    // SAFETY: one system call, which is allowed between fork and exec; nothing is allocated.
    unsafe {
        command.pre_exec(|| Ok(set_parent_process_death_signal(Some(Signal::KILL))?));
    }
}

/// Writes the configuration and says how the program takes it.
fn arguments(
    kind: Kind,
    command: &mut Command,
    directory: &Path,
    (port, port2): (u16, u16),
    place: &Place,
    knobs: &Knobs,
) -> Result<(), Error> {
    let configured = |name: &str, template: &str| {
        let text = template
            .replace("@PORT2@", &port2.to_string())
            .replace("@PORT@", &port.to_string())
            .replace("@DIR@", &directory.join("store").to_string_lossy());
        let path = directory.join(name);
        file(&path, fs::write(&path, text)).map(|()| path.clone())
    };
    let listen = format!("127.0.0.1:{port}");
    match kind {
        Kind::Muring => {
            let path = configured("muring.toml", include_str!("../brokers/muring.toml"))?;
            command.arg("--config").arg(path).args(["--listen", &listen]);
            // As settings, which those behind the broker's name come after and replace.
            let shards = knobs.shards.unwrap_or(1);
            command.arg("--set").arg(format!("shards={shards}"));
            if !place.no_pin {
                command.arg("--set").arg(format!("cores={}", place.broker_cores));
            }
        }
        Kind::Mosquitto => {
            let path = configured("mosquitto.conf", include_str!("../brokers/mosquitto.conf"))?;
            command.arg("-c").arg(path);
        }
        Kind::Rumqttd => {
            let path = configured("rumqttd.toml", include_str!("../brokers/rumqttd.toml"))?;
            command.arg("-c").arg(path);
        }
        Kind::Nats => {
            let path = configured("nats.conf", include_str!("../brokers/nats.conf"))?;
            command.arg("-c").arg(path);
        }
        Kind::FloorEpoll => {
            command.args(["floor", "epoll", "--listen", &listen]);
        }
        Kind::FloorUring => {
            command.args(["floor", "uring", "--listen", &listen]);
        }
    }
    Ok(())
}

/// The program: as given, beside this one (or one directory above, where tests are built), where
/// `cargo install --root target/peers` puts it, or in the search path.
fn find(kind: Kind, place: &Place) -> Result<PathBuf, Error> {
    let own = std::env::current_exe().map_err(Error::system("find this program"))?;
    if matches!(kind, Kind::FloorEpoll | Kind::FloorUring) {
        return Ok(own);
    }
    for given in &place.program {
        if let Some((name, path)) = given.split_once('=')
            && name == kind.name()
        {
            let path = PathBuf::from(path);
            return if path.is_file() {
                Ok(path)
            } else {
                Err(Error::Broker(format!(
                    "--program {given}: there is no such file; {}",
                    kind.install()
                )))
            };
        }
    }
    let target = own.ancestors().nth(2);
    let home = std::env::var_os("HOME").map(PathBuf::from);
    let places = [
        own.parent().map(Path::to_path_buf),
        target.map(|target| target.join("peers/bin")),
        home.map(|home| home.join(".cargo/bin")),
    ];
    let path = std::env::var_os("PATH").unwrap_or_default();
    places
        .into_iter()
        .flatten()
        .chain(std::env::split_paths(&path))
        // Debian's servers, for users whose search path does not have them.
        .chain([PathBuf::from("/usr/sbin")])
        .map(|directory| directory.join(kind.program()))
        .find(|candidate| candidate.is_file())
        .ok_or_else(|| {
            Error::Broker(format!(
                "{} is not installed: {}, or say where it is with --program {}=FILE",
                kind.name(),
                kind.install(),
                kind.name()
            ))
        })
}

/// A new directory, in memory where the system has such a place: no broker shall wait for a disk.
fn scratch_directory() -> Result<PathBuf, Error> {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let memory = PathBuf::from("/dev/shm");
    let parent = if memory.is_dir() { memory } else { std::env::temp_dir() };
    remove_left_behind(&parent);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let path = parent.join(format!("{SCRATCH}{}-{number}", std::process::id()));
    file(&path, fs::create_dir_all(&path)).map(|()| path.clone())
}

/// How the names of scratch directories begin; the process that made it follows.
const SCRATCH: &str = "muring-bench-";

/// Removes what runs that were killed could not.
fn remove_left_behind(parent: &Path) {
    for entry in fs::read_dir(parent).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let owner = name.to_str().and_then(|name| name.strip_prefix(SCRATCH)?.split('-').next());
        let Some(owner) = owner.and_then(|pid| pid.parse::<u32>().ok()) else { continue };
        if !Path::new(&format!("/proc/{owner}")).exists() {
            // Somebody else's, if it does not go.
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

/// Two ports that nobody uses at this moment.
fn free_ports() -> io::Result<(u16, u16)> {
    let first = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let second = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    Ok((first.local_addr()?.port(), second.local_addr()?.port()))
}

fn file<T>(path: &Path, result: io::Result<T>) -> Result<T, Error> {
    result.map_err(|source| Error::File { path: path.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn choices() {
        assert_eq!(Choice::parse("nats").ok(), Some(Choice::Start(Kind::Nats)));
        let running = |pid| Choice::Running {
            name: "x".to_owned(),
            address: SocketAddr::from(([127, 0, 0, 1], 1883)),
            pid,
        };
        assert_eq!(Choice::parse("x=127.0.0.1:1883").ok(), Some(running(None)));
        assert_eq!(Choice::parse("x=127.0.0.1:1883,pid=7").ok(), Some(running(Some(7))));
        let tuned = Choice::parse("muring{idle=spin}").unwrap();
        assert_eq!((tuned.name(), tuned.wire()), ("muring{idle=spin}", WireKind::Mqtt));
        for text in
            ["y", "x=1883", "x=127.0.0.1:1883,pid=z", "x=192.0.2.1:1883", "nats{a=b}", "muring{a}"]
        {
            assert!(Choice::parse(text).is_err(), "{text}");
        }
    }
}
