//! One shard: sessions, connections, index and mail, driven by inputs.
//!
//! Code map: `receive` cuts bytes into packets and dispatches them; `connect`, `publish`, `acks`,
//! `subscribe`, `filing`, `leave` handle them; `fanout` routes a message to sessions here and to other shards;
//! `deliver` gives it to one session; `interest` and `retained` are the conversations between shards
//! behind a SUBSCRIBE; `post` reads the mail; `sys` publishes `$SYS`.

mod acks;
mod connect;
mod deliver;
mod durable;
mod effect;
mod exchange;
mod fanout;
mod filing;
mod input;
mod interest;
mod leave;
mod listeners;
mod local;
mod mounts;
mod post;
mod publish;
mod rates;
mod receive;
mod render;
mod restore;
mod retained;
mod rights;
mod runs;
mod shares;
mod subscribe;
mod sys;
mod view;
mod waiting;

pub use crate::origin::Origin;
pub use crate::output::Output;
pub use effect::{Adopt, Closing, Note, Outbox, Reading};
pub use input::{CloseCause, Input};
pub use view::SessionView;
pub use waiting::Waiting;

use std::collections::VecDeque;

use crate::arena::Tickets;
use crate::auth::{Authenticate, Authorise};
use crate::conn::pause::PauseReason;
use crate::conn::{Conn, Conns, Pool, Sending};
use crate::counters::{Counters, Gauges, Snapshot};
use crate::ids::{ConnId, SessionId, ShardId};
use crate::limits::Settings;
use crate::mailbox::Mailboxes;
use crate::mark;
use crate::planted::planted;
use crate::rng::Rng;
use crate::session::messages::Messages;
use crate::session::subscriptions::Subscriptions;
use crate::session::{Session, Sessions};
use crate::time::{Now, Time};
use crate::timers::{Timer, TimerId, Timers};
use crate::topic::{Retained, Seeded, TargetCache, Trie};
use interest::Barrier;
use local::Local;
use publish::Completion;
use render::Rendered;

/// Topics whose targets a shard remembers.
const CACHE_ENTRIES: usize = 4096;

/// What a shard is made of.
#[derive(Debug)]
pub struct ShardParts {
    /// `0..shards`.
    pub id: ShardId,
    /// How many there are in all.
    pub shards: u8,
    pub settings: Settings,
    /// Where all randomness of this shard comes from; the same seed for all shards of a process.
    pub seed: u64,
    pub mailboxes: Mailboxes,
    pub authenticate: Box<dyn Authenticate>,
    pub authorise: Box<dyn Authorise>,
}

/// Who subscribes to what, and what is retained: the part of a shard that answers "where to".
#[derive(Debug)]
struct Index {
    trie: Trie,
    cache: TargetCache,
    retained: Retained,
}

/// How far `Input::Stop` has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stopping {
    No,
    /// Own wills are published; others' may still come.
    Fencing,
    /// Everybody was told.
    Told,
}

/// One core's share of the broker. Lives on its shard's thread; nothing in it is shared.
#[derive(Debug)]
pub struct Shard {
    id: ShardId,
    shards: u8,
    local: Local,
    index: Index,
    mail: Mailboxes,
    rng: Rng,
    authenticate: Box<dyn Authenticate>,
    authorise: Box<dyn Authorise>,
    /// What [`Authorise::allows_everything`] said.
    is_open: bool,
    /// SUBSCRIBEs that wait for other shards.
    barriers: Tickets<Barrier>,
    /// The record that is being worked on: whose it is, and how many of them there were with it.
    record: (ShardId, u64),
    /// Questions for retained messages that are out, and whose they are.
    questions: Tickets<SessionId>,
    /// Questions of other shards that must wait for mail on its way, or for room in the ring.
    deferred_asks: Vec<retained::Ask>,
    /// Sessions that are gone and still stand in the index, with the places where they do.
    vacating: VecDeque<(SessionId, Subscriptions)>,
    /// Sessions whose retained messages go on in the next turn.
    yielded: VecDeque<SessionId>,
    /// What may still be done for retained messages in this turn, in packets.
    retained_left: u32,
    /// Messages whose acknowledgement waits for other shards or the store.
    completions: Tickets<Completion>,
    /// Operations of the store that are out, in their order, and what waits for each.
    awaited: VecDeque<durable::Awaited>,
    /// The number of the latest.
    store_ticket: u64,
    /// It may hold what was to be removed.
    has_store_failed: bool,
    /// Connections of 3.x that end because a message of theirs was not stored.
    unstored: Vec<ConnId>,
    restoring: restore::Restoring,
    /// Shards that have told of everything they got back from the store.
    restore_fences: u64,
    retained_timer: Option<(Time, TimerId)>,
    /// Sessions that new rules have still to look at.
    recheck: rights::Recheck,
    /// Connections that wait for room in a ring.
    congested: Vec<ConnId>,
    /// Bit per shard that was given mail since its last doorbell.
    posted: u64,
    stopping: Stopping,
    /// Shards whose last message has come.
    fences: u64,
    sys: sys::Sys,
    scratch: fanout::Scratch,
    /// The packet at hand has to wait: nothing was done about it.
    is_to_be_repeated: bool,
    started: Option<Now>,
    busy_permille: u16,
}

impl Shard {
    #[must_use]
    pub fn new(parts: ShardParts) -> Self {
        let ShardParts { id, shards, settings, seed, mailboxes, authenticate, authorise } = parts;
        let retained = Retained::new(settings.retained_messages_max, settings.retained_bytes_max);
        Self {
            id,
            shards,
            local: Local {
                conns: Conns::default(),
                sessions: Sessions::new(Seeded::new(seed)),
                messages: Messages::default(),
                timers: Timers::default(),
                counters: Counters::default(),
                pool: Pool::default(),
                rendered: Rendered::default(),
                resumable: Vec::new(),
                turn: 1,
                spent: Vec::new(),
                was_spent: false,
                metered_left: u32::MAX,
                contended_turns: 0,
                overtaken: Vec::new(),
                emitted: Vec::new(),
                evicted: Vec::new(),
                settings,
            },
            index: Index {
                trie: Trie::new(seed),
                cache: TargetCache::new(seed, CACHE_ENTRIES),
                retained,
            },
            mail: mailboxes,
            rng: Rng::new(seed ^ (u64::from(id.0) + 1).wrapping_mul(0xA076_1D64_78BD_642F)),
            authenticate,
            is_open: authorise.allows_everything(),
            authorise,
            barriers: Tickets::default(),
            record: (ShardId(0), 0),
            questions: Tickets::default(),
            deferred_asks: Vec::new(),
            vacating: VecDeque::new(),
            yielded: VecDeque::new(),
            retained_left: 0,
            completions: Tickets::default(),
            awaited: VecDeque::new(),
            store_ticket: 0,
            has_store_failed: false,
            unstored: Vec::new(),
            restoring: restore::Restoring::default(),
            restore_fences: 0,
            retained_timer: None,
            recheck: rights::Recheck::default(),
            congested: Vec::new(),
            posted: 0,
            stopping: Stopping::No,
            fences: 0,
            sys: sys::Sys::default(),
            scratch: fanout::Scratch::default(),
            is_to_be_repeated: false,
            started: None,
            busy_permille: 0,
        }
    }

    /// Takes one input; everything it leads to is appended to `out`.
    pub fn handle(&mut self, now: Now, input: Input<'_>, out: &mut Outbox) {
        if self.started.is_none() {
            self.start(now);
        }
        match input {
            Input::Opened { conn, origin } => self.on_opened(now, conn, origin, out),
            Input::Identified { conn, peer, identity } => {
                self.on_identified(conn, peer, identity);
            }
            Input::Received { conn, bytes } => self.on_received(now, conn, bytes, out),
            Input::Drained { conn } => self.on_drained(now, conn, out),
            Input::Closed { conn, cause } => self.on_closed(now, conn, cause, out),
            Input::Authenticated { conn, verdict } => {
                self.on_authenticated(now, conn, verdict, out);
            }
            Input::Mail { from } => self.on_mail(now, from, out),
            Input::Stored { ticket, outcome } => self.on_stored(now, ticket, outcome, out),
            Input::Deadline => self.on_deadline(now, out),
            Input::Rules { authenticate, authorise } => self.on_rules(authenticate, authorise),
            Input::Load { busy_permille } => self.busy_permille = busy_permille,
            Input::Stop => self.on_stop(now, out),
        }
        self.evict(now, out);
        self.end_unstored(now, out);
        self.flush_stores(now, None, out);
    }

    /// Ends a batch of inputs: mail goes into the rings as far as there is room, connections that
    /// waited go on. Call it after each bounded batch, before the effects are applied.
    pub fn flush(&mut self, now: Now, out: &mut Outbox) {
        self.local.next_turn();
        out.is_contended = self.local.is_contended();
        if !self.vacating.is_empty() {
            self.go_on_vacating();
        }
        self.answer_deferred(now);
        self.resume_yielded(now, out);
        if self.recheck.is_under_way() {
            self.go_on_checking(now, out);
        }
        self.flush_mail(out);
        if !self.congested.is_empty() && !self.is_congested() {
            mark!(CongestionOver);
            for conn in std::mem::take(&mut self.congested) {
                self.local.unpause(conn, PauseReason::MailboxFull);
            }
        }
        // Those that go on may publish again, so mail is flushed once more. Whoever is paused again
        // meanwhile, or has only just become ready, waits for the next batch.
        let resumable = std::mem::take(&mut self.local.resumable);
        if !resumable.is_empty() {
            for &conn in &resumable {
                if self.local.must_wait(conn) {
                    mark!(MeteredWaited);
                    self.local.resumable.push(conn);
                } else {
                    self.resume_reading(now, conn, out);
                }
            }
            if self.local.resumable.is_empty() {
                self.local.resumable = resumable;
                self.local.resumable.clear();
            }
            self.evict(now, out);
            self.flush_mail(out);
        }
        if self.stopping != Stopping::No {
            self.finish_stop(now, out);
        }
        self.flush_stores(now, None, out);
    }

    /// The bytes to send on `conn`, in exchange for an empty buffer to fill next. From here until
    /// `Input::Drained` the connection counts them against its limit and asks for no other send. Empty
    /// if they must wait for the store: then no `Drained` is due, and they are listed again.
    pub fn take_output(&mut self, conn: ConnId) -> Output {
        let Some(conn) = self.local.conns.get_mut(conn) else { return Output::default() };
        conn.sending = Sending::No;
        if conn.fences > 0 && !planted!(FenceIgnored) {
            return Output::default();
        }
        conn.is_welcomed |= conn.session().is_some();
        let mut output = std::mem::take(&mut conn.output);
        output.is_awaited = conn.pauses.has(PauseReason::OutputFull)
            || conn
                .session()
                .and_then(|id| self.local.sessions.get(id))
                .is_some_and(Session::waits);
        conn.sending_bytes = output.len();
        conn.sending = Sending::Out;
        self.local.counters.bytes_sent += output.len() as u64;
        output
    }

    /// Gives back a buffer that has been sent, so that its memory serves again.
    pub fn reuse(&mut self, output: Output) {
        self.local.pool.give(output.bytes);
    }

    /// When to give `Input::Deadline`, at the latest.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Time> {
        self.local.timers.next_deadline()
    }

    /// True while there is work that needs no input: mail that did not fit its ring, connections
    /// with bytes left to read, retained messages to look through. The shell then must not sleep for
    /// long.
    #[must_use]
    pub fn has_work(&self) -> bool {
        self.has_backlog()
            || self.mail.has_staged()
            || !self.deferred_asks.is_empty()
            || self.recheck.is_under_way()
    }

    /// True if connections have packets here that wait for nothing but their turn, or the index has
    /// sessions that are gone: the shell goes on without a sleep.
    #[must_use]
    pub fn has_backlog(&self) -> bool {
        let local = &self.local;
        !local.resumable.is_empty()
            || !local.spent.is_empty()
            || !local.overtaken.is_empty()
            || !self.vacating.is_empty()
            || !self.yielded.is_empty()
    }

    /// True if `conn` is one of them. What its client sent before it closed counts, so
    /// `Input::Closed` is not given before it is worked on.
    #[must_use]
    pub fn is_behind(&self, conn: ConnId) -> bool {
        self.local.conns.get(conn).is_some_and(Conn::is_behind)
    }

    /// True if packets of `conn` wait for a deadline, because its client publishes faster than it may.
    /// The same goes for its end.
    #[must_use]
    pub fn is_late(&self, conn: ConnId) -> bool {
        self.local.conns.get(conn).is_some_and(Conn::is_late)
    }

    /// True if the rings hold mail for this shard; asked right before sleeping.
    #[must_use]
    pub fn has_mail(&self) -> bool {
        self.mail.has_mail()
    }

    /// True if there is a reason for `Input::Mail` from this shard: to ask costs less than an input that
    /// finds nothing, with many shards.
    #[must_use]
    pub fn has_mail_from(&self, from: ShardId) -> bool {
        self.mail.has_mail_from(from)
    }

    /// What happened here so far and how much there is.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        let local = &self.local;
        let gauges = Gauges {
            connections: local.conns.count() as u64,
            clients_connected: self.sys.clients_connected,
            sessions: local.sessions.count() as u64,
            subscriptions: self.index.trie.subscriptions_count() as u64,
            shared_groups: self.index.trie.group_count() as u64,
            retained_messages: self.index.retained.messages_count() as u64,
            retained_bytes: self.index.retained.bytes(),
            messages_kept: local.messages.count() as u64,
            messages_kept_bytes: local.messages.bytes() as u64,
            busy_permille: u64::from(self.busy_permille),
        };
        Snapshot { counters: local.counters.clone(), gauges }
    }

    fn start(&mut self, now: Now) {
        self.started = Some(now);
        self.local.timers.set(Timer::Housekeeping, now.time + HOUSEKEEPING);
        let interval = self.local.settings.sys_interval_s;
        if interval > 0 {
            self.local.timers.set(Timer::Sys, now.time);
        }
    }

    fn on_deadline(&mut self, now: Now, out: &mut Outbox) {
        while let Some(timer) = self.local.timers.expired(now.time) {
            match timer {
                Timer::Conn { index } => self.on_conn_timer(now, index, out),
                Timer::GrantEnd { index } => self.on_grant_end(now, index, out),
                Timer::RateEnd { index } => self.on_rate_end(now, index),
                Timer::SessionExpiry { session } => {
                    self.on_session_expiry(now, SessionId(session), out);
                }
                Timer::WillDelay { session } => self.on_will_delay(now, SessionId(session), out),
                Timer::Sys => self.on_sys_timer(now, out),
                Timer::RetainedExpiry => self.on_retained_expiry(now),
                Timer::Housekeeping => {
                    self.local.pool.trim();
                    self.local.rendered.trim();
                    self.scratch.trim();
                    self.local.messages.trim();
                    self.local.timers.set(Timer::Housekeeping, now.time + HOUSEKEEPING);
                }
            }
        }
    }

    fn flush_mail(&mut self, out: &mut Outbox) {
        if self.posted == 0 && !self.mail.has_staged() {
            return;
        }
        for to in self.mail.others() {
            if self.mail.flush(to) && !out.doorbells.contains(&to) {
                out.doorbells.push(to);
            }
        }
        self.posted = 0;
    }

    fn is_congested(&self) -> bool {
        self.is_store_behind() || self.mail.others().any(|to| self.mail.is_congested(to))
    }
}

/// How often memory that a burst left behind is given back.
const HOUSEKEEPING: std::time::Duration = std::time::Duration::from_secs(10);
