//! `$SYS/broker/...`: what the broker says about itself. Every shard sends its numbers to shard 0,
//! which publishes them as retained messages.

use std::fmt::Write;
use std::time::Duration;

use crate::counters::Snapshot;
use crate::ids::{QoS, ShardId};
use crate::mail::Mail;
use crate::session::messages::{Message, Payload};
use crate::time::Now;
use crate::timers::Timer;

use super::Shard;
use super::effect::Outbox;
use super::fanout::Source;

/// What `$SYS` is made of.
#[derive(Debug, Default)]
pub(super) struct Sys {
    pub(super) clients_connected: u64,
    /// The most clients that were connected at an update.
    clients_maximum: u64,
    /// The latest of each other shard; on shard 0 only.
    others: Vec<Snapshot>,
    /// Messages received at the last update, by shard.
    received_before: Vec<u64>,
}

impl Shard {
    pub(super) fn on_sys_timer(&mut self, now: Now, out: &mut Outbox) {
        let interval_s = self.local.settings.sys_interval_s;
        if interval_s == 0 {
            return;
        }
        self.local.timers.set(Timer::Sys, now.time + Duration::from_secs(interval_s.into()));
        if self.id == ShardId(0) {
            self.publish_sys(now, out);
        } else {
            let mut values = Vec::new();
            self.snapshot().write(&mut values);
            self.post(ShardId(0), &Mail::Counters { values: &values });
        }
    }

    pub(super) fn on_counters(&mut self, from: ShardId, values: &[u8]) {
        let others = &mut self.sys.others;
        if others.len() <= from.index() {
            others.resize_with(from.index() + 1, Snapshot::default);
        }
        others[from.index()] = Snapshot::read(values);
    }

    fn publish_sys(&mut self, now: Now, out: &mut Outbox) {
        let mut by_shard = self.sys.others.clone();
        by_shard.resize_with(usize::from(self.shards), Snapshot::default);
        by_shard[0] = self.snapshot();
        let mut all = Snapshot::default();
        by_shard.iter().for_each(|snapshot| all.add(snapshot));
        self.sys.clients_maximum = self.sys.clients_maximum.max(all.gauges.clients_connected);
        self.sys.received_before.resize(by_shard.len(), 0);
        let interval_s = u64::from(self.local.settings.sys_interval_s.max(1));
        let uptime_s = self.started.map_or(0, |started| now.time.since(started.time).as_secs());
        for (name, value) in summary(&all, self.sys.clients_maximum) {
            self.say(now, name, value, out);
        }
        self.say(now, "version", concat!("muring ", env!("CARGO_PKG_VERSION")), out);
        self.say(now, "uptime", format_args!("{uptime_s} seconds"), out);
        self.say(now, "shards", self.shards, out);
        let mut numbers = Vec::new();
        all.counters.each(|name, value| numbers.push((name, value)));
        for (name, value) in numbers {
            self.say(now, format_args!("counters/{name}"), value, out);
        }
        for (at, snapshot) in by_shard.iter().enumerate() {
            let received = snapshot.counters.messages_received;
            let rate = (received - self.sys.received_before[at].min(received)) / interval_s;
            self.sys.received_before[at] = received;
            let gauges = &snapshot.gauges;
            self.say(now, format_args!("shards/{at}/load/permille"), gauges.busy_permille, out);
            self.say(now, format_args!("shards/{at}/load/publish/received"), rate, out);
            self.say(
                now,
                format_args!("shards/{at}/clients/connected"),
                gauges.clients_connected,
                out,
            );
            self.say(now, format_args!("shards/{at}/messages/received"), received, out);
            let sent = snapshot.counters.messages_sent;
            self.say(now, format_args!("shards/{at}/messages/sent"), sent, out);
        }
    }

    fn say(
        &mut self,
        now: Now,
        name: impl std::fmt::Display,
        value: impl std::fmt::Display,
        out: &mut Outbox,
    ) {
        let mut topic = String::from("$SYS/broker/");
        let mut payload = String::new();
        // Writing to a `String` cannot fail.
        let _ = write!(topic, "{name}");
        let _ = write!(payload, "{value}");
        let message = Message {
            topic: &topic,
            properties: &[],
            payload: Payload::Inline(payload.as_bytes()),
            qos: QoS::AtMostOnce,
            retain: true,
            expires: None,
        };
        let source = Source { session: None, publisher: None, completion: None, tried: 0 };
        self.fan_out(now, &source, message, None, out);
    }
}

/// The topics that brokers have in common.
fn summary(all: &Snapshot, clients_maximum: u64) -> [(&'static str, u64); 17] {
    let Snapshot { counters, gauges } = all;
    let dropped = counters.dropped_output_full
        + counters.dropped_queue_newest
        + counters.dropped_queue_oldest
        + counters.dropped_too_large
        + counters.dropped_expired
        + counters.dropped_offline
        + counters.refused_queue_full;
    [
        ("clients/connected", gauges.clients_connected),
        ("clients/total", gauges.sessions),
        ("clients/disconnected", gauges.sessions.saturating_sub(gauges.clients_connected)),
        ("clients/maximum", clients_maximum),
        ("clients/expired", counters.sessions_expired),
        ("subscriptions/count", gauges.subscriptions),
        ("shared_subscriptions/count", gauges.shared_groups),
        ("retained messages/count", gauges.retained_messages),
        ("retained messages/bytes", gauges.retained_bytes),
        ("store/messages/count", gauges.messages_kept),
        ("store/messages/bytes", gauges.messages_kept_bytes),
        ("messages/received", counters.packets_received),
        ("publish/messages/received", counters.messages_received),
        ("publish/messages/sent", counters.messages_sent),
        ("publish/messages/dropped", dropped),
        ("bytes/received", counters.bytes_received),
        ("bytes/sent", counters.bytes_sent),
    ]
}
