//! One core's loop: completions become inputs, the core's effects become operations.
//!
//! The only caller of the core. A turn: reap a bounded batch of completions, mail, deadline, flush,
//! apply the effects, then one `io_uring_enter` that submits everything and, if there is nothing to
//! do, sleeps. Nothing here knows MQTT. All state lives on the shard's thread; what is shared is in
//! [`Stations`].

mod admit;
mod alarm;
mod bell;
mod buffers;
mod clock;
mod completions;
mod conns;
mod core;
mod effects;
mod enter;
mod layered;
mod layers;
mod listeners;
mod memory;
mod net_ring;
mod notes;
mod op;
mod orders;
mod park;
mod receives;
mod sending;
mod sends;
mod sleeper;

use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::sync::mpsc::Receiver;
use std::time::Duration;

use gate::admission::{Admission, Rules};
use gate::transport::Passage;
use shards::ids::{ConnId, ShardId};
use shards::shard::{Adopt, Input, Outbox, Output};
use shards::time::Time;

pub(crate) use self::clock::monotonic;
pub use self::core::Core;
pub use self::layers::Transports;
pub use self::listeners::{Bound, Listener};
pub use self::net_ring::BufferSizes;
pub(crate) use self::net_ring::probe;
pub use self::orders::Order;
pub use self::park::{Idle, Stations};

use self::admit::Newcomer;
use self::clock::{Clock, LoadMeter};
use self::conns::Conns;
use self::layers::Layers;
use self::listeners::Listeners;
use self::memory::GiveBack;
use self::net_ring::{NetRing, Raw};
use self::notes::Notes;
use self::op::ConnTag;
use self::orders::Crossing;
use self::receives::Receives;
use self::sends::Sends;

/// Completions of one turn. More would make those at the end wait for the answers to those at the start.
const COMPLETIONS_PER_TURN_MAX: usize = 512;

/// Rounds of effects in one turn: the end of a connection is an input whose effects come with the same
/// enter; what those lead to can wait for the next turn.
const EFFECT_ROUNDS_MAX: usize = 2;

/// Turns in a row that a shard with work, but without input, makes before it sleeps in between.
const BUSY_TURNS_MAX: u32 = 64;

/// How long it sleeps then. Its work waits for another shard, which will not ring.
const BUSY_SLEEP: Duration = Duration::from_micros(50);

/// So often the executor is asked whether it has other work: to ask reads lines that nothing else in a
/// turn does. It has none of its own, and while the shard sleeps it does not get to any either.
const TURNS_PER_YIELD: u32 = 64;

/// After `Input::Stop` has been carried out, how long the ends of connections may take.
const TEARDOWN_MAX: Duration = Duration::from_millis(500);

/// What [`sleeper`] stands upon; a model of it puts something else in this place.
mod sync {
    pub(super) use std::sync::atomic::{AtomicBool, Ordering, fence};
}

/// What a reactor is made of.
#[derive(Debug)]
pub struct ReactorParts {
    pub shard: ShardId,
    pub idle: Idle,
    pub buffers: BufferSizes,
    pub listeners: Vec<Listener>,
    pub transports: Transports,
    /// This shard's share of the limits on new connections.
    pub admission: Rules,
    pub stations: Arc<Stations>,
}

/// One shard's loop. Must be made and used on the shard's own thread.
#[derive(Debug)]
pub struct Reactor<C> {
    core: C,
    shard: ShardId,
    idle: Idle,
    stations: Arc<Stations>,
    net: NetRing,
    conns: Conns,
    layers: Layers,
    admission: Admission,
    /// Where the connections come from that count as handshakes; only those.
    newcomers: HashMap<u32, Newcomer>,
    /// That of the connection which is being accepted.
    newcomer: Option<Newcomer>,
    transports: Transports,
    listeners: Listeners,
    clock: Clock,
    load: LoadMeter,
    memory: GiveBack,
    notes: Notes,
    /// Effects of the inputs given since the last round. Boxed, so that a round costs two addresses.
    outbox: Box<Outbox>,
    /// That of the last round, empty: becomes the next `outbox`, so that both keep their memory. `None`
    /// while a round is applied, and before the first.
    applied: Option<Box<Outbox>>,
    batch: Vec<Raw>,
    /// Connections that the core has something for.
    sends: Sends,
    /// Connections that send much and are to be received from, once each.
    receives: Receives,
    sent: Vec<(ConnTag, Output)>,
    /// Somebody waits for a send of this turn: its end must be looked at before a sleep.
    is_send_awaited: bool,
    /// Connections whose peer closed in this turn. Their last answers go out with this turn's enter,
    /// so they end in the next one.
    ended: Vec<ConnId>,
    /// Of those, the ones whose last packets wait for a deadline.
    late: Vec<ConnId>,
    /// Connections that wait for a send before our side ends, and whose send is done.
    finishing: Vec<ConnId>,
    /// Inputs that applying effects led to.
    drained: Vec<ConnId>,
    adopts: Vec<Adopt>,
    orders: Receiver<Order>,
    /// Layers whose connections have not come yet.
    crossings: Vec<Crossing>,
    /// Layered connections with something to send.
    wired: Vec<ConnId>,
    /// What came out of layers last; empty between two receives, keeps its memory.
    passage: Passage,
    /// The core was given inputs since its last flush.
    unflushed: bool,
    busy_turns: u32,
    stop: StopState,
}

/// How far this shard is with stopping.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum StopState {
    Running,
    /// The core was told.
    Told,
    /// The core has nothing left; other shards may.
    Stopped,
}

/// When one shard leaves, in whatever way (a panic too), the others must not wait for it.
#[derive(Debug)]
struct LeaveTogether(Arc<Stations>);

impl Drop for LeaveTogether {
    fn drop(&mut self) {
        self.0.abandon();
    }
}

/// What one turn found to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Turn {
    Busy,
    Idle,
}

/// The earlier one, of those that there are.
fn earlier(a: Option<Time>, b: Option<Time>) -> Option<Time> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    }
}

impl<C: Core> Reactor<C> {
    /// # Errors
    /// If the ring or its buffers cannot be made.
    pub fn new(core: C, parts: ReactorParts) -> io::Result<Self> {
        let mut net = NetRing::new(parts.buffers)?;
        let orders = parts.stations.take_orders(parts.shard);
        let orders = orders.ok_or_else(|| io::Error::other("the shard runs already"))?;
        if let Some(bell) = parts.stations.bell(parts.shard) {
            net.watch_bell(bell);
        }
        if let Some(doorbell) = parts.stations.doorbell(parts.shard) {
            net.watch_doorbell(doorbell);
        }
        let listeners = Listeners::start(parts.listeners, &mut net);
        let clock = Clock::new();
        let now = clock.now().time;
        Ok(Self {
            core,
            shard: parts.shard,
            idle: parts.idle,
            stations: parts.stations,
            net,
            conns: Conns::default(),
            layers: Layers::default(),
            admission: Admission::new(parts.admission),
            newcomers: HashMap::new(),
            newcomer: None,
            transports: parts.transports,
            listeners,
            clock,
            load: LoadMeter::new(now, clock::cpu_time()),
            memory: GiveBack::default(),
            notes: Notes::new(parts.shard, now),
            outbox: Box::default(),
            applied: None,
            batch: Vec::with_capacity(COMPLETIONS_PER_TURN_MAX),
            sends: Sends::default(),
            receives: Receives::default(),
            sent: Vec::new(),
            is_send_awaited: false,
            ended: Vec::new(),
            late: Vec::new(),
            finishing: Vec::new(),
            drained: Vec::new(),
            adopts: Vec::new(),
            orders,
            crossings: Vec::new(),
            wired: Vec::new(),
            passage: Passage::default(),
            unflushed: false,
            busy_turns: 0,
            stop: StopState::Running,
        })
    }

    /// Runs until all shards have stopped.
    ///
    /// # Errors
    /// If the kernel refuses the ring itself; the process should end then.
    pub async fn run(mut self) -> io::Result<()> {
        let _leave = LeaveTogether(Arc::clone(&self.stations));
        let mut turns = 0;
        while !self.stations.all_stopped() {
            let turn = self.turn();
            self.enter(turn)?;
            turns = (turns + 1) % TURNS_PER_YIELD;
            if turns == 0 {
                glommio::yield_if_needed().await;
            }
        }
        self.tear_down()
    }

    /// One turn, without the enter.
    fn turn(&mut self) -> Turn {
        let now = self.clock.tick();
        // Read before the reaping, which adds to it.
        let mut ended = std::mem::take(&mut self.ended);
        ended.append(&mut self.late);
        self.is_send_awaited = false;
        self.sends.begin_turn();
        self.receives.begin_turn();
        let reaped = self.reap();
        self.end_peers(&ended);
        // A connection that comes from another shard waits for one enter: what its client had sent on
        // an older connection here, such as a DISCONNECT, is worked on first.
        if reaped < COMPLETIONS_PER_TURN_MAX {
            self.hear_adopts();
        }
        for conn in std::mem::take(&mut self.drained) {
            self.hear(Input::Drained { conn });
        }
        self.hear_mail();
        if self.core.next_deadline().is_some_and(|deadline| deadline <= now.time) {
            self.hear(Input::Deadline);
        }
        if let Some(busy_permille) = self.load.read(now.time, clock::cpu_time) {
            self.hear(Input::Load { busy_permille });
        }
        if self.memory.is_due(now.time) {
            memory::give_back();
        }
        self.listeners.retry(now.time, &mut self.net);
        self.notes.report(now.time);
        self.hear_stop();
        self.apply_all();
        if reaped == COMPLETIONS_PER_TURN_MAX || self.has_follow_up() {
            Turn::Busy
        } else {
            Turn::Idle
        }
    }

    /// Gives at most a batch of completions to the core; how many there were.
    fn reap(&mut self) -> usize {
        let mut batch = std::mem::take(&mut self.batch);
        self.net.reap(COMPLETIONS_PER_TURN_MAX, &mut batch);
        self.conclude_sends();
        let reaped = batch.len();
        for raw in batch.drain(..) {
            let completion = self.net.interpret(raw);
            self.on_completion(completion);
        }
        self.batch = batch;
        if reaped > 0 {
            self.busy_turns = 0;
            self.memory.worked(self.clock.now().time);
        }
        reaped
    }

    /// Tells of the sends that ended inside the last enter.
    fn conclude_sends(&mut self) {
        let mut sent = std::mem::take(&mut self.sent);
        self.net.conclude(&mut sent);
        for (tag, output) in sent.drain(..) {
            self.on_sent(tag, output, Ok(()));
        }
        self.sent = sent;
    }

    /// Gives one input to the core; its effects wait in the outbox.
    fn hear(&mut self, input: Input<'_>) {
        self.core.handle(self.clock.now(), input, &mut self.outbox);
        self.unflushed = true;
    }

    fn hear_mail(&mut self) {
        for from in (0..self.stations.shards()).map(ShardId) {
            if from != self.shard && self.core.has_mail_from(from) {
                self.hear(Input::Mail { from });
            }
        }
    }

    fn hear_stop(&mut self) {
        if self.stop == StopState::Running && self.stations.is_stopping() {
            self.stop = StopState::Told;
            self.listeners.stop(&mut self.net);
            self.hear(Input::Stop);
        }
    }

    /// Flushes and applies until the effects lead to no further input that must be heard now.
    fn apply_all(&mut self) {
        for _ in 0..EFFECT_ROUNDS_MAX {
            self.unflushed = false;
            self.core.flush(self.clock.now(), &mut self.outbox);
            self.apply();
            if !self.unflushed {
                break;
            }
        }
        if self.outbox.stopped && self.stop == StopState::Told {
            self.stop = StopState::Stopped;
            self.stations.count_stopped();
        }
    }

    /// True if the next turn has something to do although nothing completes.
    fn has_follow_up(&self) -> bool {
        self.unflushed
            || !self.ended.is_empty()
            || self.late.iter().any(|&id| !self.core.is_late(id))
            || !self.drained.is_empty()
            || !self.adopts.is_empty()
            || self.is_send_awaited
            || self.sends.is_waiting()
            || self.receives.is_waiting()
            || self.core.has_backlog()
    }

    /// Submits what the turn asked for, and waits if there is nothing to do.
    fn enter(&mut self, turn: Turn) -> io::Result<()> {
        if turn == Turn::Busy || self.net.has_completions() {
            return self.net.submit();
        }
        if self.core.has_work() {
            self.busy_turns = self.busy_turns.saturating_add(1);
            if self.busy_turns < BUSY_TURNS_MAX {
                return self.net.submit();
            }
            return self.net.submit_and_sleep(Some(BUSY_SLEEP));
        }
        let watch = match self.idle {
            Idle::Spin => None,
            Idle::Park(Duration::ZERO) => return self.sleep(),
            Idle::Park(watch) => Some(watch),
        };
        self.net.submit()?;
        if self.watch(watch) { self.sleep() } else { Ok(()) }
    }

    /// Watches memory: true if nothing came for as long as `limit`, or if only the kernel knows what did;
    /// `None` watches until something comes. The time counts as idle.
    fn watch(&mut self, limit: Option<Duration>) -> bool {
        let start = monotonic();
        let deadline = self.next_alarm();
        let (slept, now) = loop {
            let now = monotonic();
            // An enter tells whether there is something. If there is not, it sleeps, as asked.
            if self.net.is_called() {
                break (limit.is_some(), now);
            }
            if self.net.has_completions()
                || self.core.has_mail()
                || self.stations.is_stopping() && self.stop == StopState::Running
                || deadline.is_some_and(|deadline| deadline <= now)
                || self.stations.all_stopped()
                // The executor wants a turn of its own.
                || glommio::executor().need_preempt()
            {
                break (false, now);
            }
            if limit.is_some_and(|limit| now.since(start) >= limit) {
                break (true, now);
            }
            std::hint::spin_loop();
        };
        self.load.add_watched(now.since(start));
        slept
    }

    /// Submits, and sleeps in the net ring until a completion, a doorbell or the next deadline.
    fn sleep(&mut self) -> io::Result<()> {
        let alarm = self.next_alarm();
        let may_sleep = self.stations.lie_down(self.shard, || self.core.has_mail());
        // An alarm that passes from here on ends the sleep at once.
        let is_early = alarm.is_none_or(|alarm| alarm > self.clock.now().time);
        let result = if may_sleep && is_early {
            let result = self.net.sleep_until(alarm);
            self.clock.wake();
            result
        } else {
            self.net.submit()
        };
        self.stations.get_up(self.shard);
        result
    }

    /// When something must happen although nothing comes.
    fn next_alarm(&self) -> Option<Time> {
        // One after the other: as a list they would be read back before they have left the core.
        let alarm = earlier(self.core.next_deadline(), self.listeners.next_retry());
        earlier(earlier(alarm, self.notes.next_report()), self.memory.due())
    }

    /// Ends what connections are left, so that the kernel gives all memory back before it is freed.
    fn tear_down(mut self) -> io::Result<()> {
        let deadline = self.clock.tick().time + TEARDOWN_MAX;
        for conn in self.conns.ids() {
            self.abort(conn);
        }
        while self.conns.count() > 0 || self.net.borrowed() > 0 {
            let now = self.clock.tick().time;
            if now >= deadline {
                tracing::warn!(
                    shard = self.shard.0,
                    connections = self.conns.count(),
                    "connections did not end in time"
                );
                break;
            }
            self.net.submit_and_sleep(Some(deadline.since(now)))?;
            self.reap();
            self.outbox.clear();
        }
        // The closes of the last connections.
        self.net.submit()
    }
}
