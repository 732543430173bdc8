//! From what was written to what is meant: ranges, relations between settings, addresses, cores.

use std::net::{SocketAddr, ToSocketAddrs};
use std::ops::RangeInclusive;
use std::time::Duration;

use shards::ids::QoS;
use shards::limits::{MAILBOX_BYTES, REMAINING_LENGTH_MAX, SHARDS_MAX, Settings};

use super::document::{Document, IdleValue};
use super::layers::{Key, Layers};
use super::{Config, ConfigError, Loaded};
use crate::cores;
use crate::reactor::{BufferSizes, Idle};

/// Largest packet: fixed header and the longest remaining length.
const PACKET_BYTES_MAX: i64 = REMAINING_LENGTH_MAX as i64 + 5;

/// A day: longer timeouts are a mistake in the unit.
const DAY_MS: i64 = 24 * 3600 * 1000;

const U16_MAX: i64 = u16::MAX as i64;
const U32_MAX: i64 = u32::MAX as i64;

/// A terabyte: more is a mistake in the unit.
const BYTES_MAX: i64 = 1 << 40;

pub(super) fn resolve(layers: &Layers, available: &[usize]) -> Result<Loaded, ConfigError> {
    let mut document = layers.merge()?;
    let check = Check { layers };
    let cores = resolve_cores(&check, &document, available)?;
    let config = Config {
        listen: resolve_listen(&check, &document)?,
        idle: resolve_idle(&check, &document)?,
        buffers: resolve_buffers(&check, &document)?,
        settings: resolve_settings(&check, &document)?,
        log: document.log,
        log_level: document.log_level,
        stop_timeout: Duration::from_secs(check.number(
            "stop_timeout_s",
            document.stop_timeout_s,
            0..=3600,
        )?),
        cores,
    };
    document.shards = i64::try_from(config.cores.len()).ok();
    document.cores = Some(cores::print(&config.cores));
    let printed = toml::to_string_pretty(&document)
        .map_err(|error| check.wrong("configuration", error.to_string()))?;
    Ok(Loaded { warnings: warnings(layers, &config), config, printed })
}

fn warnings(layers: &Layers, config: &Config) -> Vec<String> {
    let unknown = layers.unknown_variables.iter();
    let mut warnings: Vec<_> = unknown
        .map(|name| format!("environment variable {name} is no setting of muring; ignored"))
        .collect();
    let mut distinct = config.cores.clone();
    distinct.sort_unstable();
    distinct.dedup();
    if distinct.len() < config.cores.len() {
        warnings.push(format!(
            "{} shards share {} cores; one shard per core is faster",
            config.cores.len(),
            distinct.len()
        ));
    }
    warnings
}

/// Blames a key.
struct Check<'a> {
    layers: &'a Layers,
}

impl Check<'_> {
    fn wrong(&self, key: &str, problem: String) -> ConfigError {
        let place = self.layers.source_of(&Key::parse(key));
        ConfigError::Value { place, key: key.to_owned(), problem }
    }

    /// The value in the type it is needed in, if it is in the range.
    fn number<T: TryFrom<i64>>(
        &self,
        key: &str,
        value: i64,
        range: RangeInclusive<i64>,
    ) -> Result<T, ConfigError> {
        let (from, to) = (*range.start(), *range.end());
        let valid = range.contains(&value).then(|| T::try_from(value).ok()).flatten();
        valid.ok_or_else(|| self.wrong(key, format!("{value} is not in the range {from} to {to}")))
    }
}

fn resolve_listen(
    check: &Check<'_>,
    document: &Document,
) -> Result<Vec<(u16, SocketAddr)>, ConfigError> {
    if document.listen.is_empty() {
        return Err(check.wrong("listen", "empty; give at least one address".to_owned()));
    }
    let mut addresses = Vec::new();
    for (position, text) in (0_u16..).zip(&document.listen) {
        let resolved = text.to_socket_addrs().map_err(|error| {
            let example = "give HOST:PORT, for example 127.0.0.1:1883 or [::]:1883";
            check.wrong("listen", format!("{text:?}: {error}; {example}"))
        })?;
        addresses.extend(resolved.map(|address| (position, address)));
    }
    for (index, (_, address)) in addresses.iter().enumerate() {
        let earlier = addresses.get(..index).unwrap_or_default();
        if address.port() != 0 && earlier.iter().any(|(_, other)| other == address) {
            return Err(check.wrong("listen", format!("{address} is given twice")));
        }
    }
    Ok(addresses)
}

fn resolve_cores(
    check: &Check<'_>,
    document: &Document,
    available: &[usize],
) -> Result<Vec<usize>, ConfigError> {
    let shards_max = i64::try_from(SHARDS_MAX).unwrap_or(i64::MAX);
    let shards = document.shards.map(|n| check.number::<usize>("shards", n, 1..=shards_max));
    let listed = document.cores.as_deref().map(cores::parse).transpose();
    let listed = listed.map_err(|problem| check.wrong("cores", problem))?;
    cores::assign(shards.transpose()?, listed.as_deref(), available)
        .map_err(|problem| check.wrong("cores", problem))
}

fn resolve_idle(check: &Check<'_>, document: &Document) -> Result<Idle, ConfigError> {
    match &document.idle {
        IdleValue::Word(word) if word == "spin" => Ok(Idle::Spin),
        IdleValue::Word(word) if word == "park" => Ok(Idle::Park(Duration::ZERO)),
        IdleValue::Word(word) => {
            let right = "spin, park or a number of microseconds";
            Err(check.wrong("idle", format!("{word:?} is not {right}")))
        }
        IdleValue::Micros(micros) => {
            Ok(Idle::Park(Duration::from_micros(check.number("idle", *micros, 0..=1_000_000)?)))
        }
    }
}

fn resolve_buffers(check: &Check<'_>, document: &Document) -> Result<BufferSizes, ConfigError> {
    let reactor = &document.reactor;
    let key = "reactor.receive_buffers";
    let count: u16 = check.number(key, reactor.receive_buffers, 1..=32_768)?;
    if !count.is_power_of_two() {
        return Err(check.wrong(key, format!("{count} is not a power of two")));
    }
    let bytes = check.number(
        "reactor.receive_buffer_bytes",
        reactor.receive_buffer_bytes,
        256..=4 * 1024 * 1024,
    )?;
    Ok(BufferSizes { count, bytes })
}

fn resolve_settings(check: &Check<'_>, document: &Document) -> Result<Settings, ConfigError> {
    let Document { limits, session, retained, share, mqtt, sys, reactor, .. } = document;
    let mailbox_min = i64::try_from(MAILBOX_BYTES / 4).unwrap_or(0);
    let n = check;
    Ok(Settings {
        // There is no durable store behind the seam yet, so nobody can ask to wait for it.
        is_durable: false,
        packet_bytes_max: n.number(
            "limits.packet_bytes_max",
            limits.packet_bytes_max,
            256..=PACKET_BYTES_MAX,
        )?,
        connect_timeout_ms: n.number(
            "limits.connect_timeout_ms",
            limits.connect_timeout_ms,
            100..=DAY_MS,
        )?,
        linger_ms: n.number("limits.linger_ms", limits.linger_ms, 0..=DAY_MS)?,
        out_bytes_max: n.number("limits.out_bytes_max", limits.out_bytes_max, 1024..=1 << 30)?,
        connections_max: n.number("limits.connections_max", limits.connections_max, 1..=U32_MAX)?,
        sessions_max: n.number("limits.sessions_max", limits.sessions_max, 1..=U32_MAX)?,
        subscriptions_max: n.number(
            "limits.subscriptions_max",
            limits.subscriptions_max,
            1..=U32_MAX,
        )?,
        topic_levels_max: n.number(
            "limits.topic_levels_max",
            limits.topic_levels_max,
            1..=U16_MAX,
        )?,
        client_id_bytes_max: n.number(
            "limits.client_id_bytes_max",
            limits.client_id_bytes_max,
            23..=U16_MAX,
        )?,
        keep_alive_max_s: n.number(
            "session.keep_alive_max_s",
            session.keep_alive_max_s,
            0..=U16_MAX,
        )?,
        session_expiry_max_s: n.number(
            "session.expiry_max_s",
            session.expiry_max_s,
            0..=U32_MAX,
        )?,
        receive_maximum: n.number(
            "session.receive_maximum",
            session.receive_maximum,
            1..=U16_MAX,
        )?,
        inflight_max: n.number("session.inflight_max", session.inflight_max, 1..=U16_MAX)?,
        topic_alias_max: n.number(
            "session.topic_alias_max",
            session.topic_alias_max,
            0..=U16_MAX,
        )?,
        topic_alias_out_max: n.number(
            "session.topic_alias_out_max",
            session.topic_alias_out_max,
            0..=U16_MAX,
        )?,
        queue_messages_max: n.number(
            "session.queue_messages_max",
            session.queue_messages_max,
            0..=U32_MAX,
        )?,
        queue_bytes_max: n.number(
            "session.queue_bytes_max",
            session.queue_bytes_max,
            0..=BYTES_MAX,
        )?,
        overflow: session.overflow,
        empty_client_id: session.empty_client_id,
        retained_messages_max: n.number(
            "retained.messages_max",
            retained.messages_max,
            0..=U32_MAX,
        )?,
        retained_bytes_max: n.number("retained.bytes_max", retained.bytes_max, 0..=BYTES_MAX)?,
        retain_available: retained.available,
        share_strategy: share.strategy,
        shared_available: share.available,
        sys_interval_s: n.number("sys.interval_s", sys.interval_s, 0..=U16_MAX)?,
        maximum_qos: n
            .number("mqtt.maximum_qos", mqtt.maximum_qos, 0..=2)
            .map(|bits| QoS::from_bits(bits).unwrap_or(QoS::ExactlyOnce))?,
        wildcard_available: mqtt.wildcard_available,
        subscription_ids_available: mqtt.subscription_ids_available,
        mailbox_bytes: n.number(
            "reactor.mailbox_bytes",
            reactor.mailbox_bytes,
            mailbox_min..=1 << 30,
        )?,
    })
}
