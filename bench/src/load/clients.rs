//! How clients come and go: connect, greet, subscribe, leave, return.

use std::io;
use std::net::Ipv4Addr;

use shards::codec::{Connect, Subscribe, SubscribeOptions, Unsubscribe};
use shards::ids::{PacketId, Version};

use super::engine::{Engine, Stage};
use super::socket;
use crate::error::Error;
use crate::net::{Ending, Key, Net, Outs};
use crate::plan::{Course, Scenario, Wire};
use crate::relay::{Greeting, Role};

/// Filters of one SUBSCRIBE.
const FILTERS_EACH: usize = 200;

/// Longer than any run, so that no client has to ping; 0 (none) is more than some brokers take.
const KEEP_ALIVE_S: u16 = u16::MAX;

/// How long a broker keeps a session after a run that was cut short.
const SESSION_EXPIRY_S: u32 = 300;

/// The filter of the retained messages.
const RETAINED_FILTER: &str = "b/#";

impl Engine {
    /// Begins as many connects as may be under way at the same time.
    pub(super) fn connect_more(&mut self, net: &mut impl Net) -> Result<(), Error> {
        while self.connecting < self.plan.connecting_max && self.next_idle < self.clients.len() {
            self.connect(self.next_idle, net)?;
            self.next_idle += 1;
        }
        Ok(())
    }

    pub(super) fn connect(&mut self, client: usize, net: &mut impl Net) -> Result<(), Error> {
        let source = self.plan.clients[client].source;
        let source = Some(source).filter(|source| *source != Ipv4Addr::LOCALHOST);
        let unreachable = |source| Error::Unreachable { address: self.target, source };
        let socket = socket::open(self.target, source).map_err(unreachable)?;
        let key = net.add(socket).map_err(Error::system("watch a socket"))?;
        self.bind(client, key);
        self.clients[client].since_ns = self.now_ns();
        self.connecting += 1;
        Ok(())
    }

    /// TCP is there: the first packet.
    pub(super) fn greet(&mut self, client: usize, key: Key, outs: &mut Outs) {
        self.clients[client].stage = Stage::Greeting;
        let out = outs.buffer(key);
        let own = &self.plan.clients[client];
        let is_back = self.clients[client].subscribed > 0;
        match self.plan.wire {
            Wire::Floor => {
                let (publishes, record) = match &self.flood {
                    Some(flood) if client >= flood.clients.publisher => {
                        (client == flood.clients.publisher, flood.record_bytes())
                    }
                    Some(_) | None => (
                        self.clients[client].publisher.is_some(),
                        self.publishers.first().map_or(1, |first| first.record_bytes()),
                    ),
                };
                let role = if publishes { Role::Publisher } else { Role::Subscriber };
                let record_bytes = u32::try_from(record).unwrap_or(u32::MAX);
                Greeting { role, record_bytes, channels: own.channels.clone() }.encode(out);
            }
            Wire::Mqtt(version) => {
                let keeps = self.plan.keeps_sessions() && !own.filters.is_empty();
                // Version 3.1.1 has one flag for a clean start and for a session that ends with the
                // connection; so a first connection that shall be kept cannot be clean.
                let clean_start = !keeps || (version == Version::V5 && !is_back);
                let session_expiry_s =
                    (keeps && version == Version::V5).then_some(SESSION_EXPIRY_S);
                let receive_maximum = (version == Version::V5).then_some(u16::MAX);
                let connect = Connect {
                    keep_alive_s: KEEP_ALIVE_S,
                    clean_start,
                    session_expiry_s,
                    receive_maximum,
                    topic_alias_max: self.plan.knobs.aliases.unwrap_or(0),
                    ..Connect::new(version, &own.id)
                };
                connect.encode(out);
            }
        }
    }

    /// CONNACK, or a floor's welcome.
    pub(super) fn on_greeted(
        &mut self,
        client: usize,
        session_present: bool,
        now_ns: u64,
        outs: &mut Outs,
    ) {
        if self.clients[client].stage != Stage::Greeting {
            return self.answer(client, "a second CONNACK");
        }
        let filters = self.plan.clients[client].filters.len();
        let is_back = self.clients[client].subscribed > 0;
        if is_back && !session_present {
            return self.refuse(client, "the session was not kept".to_owned());
        }
        if is_back || filters == 0 || self.plan.wire == Wire::Floor {
            return self.on_ready(client, now_ns, outs);
        }
        self.clients[client].stage = Stage::Subscribing;
        self.subscribe(client, outs);
    }

    /// Asks for the next filters of the plan.
    fn subscribe(&mut self, client: usize, outs: &mut Outs) {
        let Some(key) = self.clients[client].key else { return };
        let from = self.clients[client].subscribed;
        let filters = &self.plan.clients[client].filters[from..];
        let options = SubscribeOptions::new(self.plan.qos);
        let list: Vec<(&str, SubscribeOptions)> =
            filters.iter().take(FILTERS_EACH).map(|filter| (filter.as_str(), options)).collect();
        Subscribe::new(PacketId::MIN, &list).encode(self.plan.version(), outs.buffer(key));
        self.clients[client].subscribed += list.len();
    }

    pub(super) fn on_subscribed(&mut self, client: usize, now_ns: u64, outs: &mut Outs) {
        if self.clients[client].stage != Stage::Subscribing {
            // Of a retained cycle, in which messages may come before it.
            return;
        }
        if self.clients[client].subscribed < self.plan.clients[client].filters.len() {
            self.subscribe(client, outs);
        } else {
            self.on_ready(client, now_ns, outs);
        }
    }

    fn on_ready(&mut self, client: usize, now_ns: u64, _outs: &mut Outs) {
        let since_ns = self.clients[client].since_ns;
        self.clients[client].stage = Stage::Ready;
        self.connecting = self.connecting.saturating_sub(1);
        self.ready_count += 1;
        if self.plan.scenario == Scenario::Connect {
            self.stats.record(now_ns.saturating_sub(since_ns));
            self.stats.delivered_all += 1;
        }
    }

    pub(super) fn on_closed(&mut self, client: usize, error: Option<io::Error>) {
        self.clients[client].key = None;
        if self.is_stalled == Some(client) || self.clients[client].stage == Stage::Leaving {
            self.clients[client].stage = Stage::Away;
            return;
        }
        let id = self.plan.clients[client].id.clone();
        let why =
            error.as_ref().map_or_else(|| "closed by the broker".to_owned(), ToString::to_string);
        let failure = match (self.clients[client].stage, error) {
            (Stage::Opening, Some(source)) => Error::Unreachable { address: self.target, source },
            (Stage::Opening | Stage::Greeting, _) => {
                Error::Refused { client: id, why: format!("no answer to CONNECT, {why}") }
            }
            (Stage::Subscribing, _) => {
                Error::Refused { client: id, why: format!("no answer to SUBSCRIBE, {why}") }
            }
            (Stage::Idle | Stage::Ready | Stage::Leaving | Stage::Away, _) => {
                Error::Lost { client: id, after_ms: self.now_ns() / 1_000_000, why }
            }
        };
        self.fail(failure);
    }

    /// persistent: cuts a subscriber's connection; it is to come back at `until_ns`.
    pub(super) fn cut(&mut self, client: usize, until_ns: u64, outs: &mut Outs) {
        let own = &mut self.clients[client];
        if own.stage == Stage::Ready
            && let Some(key) = own.key
        {
            own.stage = Stage::Leaving;
            own.until_ns = until_ns;
            outs.end(key, Ending::Now);
        }
    }

    /// persistent: brings back those whose time has come (all of them with `now_ns` at its maximum).
    pub(super) fn return_due(&mut self, now_ns: u64, net: &mut impl Net) -> Result<(), Error> {
        for client in 0..self.clients.len() {
            let own = &self.clients[client];
            if own.stage == Stage::Away && own.until_ns <= now_ns && self.is_stalled != Some(client)
            {
                self.connect(client, net)?;
            }
        }
        Ok(())
    }

    /// True if nobody is away or on the way.
    pub(super) fn is_complete(&self) -> bool {
        self.clients.iter().all(|client| client.stage == Stage::Ready)
    }

    /// retained: a subscriber asks for all retained messages.
    pub(super) fn ask_retained(&mut self, client: usize, outs: &mut Outs) {
        let Course::Retained { messages } = self.plan.course else { return };
        let now_ns = self.now_ns();
        let own = &mut self.clients[client];
        let Some(key) = own.key else { return };
        own.seen.clear();
        own.seen.resize(messages as usize, false);
        own.seen_count = 0;
        own.since_ns = now_ns;
        let filters = [(RETAINED_FILTER, SubscribeOptions::new(self.plan.qos))];
        Subscribe::new(PacketId::MIN, &filters).encode(self.plan.version(), outs.buffer(key));
    }

    pub(super) fn on_retained(&mut self, client: usize, number: u64, now_ns: u64, outs: &mut Outs) {
        let own = &mut self.clients[client];
        let Some(seen) = usize::try_from(number).ok().and_then(|at| own.seen.get_mut(at)) else {
            self.faults.misrouted += 1;
            return;
        };
        if std::mem::replace(seen, true) {
            self.faults.duplicated += 1;
            return;
        }
        own.seen_count += 1;
        let (since_ns, is_whole) = (own.since_ns, own.seen_count as usize == own.seen.len());
        self.stats.delivered(since_ns, now_ns);
        if is_whole && let Some(key) = self.clients[client].key {
            Unsubscribe::new(PacketId::MIN, &[RETAINED_FILTER])
                .encode(self.plan.version(), outs.buffer(key));
        }
    }

    /// retained: once more, as long as messages are due.
    pub(super) fn on_unsubscribed(&mut self, client: usize, _now_ns: u64, outs: &mut Outs) {
        if self.is_asking {
            self.ask_retained(client, outs);
        } else {
            self.clients[client].seen.clear();
        }
    }
}
