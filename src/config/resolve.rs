//! From what was written to what is meant: ranges, relations between settings, addresses, cores.

use std::ops::RangeInclusive;
use std::time::Duration;

use shards::ids::QoS;
use shards::limits::{MAIL_INLINE_BYTES_MAX, REMAINING_LENGTH_MAX, SHARDS_MAX, Settings};

use super::document::{Document, IdleValue};
use super::keys::Key;
use super::layers::Layers;
use super::references::References;
use super::warnings::warnings;
use super::{Config, ConfigError, Loaded, admission, auth, listeners};
use crate::cores;
use crate::reactor::{BufferSizes, Idle};

/// Largest packet: fixed header and the longest remaining length.
pub(super) const PACKET_BYTES_MAX: i64 = REMAINING_LENGTH_MAX as i64 + 5;

/// A day: longer timeouts are a mistake in the unit.
const DAY_MS: i64 = 24 * 3600 * 1000;

const U16_MAX: i64 = u16::MAX as i64;
const U32_MAX: i64 = u32::MAX as i64;

/// Bytes that may wait for one socket: what one send operation can take.
const OUT_BYTES_MAX: i64 = 1 << 30;

/// Eight of the largest inline mails, as for the default.
const MAILBOX_BYTES_MIN: i64 = MAIL_INLINE_BYTES_MAX as i64 * 8;
const MAILBOX_BYTES_MAX: i64 = 1 << 30;

/// A terabyte: more is a mistake in the unit.
const BYTES_MAX: i64 = 1 << 40;

pub(super) fn resolve(layers: &Layers, available: &[usize]) -> Result<Loaded, ConfigError> {
    let mut document = layers.merge()?;
    let check = Check { layers };
    let cores = resolve_cores(&check, &document, available)?;
    let auth = auth::resolve(&check, &mut document.auth)?;
    let acl = Key::parse("acl.file");
    let acl = References { layers }.optional_path(&acl, &mut document.acl.file)?;
    let listeners = listeners::resolve(&check, &mut document, &auth)?;
    let mut settings = resolve_settings(&check, &document)?;
    settings.listeners = listeners::settings_of(&listeners, cores.len());
    let config = Config {
        listeners,
        auth,
        acl,
        admission: admission::resolve(&check, &document.admission)?,
        idle: resolve_idle(&check, &document)?,
        buffers: resolve_buffers(&check, &document)?,
        settings,
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

/// Blames a key.
#[derive(Debug)]
pub(super) struct Check<'a> {
    pub(super) layers: &'a Layers,
}

impl Check<'_> {
    pub(super) fn wrong(&self, key: &str, problem: String) -> ConfigError {
        self.layers.wrong(&Key::parse(key), problem)
    }

    /// The value in the type it is needed in, if it is in the range.
    pub(super) fn number<T: TryFrom<i64>>(
        &self,
        key: &str,
        value: i64,
        range: RangeInclusive<i64>,
    ) -> Result<T, ConfigError> {
        self.number_at(&Key::parse(key), value, range)
    }

    /// Like [`Self::number`], for a key that is read already.
    pub(super) fn number_at<T: TryFrom<i64>>(
        &self,
        key: &Key,
        value: i64,
        range: RangeInclusive<i64>,
    ) -> Result<T, ConfigError> {
        let (from, to) = (*range.start(), *range.end());
        let valid = range.contains(&value).then(|| T::try_from(value).ok()).flatten();
        let problem = || format!("{value} is not in the range {from} to {to}");
        valid.ok_or_else(|| self.layers.wrong(key, problem()))
    }
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
    let mut settings = Settings::default();
    apply_limits(check, document, &mut settings)?;
    apply_session(check, document, &mut settings)?;
    let Document { retained, share, mqtt, sys, reactor, .. } = document;
    settings.retained_messages_max =
        check.number("retained.messages_max", retained.messages_max, 0..=U32_MAX)?;
    settings.retained_bytes_max =
        check.number("retained.bytes_max", retained.bytes_max, 0..=BYTES_MAX)?;
    settings.retain_available = retained.available;
    settings.share_strategy = share.strategy;
    settings.shared_available = share.available;
    settings.sys_interval_s = check.number("sys.interval_s", sys.interval_s, 0..=U16_MAX)?;
    let qos: u8 = check.number("mqtt.maximum_qos", mqtt.maximum_qos, 0..=2)?;
    settings.maximum_qos = QoS::from_bits(qos).unwrap_or(QoS::ExactlyOnce);
    settings.wildcard_available = mqtt.wildcard_available;
    settings.subscription_ids_available = mqtt.subscription_ids_available;
    let range = MAILBOX_BYTES_MIN..=MAILBOX_BYTES_MAX;
    settings.mailbox_bytes = check.number("reactor.mailbox_bytes", reactor.mailbox_bytes, range)?;
    Ok(settings)
}

fn apply_limits(
    check: &Check<'_>,
    document: &Document,
    to: &mut Settings,
) -> Result<(), ConfigError> {
    let from = &document.limits;
    let number = |name: &str, value, range| check.number(&format!("limits.{name}"), value, range);
    to.packet_bytes_max =
        number("packet_bytes_max", from.packet_bytes_max, 256..=PACKET_BYTES_MAX)?;
    let range = 256..=PACKET_BYTES_MAX;
    to.connect_packet_bytes_max =
        number("connect_packet_bytes_max", from.connect_packet_bytes_max, range)?;
    to.connect_timeout_ms = number("connect_timeout_ms", from.connect_timeout_ms, 100..=DAY_MS)?;
    to.linger_ms = number("linger_ms", from.linger_ms, 0..=DAY_MS)?;
    to.out_bytes_max = number("out_bytes_max", from.out_bytes_max, 1024..=OUT_BYTES_MAX)?;
    to.turn_packets_max = number("turn_packets_max", from.turn_packets_max, 1..=U32_MAX)?;
    to.connections_max = number("connections_max", from.connections_max, 1..=U32_MAX)?;
    to.sessions_max = number("sessions_max", from.sessions_max, 1..=U32_MAX)?;
    to.subscriptions_max = number("subscriptions_max", from.subscriptions_max, 1..=U32_MAX)?;
    let levels = check.number("limits.topic_levels_max", from.topic_levels_max, 1..=U16_MAX)?;
    to.topic_levels_max = levels;
    // 23 bytes are what every server must take (MQTT 3.1.1 and 5.0, section 3.1.3.1).
    let range = 23..=U16_MAX;
    to.client_id_bytes_max =
        check.number("limits.client_id_bytes_max", from.client_id_bytes_max, range)?;
    Ok(())
}

fn apply_session(
    check: &Check<'_>,
    document: &Document,
    to: &mut Settings,
) -> Result<(), ConfigError> {
    let from = &document.session;
    let number = |name: &str, value, range| check.number(&format!("session.{name}"), value, range);
    to.keep_alive_max_s = number("keep_alive_max_s", from.keep_alive_max_s, 0..=U16_MAX)?;
    to.receive_maximum = number("receive_maximum", from.receive_maximum, 1..=U16_MAX)?;
    to.inflight_max = number("inflight_max", from.inflight_max, 1..=U16_MAX)?;
    to.topic_alias_max = number("topic_alias_max", from.topic_alias_max, 0..=U16_MAX)?;
    to.topic_alias_out_max = number("topic_alias_out_max", from.topic_alias_out_max, 0..=U16_MAX)?;
    // One alias can stand for the longest topic.
    let range = U16_MAX..=U32_MAX;
    to.topic_alias_bytes_max =
        check.number("session.topic_alias_bytes_max", from.topic_alias_bytes_max, range)?;
    to.session_expiry_max_s =
        check.number("session.expiry_max_s", from.expiry_max_s, 0..=U32_MAX)?;
    to.queue_messages_max =
        check.number("session.queue_messages_max", from.queue_messages_max, 0..=U32_MAX)?;
    to.queue_bytes_max =
        check.number("session.queue_bytes_max", from.queue_bytes_max, 0..=BYTES_MAX)?;
    to.overflow = from.overflow;
    to.empty_client_id = from.empty_client_id;
    Ok(())
}
