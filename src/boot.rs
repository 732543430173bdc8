//! Start order and stop order: machine, listeners, shards; then the other way round.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use glommio::{LocalExecutorBuilder, Placement};
use shards::Shard;
use shards::ids::ShardId;
use shards::limits::SHARDS_MAX;
use shards::mailbox::mesh;
use shards::shard::ShardParts;
use signal_hook::consts::SIGHUP;

use crate::checks::Helpers;
use crate::config::Config;
use crate::host::{self, Host, Unfit};
use crate::listen::{self, ListenError, SocketFile};
use crate::reactor::{Bound, Listener, Reactor, ReactorParts, Stations};
pub use crate::reload::Reload;
use crate::reload::Reloader;
use crate::security::{Security, SecurityError};
use crate::signals::{self, SignalWatch};

/// Memory that glommio sets aside per shard for its own I/O; the least it takes. Sockets do not use
/// it.
const EXECUTOR_MEMORY_BYTES: usize = 64 * 1024;

/// All rings between shards together: there are as many as ordered pairs of shards.
const MESH_BYTES_MAX: usize = 256 * 1024 * 1024;

/// How often glommio gets a turn of its own. The reactor is its only task yet, and each such turn costs
/// a few system calls and allocations for nothing.
const EXECUTOR_TIME_SLICE: Duration = Duration::from_secs(10);

/// Why a broker did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error(transparent)]
    Unfit(#[from] Unfit),
    #[error("cannot listen on {0}")]
    Listen(#[from] ListenError),
    #[error(transparent)]
    Security(#[from] SecurityError),
    #[error("{count} shards were asked for; 1 to {SHARDS_MAX} are possible")]
    Shards { count: usize },
    #[error("shard {shard} on core {core} did not start: {problem}")]
    Shard { shard: ShardId, core: usize, problem: String },
    #[error("cannot start: {0}")]
    Io(#[from] io::Error),
}

/// How a broker ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// As asked: all clients told, all wills published.
    Stopped,
    /// The stop took too long and was cut short.
    TimedOut,
    /// This second signal cut the stop short.
    Forced(i32),
    /// A shard failed; the log says why.
    Failed,
}

/// What the main thread waits for.
#[derive(Debug)]
enum Event {
    Signal(i32),
    /// A shard's thread is about to end.
    ShardEnded {
        shard: ShardId,
        result: Result<(), String>,
    },
}

/// A running broker. Dropping it does not stop it.
#[derive(Debug)]
pub struct Broker {
    stations: Arc<Stations>,
    reloader: Reloader,
    /// Where it listens, in the order of the configuration.
    bound: Vec<Bound>,
    addresses: Vec<SocketAddr>,
    /// Removed when nobody listens any more.
    _files: Vec<SocketFile>,
    threads: Vec<thread::JoinHandle<()>>,
    events: Receiver<Event>,
    sender: Sender<Event>,
    stop_timeout: Duration,
    running: usize,
}

/// Tells the main thread when a shard's thread ends, in whatever way.
struct Farewell {
    shard: ShardId,
    events: Sender<Event>,
    result: Result<(), String>,
}

impl Drop for Farewell {
    fn drop(&mut self) {
        let result = std::mem::replace(&mut self.result, Ok(()));
        // Nobody listens any more if the start failed.
        let _ = self.events.send(Event::ShardEnded { shard: self.shard, result });
    }
}

impl Broker {
    /// Starts everything; returns when all shards accept connections.
    ///
    /// # Errors
    /// What is missing. Nothing runs then.
    pub fn start(config: &Config) -> Result<Self, StartError> {
        let host = host::prepare(config.buffers)?;
        let count = config.cores.len();
        let shards =
            u8::try_from(count).ok().filter(|n| (1..=SHARDS_MAX).contains(&usize::from(*n)));
        let shards = shards.ok_or(StartError::Shards { count })?;
        log_host(&host);
        let security = Security::load(config)?;
        for warning in &security.warnings {
            tracing::warn!("{warning}");
        }
        let listen::Opened { by_shard: listeners, files } =
            listen::open_all(&config.listeners, count)?;
        let bound: Vec<_> = listeners
            .first()
            .into_iter()
            .flatten()
            .map(|listener| listener.bound.clone())
            .collect();
        let addresses = bound.iter().filter_map(Bound::address).collect();
        let stations = Arc::new(Stations::new(shards)?);
        let (sender, events) = channel();
        let auth = &config.auth;
        let helpers = Helpers::start(auth.helper_threads, auth.queue_max, &stations)?;
        let reloader = Reloader {
            config: config.clone(),
            security: security.clone(),
            reload: None,
            helpers,
            stations: Arc::clone(&stations),
            shards,
        };
        let mut broker = Self {
            stations,
            reloader,
            bound,
            addresses,
            _files: files,
            threads: Vec::new(),
            events,
            sender,
            stop_timeout: config.stop_timeout,
            running: 0,
        };
        broker.start_shards(config, &security, listeners)?;
        Ok(broker)
    }

    /// Reads the configuration in this way on SIGHUP.
    #[must_use]
    pub fn reloading_by(mut self, reload: Option<Reload>) -> Self {
        self.reloader.reload = reload;
        self
    }

    /// Logs where it listens, and that it is ready. Called after [`Self::watch_signals`], so that who
    /// waits for the line may send a signal right away.
    pub fn announce(&self) {
        for bound in &self.bound {
            match bound {
                Bound::Tcp(address) => tracing::info!(addr = %address, "listening"),
                Bound::Unix { path, .. } => tracing::info!(path = %path.display(), "listening"),
            }
        }
        tracing::info!("ready");
    }

    /// Where it listens on TCP, in the order of the configuration.
    #[must_use]
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Asks all shards to stop; [`Self::wait`] tells when they have.
    pub fn stop(&self) {
        self.stations.stop();
    }

    /// Waits for the end. A broker that was not asked to stop runs until a signal that `watch_signals`
    /// told of, or until a shard fails.
    #[must_use]
    pub fn wait(mut self) -> Ending {
        let mut deadline: Option<Instant> = None;
        let mut failed = false;
        while self.running > 0 {
            match self.next_event(deadline) {
                Some(Event::Signal(SIGHUP)) if deadline.is_none() => self.reloader.run(),
                Some(Event::Signal(SIGHUP)) => {}
                Some(Event::Signal(signal)) if deadline.is_some() => return Ending::Forced(signal),
                Some(Event::Signal(signal)) => {
                    tracing::info!(signal = signals::name(signal), "stopping");
                    deadline = Some(Instant::now() + self.stop_timeout);
                    self.stop();
                }
                Some(Event::ShardEnded { shard, result }) => {
                    self.running -= 1;
                    if let Err(problem) = result {
                        tracing::error!(shard = shard.0, "shard failed: {problem}");
                        failed = true;
                    }
                    // Mail to a shard that is gone would wait for ever.
                    deadline = deadline.or_else(|| Some(Instant::now() + self.stop_timeout));
                    self.stop();
                }
                None => {
                    tracing::warn!("not all connections ended in time");
                    return if failed { Ending::Failed } else { Ending::TimedOut };
                }
            }
        }
        for thread in self.threads.drain(..) {
            // Its panic was told as an event.
            let _ = thread.join();
        }
        if failed { Ending::Failed } else { Ending::Stopped }
    }

    /// Stops the broker on SIGTERM and SIGINT, and reloads its rules on SIGHUP, for as long as the value lives.
    ///
    /// # Errors
    /// If the handlers cannot be installed.
    pub fn watch_signals(&self) -> io::Result<SignalWatch> {
        let sender = self.sender.clone();
        SignalWatch::start(move |signal| {
            let _ = sender.send(Event::Signal(signal));
        })
    }

    /// `None` when the deadline has come.
    fn next_event(&self, deadline: Option<Instant>) -> Option<Event> {
        let Some(deadline) = deadline else { return self.events.recv().ok() };
        self.events.recv_timeout(deadline.saturating_duration_since(Instant::now())).ok()
    }

    fn start_shards(
        &mut self,
        config: &Config,
        security: &Security,
        listeners: Vec<Vec<Listener>>,
    ) -> Result<(), StartError> {
        let shards = self.reloader.shards;
        let seed = seed();
        let mailboxes = mesh(shards, ring_bytes(config.settings.mailbox_bytes, shards));
        let (started, starts) = channel();
        let parts = (0..shards).map(ShardId).zip(mailboxes).zip(listeners).zip(&config.cores);
        for (((shard, mailboxes), listeners), &core) in parts {
            let reactor = ReactorParts {
                shard,
                idle: config.idle,
                buffers: config.buffers,
                listeners,
                transports: security.transports.clone(),
                admission: security.admission(shards),
                stations: Arc::clone(&self.stations),
            };
            let parts = ShardParts {
                id: shard,
                shards,
                settings: config.settings.clone(),
                seed,
                mailboxes,
                authenticate: security.authenticate(shard, &self.reloader.helpers),
                authorise: security.authorise(),
            };
            let farewell = Farewell {
                shard,
                events: self.sender.clone(),
                result: Err("it panicked".to_owned()),
            };
            let started = started.clone();
            let thread = thread::Builder::new()
                .name(format!("shard-{shard}"))
                .spawn(move || run_shard(core, parts, reactor, started, farewell))?;
            self.threads.push(thread);
            self.running += 1;
        }
        drop(started);
        self.await_starts(&starts, config)
    }

    /// Waits until each shard has said how its start went.
    fn await_starts(
        &mut self,
        starts: &Receiver<(ShardId, Result<(), String>)>,
        config: &Config,
    ) -> Result<(), StartError> {
        let mut failure = None;
        for (shard, result) in starts {
            let core = config.cores.get(shard.index()).copied().unwrap_or_default();
            match result {
                Ok(()) => tracing::info!(shard = shard.0, core, "shard started"),
                Err(problem) => failure = Some(StartError::Shard { shard, core, problem }),
            }
        }
        match failure {
            None => Ok(()),
            Some(failure) => {
                // Those that did start wait for all to stop, which the failed ones cannot say.
                self.stations.abandon();
                for thread in self.threads.drain(..) {
                    let _ = thread.join();
                }
                Err(failure)
            }
        }
    }
}

/// Bytes of each ring: what was configured, unless all rings together would be too large.
fn ring_bytes(configured: usize, shards: u8) -> usize {
    let pairs = usize::from(shards) * usize::from(shards.saturating_sub(1));
    let share = MESH_BYTES_MAX / pairs.max(1);
    configured.min(1 << share.ilog2())
}

/// The body of a shard's thread.
fn run_shard(
    core: usize,
    parts: ShardParts,
    reactor: ReactorParts,
    started: Sender<(ShardId, Result<(), String>)>,
    mut farewell: Farewell,
) {
    let shard = parts.id;
    // The main thread listens until each shard has sent its word or dropped its sender.
    let tell = move |result: Result<(), String>| {
        let _ = started.send((shard, result));
        drop(started);
    };
    let executor = LocalExecutorBuilder::new(Placement::Fixed(core))
        .name("shard")
        .io_memory(EXECUTOR_MEMORY_BYTES)
        .preempt_timer(EXECUTOR_TIME_SLICE)
        .make();
    let executor = match executor {
        Ok(executor) => executor,
        Err(error) => return tell(Err(error.to_string())),
    };
    farewell.result = executor.run(async move {
        let reactor = match Reactor::new(Shard::new(parts), reactor) {
            Ok(reactor) => reactor,
            Err(error) => {
                tell(Err(error.to_string()));
                return Ok(());
            }
        };
        tell(Ok(()));
        reactor.run().await.map_err(|error| error.to_string())
    });
}

/// Random enough that nobody outside can guess how client identifiers and topics are hashed.
fn seed() -> u64 {
    use std::hash::{BuildHasher as _, Hasher as _};
    std::hash::RandomState::new().build_hasher().finish()
}

fn log_host(host: &Host) {
    tracing::info!(version = env!("CARGO_PKG_VERSION"), kernel = %host.kernel, "muring");
    tracing::info!(
        open_files = host.open_files,
        "io_uring: single issuer, deferred task work, multishot accept and receive, buffer rings, \
         messages between rings"
    );
    for warning in &host.warnings {
        tracing::warn!("{warning}");
    }
}
