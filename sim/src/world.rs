//! Shards, model clients and the wires between them, on one thread and in virtual time.
//!
//! The world does what the shell does: it feeds inputs in batches, applies each outbox in the order
//! that `shard::effect` documents, and checks what the core promises the shell. Which of the
//! possible steps comes next is taken in turn, or drawn from a seed together with the sizes of the
//! chunks that bytes come in.

use std::collections::VecDeque;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use shards::Shard;
use shards::auth::Verdict;
use shards::counters::Snapshot;
use shards::ids::{ConnId, ShardId};
use shards::limits::Settings;
use shards::mailbox::mesh;
use shards::reject::ReasonCode;
use shards::rng::Rng;
use shards::shard::{
    CloseCause, Closing, Input, Origin, Outbox, Output, Reading, SessionView, ShardParts,
};
use shards::store::StoreOutcome;
use shards::time::{Now, Time};

use crate::client::Client;
use crate::faults::Chaos;
use crate::rules::Rules;
use crate::store::Store;
use crate::swarm::{Options, Stream, stream};
use crate::trace::{Entry, Trace};
use crate::wire::{Wire, flatten};

/// One shard and what the shell holds for it.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) shard: Shard,
    out: Outbox,
    /// By connection number: the generation given out last, and the wire that has it.
    places: Vec<(u32, Option<usize>)>,
    /// Connections that came from other shards, to be opened here.
    adopted: VecDeque<(usize, Origin, Vec<u8>)>,
    /// Inputs since the outbox was applied.
    batch_count: u32,
    /// Another shard said that there is mail.
    is_rung: bool,
    /// The step at which the doorbell is heard.
    pub(crate) bell_at: u64,
    /// The step up to which this shard gets no turn.
    pub(crate) frozen_until: u64,
    is_stopped: bool,
}

impl Node {
    /// True if bytes of the connection wait for their turn, or for a deadline.
    fn is_behind(&self, conn: ConnId) -> bool {
        self.shard.is_behind(conn) || self.shard.is_late(conn)
    }
}

/// One thing that can happen next.
#[derive(Clone, Copy, Debug)]
enum Step {
    Bytes(usize),
    Ended(usize),
    Failed(usize),
    Send(usize),
    Drain(usize),
    Finish(usize),
    Aborted(usize),
    Adopt(usize),
    Mail(usize),
    Deadline(usize),
    Flush(usize),
    Store(usize),
}

#[derive(Debug)]
pub struct World {
    pub(crate) nodes: Vec<Node>,
    pub wires: Vec<Wire>,
    /// Wires that are not closed.
    pub(crate) live: Vec<usize>,
    pub clients: Vec<Client>,
    pub now: Now,
    pub rules: Rules,
    pub settings: Settings,
    /// `None`: steps in turn, bytes whole.
    chance: Option<Rng>,
    /// How bytes are cut where steps are drawn.
    wire_chance: Rng,
    chunk_bytes_max: usize,
    /// What goes wrong by itself, in a world that was drawn.
    pub(crate) chaos: Option<Box<Chaos>>,
    pub trace: Trace,
    pub(crate) store: Store,
    /// Durable operations wait for the test.
    pub is_store_held: bool,
    pub store_outcome: StoreOutcome,
    /// One of so many groups of operations fails; 0 is none.
    pub store_failures_in: usize,
    /// Crashes so far.
    pub crash_count: u64,
    steps: Vec<Step>,
    /// Steps so far.
    pub step_count: u64,
    next_shard: usize,
    /// The listener that new clients come through.
    pub listener: u16,
    /// Waits so far for clients that publish too fast.
    late_count: u32,
    /// How often the log was told of a client that publishes too fast.
    pub rate_note_count: u64,
}

/// Inputs that may come before their effects are applied.
const BATCH_MAX: u32 = 6;
/// More waits than all that the clients of a drawn world publish between two rests may take.
const LATE_MAX: u32 = 1000;
/// More steps than any scenario needs to come to rest.
const STEPS_MAX: u64 = 3_000_000;

fn nodes(shards: u8, seed: u64, settings: &Settings, rules: Rules) -> Vec<Node> {
    let mailboxes = mesh(shards, settings.mailbox_bytes);
    let nodes = (0..shards).zip(mailboxes).map(|(id, mailboxes)| Node {
        shard: Shard::new(ShardParts {
            id: ShardId(id),
            shards,
            settings: settings.clone(),
            seed,
            mailboxes,
            authenticate: Box::new(rules),
            authorise: Box::new(rules),
        }),
        out: Outbox::default(),
        places: Vec::new(),
        adopted: VecDeque::new(),
        batch_count: 0,
        is_rung: false,
        bell_at: 0,
        frozen_until: 0,
        is_stopped: false,
    });
    nodes.collect()
}

impl World {
    pub fn new(shards: u8, seed: Option<u64>, settings: &Settings) -> Self {
        Self {
            nodes: nodes(shards, seed.unwrap_or(7), settings, Rules::default()),
            rules: Rules::default(),
            wires: Vec::new(),
            live: Vec::new(),
            clients: Vec::new(),
            now: Now { time: Time::from_secs(1000), unix_secs: 1_700_000_000 },
            settings: settings.clone(),
            chance: seed.map(|seed| stream(seed, Stream::Schedule, 0)),
            wire_chance: stream(seed.unwrap_or(0), Stream::Wire, 0),
            chunk_bytes_max: usize::MAX,
            chaos: None,
            trace: Trace::default(),
            store: Store::new(shards),
            is_store_held: false,
            store_outcome: StoreOutcome::Durable,
            store_failures_in: 0,
            crash_count: 0,
            steps: Vec::new(),
            step_count: 0,
            next_shard: 0,
            listener: 0,
            late_count: 0,
            rate_note_count: 0,
        }
    }

    /// The world that a seed has drawn. Nothing goes wrong in it before [`World::rage`].
    pub fn drawn(options: &Options) -> Self {
        let mut world = Self::new(options.shards, Some(options.seed), &options.settings);
        world.chunk_bytes_max = options.chunk_bytes_max;
        world.store_failures_in = options.store_failures_in;
        if options.has_rights {
            world.rule(Rules { has_rights: true, is_narrow: options.seed.is_multiple_of(2) });
        }
        world.chaos = Some(Box::new(Chaos::new(options)));
        world
    }

    /// From here on chance comes from streams of this number, whatever was drawn before.
    pub fn begin_act(&mut self, number: u32) {
        let Some(chaos) = self.chaos.as_mut() else { return };
        let seed = chaos.begin_act(number);
        self.chance = Some(stream(seed, Stream::Schedule, u64::from(number)));
        self.wire_chance = stream(seed, Stream::Wire, u64::from(number));
        self.trace.entry(Entry::Act, 0, u64::from(number));
    }

    pub fn shard_count(&self) -> usize {
        self.nodes.len()
    }

    pub fn is_stopped(&self) -> bool {
        self.nodes.iter().all(|node| node.is_stopped)
    }

    pub fn pending_store_count(&self) -> usize {
        self.store.pending_count()
    }

    /// Counters and gauges of all shards together.
    pub fn snapshot(&self) -> Snapshot {
        let mut all = Snapshot::default();
        self.nodes.iter().for_each(|node| all.add(&node.shard.snapshot()));
        all
    }

    /// Shows every session of every shard.
    pub fn each_session(&self, mut visit: impl FnMut(SessionView<'_>)) {
        self.nodes.iter().for_each(|node| node.shard.sessions().for_each(&mut visit));
    }

    /// In `0..end`: drawn, or 0 without a seed.
    pub fn below(&mut self, end: usize) -> usize {
        match &mut self.chance {
            Some(chance) => {
                usize::try_from(chance.next_u64() % end as u64).expect("less than a usize")
            }
            None => 0,
        }
    }

    /// In `0..end`, from the stream that cuts bytes.
    fn wire_below(&mut self, end: usize) -> usize {
        usize::try_from(self.wire_chance.next_u64() % end as u64).expect("less than a usize")
    }

    /// A new network connection, accepted by one shard after the other, or by any.
    pub fn dial(&mut self, client: usize) -> usize {
        let at = if self.chance.is_some() {
            self.below(self.nodes.len())
        } else {
            self.next_shard = (self.next_shard + 1) % self.nodes.len();
            self.next_shard
        };
        self.dial_at(at, client)
    }

    /// A new network connection, accepted by this shard.
    pub fn dial_at(&mut self, at: usize, client: usize) -> usize {
        let wire = self.wires.len();
        self.trace.entry(Entry::Dial, at, wire as u64);
        self.trace.line(|| format!("       wire {wire} of client {client} is accepted by {at}"));
        self.wires.push(Wire { client, ..Wire::default() });
        self.live.push(wire);
        let origin = Origin {
            handle: wire as u64,
            listener: self.clients.get(client).map_or(0, |client| client.listener),
            peer: SocketAddr::from((Ipv4Addr::LOCALHOST, 1883)),
        };
        let conn = self.place(at, wire);
        self.give(at, Input::Opened { conn, origin });
        wire
    }

    fn place(&mut self, at: usize, wire: usize) -> ConnId {
        let places = &mut self.nodes[at].places;
        let index = places.iter().position(|(_, wire)| wire.is_none()).unwrap_or_else(|| {
            places.push((0, None));
            places.len() - 1
        });
        places[index].0 += 1;
        places[index].1 = Some(wire);
        let generation = places[index].0;
        let conn = ConnId { index: u32::try_from(index).expect("few"), generation };
        self.wires[wire].place = Some((at, conn));
        conn
    }

    /// Gives one input; the effects are applied at once or some inputs later.
    pub(crate) fn give(&mut self, at: usize, input: Input<'_>) {
        let node = &mut self.nodes[at];
        node.shard.handle(self.now, input, &mut node.out);
        node.batch_count += 1;
        if self.nodes[at].batch_count >= BATCH_MAX || self.below(2) == 0 {
            self.apply(at);
        }
    }

    /// Ends a batch: flushes the shard and does what it asks for.
    fn apply(&mut self, at: usize) {
        let node = &mut self.nodes[at];
        node.batch_count = 0;
        node.shard.flush(self.now, &mut node.out);
        let mut out = std::mem::take(&mut node.out);
        node.is_stopped = out.stopped;
        for (ticket, op) in out.stores.drain(..) {
            self.trace.entry(Entry::Store, at, ticket.0);
            self.trace.line(|| format!("       {at} asks its store for {ticket:?}: {op:?}"));
            self.store.ask(at, ticket, op);
        }
        for &(conn, to) in &out.releases {
            self.release(at, conn, to);
        }
        for adopt in out.adopts.drain(..) {
            let wire = usize::try_from(adopt.origin.handle).expect("a wire");
            assert!(self.wires[wire].place.is_none(), "a connection is adopted by two shards");
            self.trace.entry(Entry::Adopt, at, wire as u64);
            self.trace.line(|| format!("       {at} adopts wire {wire}"));
            self.nodes[at].adopted.push_back((wire, adopt.origin, adopt.bytes));
        }
        for &(conn, reading) in &out.reads {
            self.set_reading(at, conn, reading);
        }
        for &conn in out.sends.iter().chain(&out.bulk_sends) {
            self.list_send(at, conn);
        }
        for &(conn, closing) in &out.closes {
            self.begin_close(at, conn, closing);
        }
        for &to in &out.doorbells {
            assert_ne!(to.index(), at, "a shard rings at itself");
            self.trace.entry(Entry::Bell, at, u64::from(to.0));
            self.trace.line(|| format!("       {at} rings at {}", to.0));
            self.nodes[to.index()].is_rung = true;
        }
        for note in &out.notes {
            let is_rate = note.reject.reason == ReasonCode::MessageRateTooHigh;
            self.rate_note_count += u64::from(is_rate);
            self.trace.entry(Entry::Note, at, note.origin.handle);
            self.trace.line(|| format!("       {at} notes {note:?}"));
        }
        out.clear();
        self.nodes[at].out = out;
    }

    fn set_reading(&mut self, at: usize, conn: ConnId, reading: Reading) {
        let Some(wire) = self.wire_of(at, conn) else { return };
        self.trace.entry(Entry::Read, wire, reading as u64);
        self.trace.line(|| format!("       {at} reads wire {wire}: {reading:?}"));
        let before = self.wires[wire].reading.replace(reading);
        // A receive that is under way when reading pauses may still bring bytes.
        let was_stream = before == Some(Reading::Stream) && reading == Reading::Pause;
        self.wires[wire].has_late_bytes =
            was_stream && self.chance.is_some() && self.wire_below(4) == 0;
    }

    /// The shell may take its time: a turn of it has so many sends and no more.
    fn list_send(&mut self, at: usize, conn: ConnId) {
        let Some(wire) = self.wire_of(at, conn) else { return };
        self.wires[wire].is_listed = true;
        if self.chance.is_none() || self.wire_below(8) > 0 {
            self.begin_send(wire);
        }
    }

    fn begin_send(&mut self, wire: usize) {
        let Some((at, conn)) = self.wires[wire].place else { return };
        if !std::mem::take(&mut self.wires[wire].is_listed) {
            return;
        }
        assert!(self.wires[wire].sending.is_none(), "a send is listed while one is out");
        let output = self.nodes[at].shard.take_output(conn);
        if output.is_empty() {
            assert!(self.settings.is_durable, "a send is listed without bytes");
            return;
        }
        self.trace.entry(Entry::Send, wire, output.len() as u64);
        self.trace.bytes(&output.bytes);
        for (offset, payload) in output.splices.iter() {
            self.trace.mix(*offset as u64);
            self.trace.bytes(payload);
        }
        self.trace.line(|| format!("       {at} sends {} bytes on wire {wire}", output.len()));
        self.wires[wire].sending = Some(output);
    }

    fn begin_close(&mut self, at: usize, conn: ConnId, closing: Closing) {
        let Some(wire) = self.wire_of(at, conn) else { return };
        self.trace.entry(Entry::Close, wire, closing as u64);
        self.trace.line(|| format!("       {at} closes wire {wire}: {closing:?}"));
        match closing {
            Closing::Finish => {
                self.begin_send(wire);
                self.wires[wire].is_finishing = true;
            }
            Closing::Abort => self.wires[wire].is_aborted = true,
        }
    }

    /// The wire that an effect names. Nobody, if it has gone in the same batch.
    fn wire_of(&self, at: usize, conn: ConnId) -> Option<usize> {
        let &(generation, wire) =
            self.nodes[at].places.get(conn.index as usize).expect("an effect for an unknown conn");
        assert!(conn.generation <= generation, "an effect for a conn of the future");
        wire.filter(|_| conn.generation == generation)
    }

    fn release(&mut self, at: usize, conn: ConnId, to: ShardId) {
        let wire = self.wire_of(at, conn).expect("a hand-over of a connection that is here");
        assert_ne!(to.index(), at, "a shard hands over to itself");
        self.trace.entry(Entry::HandOver, wire, u64::from(to.0));
        self.trace.line(|| format!("       {at} hands wire {wire} over to {}", to.0));
        let released = &mut self.wires[wire];
        assert!(
            released.sending.is_none() && !released.is_listed,
            "a hand-over while a send is out"
        );
        released.place = None;
        released.reading = None;
        self.nodes[at].places[conn.index as usize].1 = None;
    }

    fn closed(&mut self, wire: usize, cause: CloseCause) {
        let closed = &mut self.wires[wire];
        assert!(!closed.is_closed);
        closed.is_closed = true;
        closed.sending = None;
        closed.is_listed = false;
        let client = closed.client;
        let (at, conn) = closed.place.take().expect("only an open connection is closed");
        if self.clients[client].wire == wire {
            self.clients[client].is_ended = true;
        }
        self.nodes[at].places[conn.index as usize].1 = None;
        self.live.retain(|&other| other != wire);
        self.give(at, Input::Closed { conn, cause });
    }

    /// Lets everything happen that can, until nothing is left to do but wait.
    #[track_caller]
    pub fn settle(&mut self) {
        self.settle_within(STEPS_MAX);
    }

    /// The same, and that in so many steps.
    #[track_caller]
    pub fn settle_within(&mut self, budget: u64) {
        let limit = self.step_count + budget;
        while self.step() {
            if self.step_count >= limit {
                panic!("no rest within {budget} steps\n{}", self.waiting().join("\n"));
            }
        }
        for (at, node) in self.nodes.iter().enumerate() {
            assert!(!node.shard.has_mail(), "shard {at} has mail and nobody rang");
            assert!(!node.shard.has_work(), "shard {at} has work left");
        }
    }

    /// Nothing waits for anything: after [`World::settle`], with clients that read and answer and a
    /// store that does. What waits for a client that is gone without a word does not count.
    #[track_caller]
    pub fn expect_quiet(&self) {
        let waiting = self.waiting();
        assert!(waiting.is_empty(), "at rest, but:\n{}", waiting.join("\n"));
    }

    /// Bytes that clients have written and no shard has read. Who takes no answers is not read from.
    pub fn written_bytes(&self) -> usize {
        let wires = self.live.iter().map(|&at| &self.wires[at]);
        wires.filter(|wire| !wire.is_dead()).map(|wire| wire.upward.len()).sum()
    }

    /// What keeps the world from going on, line by line.
    pub fn waiting(&self) -> Vec<String> {
        let mut all = Vec::new();
        for (at, node) in self.nodes.iter().enumerate() {
            for waiting in node.shard.waiting() {
                let wire = waiting.conn.and_then(|conn| self.wire_of(at, conn));
                let is_dead = wire.is_some_and(|wire| self.wires[wire].is_dead());
                if !is_dead {
                    let wire = wire.map_or_else(String::new, |wire| format!(" (wire {wire})"));
                    all.push(format!("shard {at}: {}{wire}", waiting.what));
                }
            }
        }
        for &at in &self.live {
            let wire = &self.wires[at];
            let client = &self.clients[wire.client];
            if !wire.upward.is_empty() && !wire.is_dead() {
                let count = wire.upward.len();
                all.push(format!("wire {at} of {}: {count} bytes are not read", client.name));
            }
            if wire.sending.is_some() && !wire.is_dead() {
                all.push(format!("wire {at} of {}: the client does not read", client.name));
            }
        }
        all
    }

    /// Lets some things happen, not all.
    pub fn stir(&mut self, count: usize) {
        for _ in 0..count {
            if !self.step() {
                return;
            }
        }
    }

    fn step(&mut self) -> bool {
        self.go_wrong();
        self.list_steps();
        if self.steps.is_empty() && self.thaw() {
            self.list_steps();
        }
        if self.steps.is_empty() {
            return false;
        }
        let at = match self.chance {
            Some(_) => self.below(self.steps.len()),
            None => {
                let count = self.steps.len() as u64;
                usize::try_from(self.step_count % count).expect("less than a usize")
            }
        };
        self.step_count += 1;
        let step = self.steps[at];
        self.trace.entry(Entry::Step, at, self.steps.len() as u64);
        self.trace.line(|| format!("{:>6} {step:?}", self.step_count));
        self.take_step(step);
        true
    }

    /// Holds up these shards and no others, until [`Self::thaw`] or until nothing else can happen.
    pub(crate) fn hold_up(&mut self, is_held: impl Fn(usize) -> bool) {
        for (at, node) in self.nodes.iter_mut().enumerate() {
            node.frozen_until = if is_held(at) { u64::MAX } else { 0 };
        }
    }

    /// Shards and doorbells that were held back go on at once. True if there were any.
    pub(crate) fn thaw(&mut self) -> bool {
        let now = self.step_count;
        let mut is_any = false;
        for node in &mut self.nodes {
            is_any |= node.frozen_until > now || node.bell_at > now;
            (node.frozen_until, node.bell_at) = (0, 0);
        }
        is_any
    }

    fn list_steps(&mut self) {
        self.steps.clear();
        let now = self.step_count;
        for &at in &self.live {
            let wire = &self.wires[at];
            if wire.place.is_none_or(|(at, _)| self.nodes[at].frozen_until > now) {
                continue;
            }
            if wire.has_bytes() {
                self.steps.push(Step::Bytes(at));
            }
            // The shell tells of the end when everything that came before it is worked on.
            let is_behind = wire.place.is_some_and(|(at, conn)| self.nodes[at].is_behind(conn));
            if wire.has_ended() && !is_behind {
                self.steps.push(Step::Ended(at));
            }
            if wire.has_failed() && !is_behind {
                self.steps.push(Step::Failed(at));
            }
            if wire.is_listed {
                self.steps.push(Step::Send(at));
            }
            if wire.can_drain() {
                self.steps.push(Step::Drain(at));
            }
            if wire.is_aborted {
                self.steps.push(Step::Aborted(at));
            } else if wire.is_finishing
                && !wire.is_finished
                && wire.sending.is_none()
                && !wire.is_listed
                && wire.place.is_some_and(|(at, _)| self.nodes[at].batch_count == 0)
            {
                self.steps.push(Step::Finish(at));
            }
        }
        for (at, node) in self.nodes.iter().enumerate().filter(|(_, n)| n.frozen_until <= now) {
            if !node.adopted.is_empty() {
                self.steps.push(Step::Adopt(at));
            }
            if node.is_rung && node.bell_at <= now {
                self.steps.push(Step::Mail(at));
            }
            if node.shard.next_deadline().is_some_and(|deadline| deadline <= self.now.time) {
                self.steps.push(Step::Deadline(at));
            }
            if node.batch_count > 0 || node.shard.has_work() {
                self.steps.push(Step::Flush(at));
            }
        }
        if !self.is_store_held {
            let busy = (0..self.nodes.len()).filter(|&at| self.store.is_busy(at));
            self.steps.extend(busy.map(Step::Store));
        }
    }

    fn take_step(&mut self, step: Step) {
        match step {
            Step::Bytes(wire) => self.carry(wire),
            Step::Ended(wire) => self.closed(wire, CloseCause::Eof),
            Step::Failed(wire) => self.closed(wire, CloseCause::Failed),
            Step::Send(wire) => self.begin_send(wire),
            Step::Drain(wire) => self.drain(wire),
            Step::Finish(wire) => {
                self.wires[wire].is_finished = true;
                let client = self.wires[wire].client;
                if self.clients[client].wire == wire {
                    self.clients[client].is_ended = true;
                }
                self.wires[wire].is_client_gone |= !self.wires[wire].is_lingering;
            }
            Step::Aborted(wire) => self.closed(wire, CloseCause::Asked),
            Step::Adopt(at) => {
                let Some((wire, origin, bytes)) = self.nodes[at].adopted.pop_front() else {
                    return;
                };
                let conn = self.place(at, wire);
                self.give(at, Input::Opened { conn, origin });
                if self.wire_of(at, conn).is_some() {
                    // What the first shard had read comes before anything new.
                    self.give(at, Input::Received { conn, bytes: &bytes });
                }
            }
            Step::Mail(at) => self.mail(at),
            Step::Deadline(at) => self.give(at, Input::Deadline),
            Step::Flush(at) => self.apply(at),
            Step::Store(at) => self.store_some(at),
        }
    }

    fn carry(&mut self, wire: usize) {
        let length = self.wires[wire].upward.len();
        let count = if self.chance.is_some() {
            let most = [length, 3, 64, 4096][self.wire_below(4)];
            1 + self.wire_below(most.min(length).min(self.chunk_bytes_max))
        } else {
            length
        };
        let (at, conn) = self.wires[wire].place.expect("bytes come where a shard reads");
        let rest = self.wires[wire].upward.split_off(count);
        let bytes = std::mem::replace(&mut self.wires[wire].upward, rest);
        self.trace.entry(Entry::Carried, wire, count as u64);
        self.trace.bytes(&bytes);
        self.print_packets(wire, true, &bytes);
        self.wires[wire].has_late_bytes = false;
        if self.wires[wire].is_finishing {
            return;
        }
        if self.wires[wire].reading == Some(Reading::Once) {
            self.wires[wire].reading = None;
        }
        self.give(at, Input::Received { conn, bytes: &bytes });
    }

    fn drain(&mut self, wire: usize) {
        let (at, conn) = self.wires[wire].place.expect("a send has a connection");
        let length = self.wires[wire].sending.as_ref().map_or(0, Output::len);
        let rest = length - self.wires[wire].taken_bytes;
        if self.wires[wire].is_slow && self.is_read(wire) {
            let count = 1 + self.wire_below(rest.min(40));
            self.deliver(wire, count);
            if count < rest {
                return;
            }
        } else {
            self.deliver(wire, rest);
        }
        let Some(output) = self.wires[wire].sending.take() else { return };
        self.wires[wire].taken_bytes = 0;
        self.wires[wire].downward.clear();
        self.nodes[at].shard.reuse(output);
        self.give(at, Input::Drained { conn });
    }

    /// True if what arrives on the wire is looked at: it is its client's current one.
    fn is_read(&self, wire: usize) -> bool {
        self.clients[self.wires[wire].client].wire == wire && !self.wires[wire].is_client_gone
    }

    /// The client takes the next `count` bytes of what is being sent.
    pub(crate) fn deliver(&mut self, wire: usize, count: usize) {
        let Some(output) = &self.wires[wire].sending else { return };
        let client = self.wires[wire].client;
        if !self.is_read(wire) {
            return;
        }
        let from = self.wires[wire].taken_bytes;
        if from == 0 {
            self.wires[wire].downward = flatten(output);
        }
        self.wires[wire].taken_bytes = from + count;
        self.trace.entry(Entry::Taken, wire, count as u64);
        let bytes = std::mem::take(&mut self.wires[wire].downward);
        self.print_packets(wire, false, &bytes[from..from + count]);
        let mut reply = Vec::new();
        self.clients[client].receive(&bytes[from..from + count], &mut reply);
        self.wires[wire].downward = bytes;
        self.wires[wire].upward.extend_from_slice(&reply);
    }

    fn print_packets(&mut self, wire: usize, is_upward: bool, bytes: &[u8]) {
        if !self.trace.is_printed {
            return;
        }
        let client = &self.clients[self.wires[wire].client];
        let (name, version) = (client.name, client.version);
        let readers = &mut self.wires[wire].readers;
        let (reader, arrow) =
            if is_upward { (&mut readers.0, "->") } else { (&mut readers.1, "<-") };
        let packets = reader.read(version, bytes);
        self.trace.line(|| format!("       wire {wire} {name} {arrow} {} bytes", bytes.len()));
        for packet in packets {
            self.trace.line(|| format!("       wire {wire} {name} {arrow} {packet}"));
        }
    }

    fn mail(&mut self, at: usize) {
        let froms = if self.chance.is_some() {
            let from = self.below(self.nodes.len());
            from..from + 1
        } else {
            0..self.nodes.len()
        };
        for from in froms.filter(|&from| from != at) {
            let from = ShardId(u8::try_from(from).expect("few"));
            self.give(at, Input::Mail { from });
        }
        if !self.nodes[at].shard.has_mail() {
            self.nodes[at].is_rung = false;
        }
    }

    /// A group of operations ends together.
    fn store_some(&mut self, at: usize) {
        let count = 1 + self.below(self.store.pending_count_of(at));
        let outcome = if self.store_fails() { StoreOutcome::Failed } else { self.store_outcome };
        if let Some(ticket) = self.store.answer(at, count, outcome) {
            self.trace.entry(Entry::Store, at, ticket.0 << 1 | outcome as u64);
            self.trace.line(|| format!("       {at}: up to {ticket:?}: {outcome:?}"));
            self.give(at, Input::Stored { ticket, outcome });
        }
    }

    fn store_fails(&mut self) -> bool {
        self.store_failures_in > 0 && self.below(self.store_failures_in) == 1
    }

    /// Lets the store finish what it has been asked for.
    pub fn finish_stores(&mut self, outcome: StoreOutcome) {
        self.store_outcome = outcome;
        self.is_store_held = false;
        self.settle();
        self.is_store_held = true;
    }

    /// A little time passes if packets wait because their clients publish faster than they may. False if
    /// there are none.
    pub fn wait_for_late(&mut self) -> bool {
        let is_late = |&at: &usize| {
            let place = self.wires[at].place;
            place.is_some_and(|(at, conn)| self.nodes[at].shard.is_late(conn))
        };
        let is_any = self.live.iter().any(is_late);
        if is_any {
            self.late_count += 1;
            assert!(self.late_count < LATE_MAX, "a client that publishes too fast waits for ever");
            self.advance(Duration::from_millis(200));
        } else {
            self.late_count = 0;
        }
        is_any
    }

    /// Virtual time goes on, deadline by deadline. In a world that was drawn the clients ping.
    pub fn advance(&mut self, by: Duration) {
        let target = self.now.time + by;
        let mut ping_at = self.ping();
        loop {
            self.settle();
            let deadlines = self.nodes.iter().filter_map(|node| node.shard.next_deadline());
            let Some(next) = deadlines.chain(ping_at).min().filter(|&next| next <= target) else {
                break;
            };
            self.set_time(self.now.time.max(next));
            if ping_at.is_some_and(|at| at <= self.now.time) {
                ping_at = self.ping();
            }
        }
        self.set_time(target);
        self.settle();
        self.trace.entry(Entry::Time, 0, self.now.time.as_micros());
        self.trace.line(|| format!("       it is {} ms", self.now.time.as_millis()));
    }

    /// Both clocks go on.
    fn set_time(&mut self, time: Time) {
        let second = |time: Time| time.as_millis() / 1000;
        self.now.unix_secs += second(time).saturating_sub(second(self.now.time));
        self.now.time = self.now.time.max(time);
    }

    /// New rules on every shard, from the next step on.
    pub fn rule(&mut self, rules: Rules) {
        self.rules = rules;
        self.trace.line(|| format!("       {rules:?}"));
        for at in 0..self.nodes.len() {
            let (authenticate, authorise) = (Box::new(rules), Box::new(rules));
            self.give(at, Input::Rules { authenticate, authorise });
        }
    }

    /// What the transport knows of a client's connection, before its CONNECT.
    pub fn identify(&mut self, client: usize, peer: Option<SocketAddr>, identity: Option<&str>) {
        let wire = self.clients[client].wire;
        let (at, conn) = self.wires[wire].place.expect("it is open");
        self.give(at, Input::Identified { conn, peer, identity });
    }

    /// The same, if its connection is there; whether anybody waits for it or not.
    pub fn decide_if_there(&mut self, client: usize, verdict: Verdict) {
        let wire = self.clients[client].wire;
        if let Some((at, conn)) = self.wires.get(wire).and_then(|wire| wire.place) {
            self.give(at, Input::Authenticated { conn, verdict });
        }
    }

    /// Whoever waits for an answer is let in.
    pub fn decide_all(&mut self) {
        for wire in self.live.clone() {
            if let Some((at, conn)) = self.wires[wire].place {
                self.give(at, Input::Authenticated { conn, verdict: Verdict::allow() });
            }
        }
    }

    /// The late answer of an authentication check.
    pub fn decide(&mut self, client: usize, verdict: Verdict) {
        let wire = self.clients[client].wire;
        let (at, conn) = self.wires[wire].place.expect("it waits for the verdict");
        self.give(at, Input::Authenticated { conn, verdict });
        self.settle();
    }

    /// The process dies: every connection with it, and what the store had not answered may be lost. A
    /// new one begins `after` a while with what is in the store, on as many shards as are given.
    pub fn crash(&mut self, shards: u8, after: Duration) {
        self.crash_count += 1;
        let mut left = Vec::new();
        for at in 0..self.nodes.len() {
            left.push(self.below(self.store.pending_count_of(at) + 1));
        }
        self.trace.line(|| format!("       crash; of the operations under way {left:?} are done"));
        self.trace.entry(Entry::Crash, self.nodes.len(), u64::from(shards));
        self.store.crash(&left, shards);
        for at in std::mem::take(&mut self.live) {
            let wire = &mut self.wires[at];
            wire.is_closed = true;
            wire.place = None;
            wire.sending = None;
            if self.clients[wire.client].wire == at {
                self.clients[wire.client].is_ended = true;
            }
        }
        self.set_time(self.now.time + after);
        let seed = self.step_count;
        self.nodes = nodes(shards, seed, &self.settings, self.rules);
        for (key, record) in self.store.kept() {
            let node = &mut self.nodes[key.owner(shards).index()];
            let restored = node.shard.restore(self.now, key, record);
            restored.expect("the store gives back what it was given");
        }
        for at in 0..self.nodes.len() {
            let node = &mut self.nodes[at];
            node.shard.restored(self.now, &mut node.out);
            self.apply(at);
        }
        while !self.nodes.iter().all(|node| node.shard.is_ready()) {
            assert!(self.step(), "a shard waits for ever for what another got back");
        }
    }

    /// Asks every shard to stop.
    pub fn stop(&mut self) {
        for at in 0..self.nodes.len() {
            self.give(at, Input::Stop);
        }
    }

    /// The shard on which a client's connection is.
    pub fn shard_of(&self, client: usize) -> Option<usize> {
        self.wires[self.clients[client].wire].place.map(|(at, _)| at)
    }
}
