//! The configuration file's shape: every key, its type and its default.
//!
//! The same shape serves for reading the file, for the values of the environment and of flags, and
//! for printing. Ranges are checked in `resolve`; this only knows types.

use serde::{Deserialize, Serialize};
use shards::ids::QoS;
use shards::limits::{OverflowPolicy, Settings, ShareStrategy};

use super::tables::{AclTable, AdmissionTable, AuthTable, ListenerTable};

/// Keys of texts that have no default to print. (`shards`, a number, and `cores` follow from the
/// machine.)
pub(super) const TEXTS_WITHOUT_DEFAULT: [&str; 12] = [
    "cores",
    "acl.file",
    "auth.password.file",
    "auth.jwt.secret",
    "auth.jwt.jwks",
    "auth.jwt.audience",
    "auth.jwt.issuer",
    "auth.jwt.client_id_claim",
    "auth.jwt.publish_claim",
    "auth.jwt.subscribe_claim",
    "auth.http.url",
    "auth.http.ca",
];

#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Document {
    pub(super) listen: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) shards: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) cores: Option<String>,
    pub(super) idle: IdleValue,
    pub(super) log: LogFormat,
    pub(super) log_level: LogLevel,
    pub(super) stop_timeout_s: i64,
    pub(super) limits: Limits,
    pub(super) session: Session,
    pub(super) retained: Retained,
    pub(super) share: Share,
    pub(super) mqtt: Mqtt,
    pub(super) sys: Sys,
    pub(super) reactor: ReactorSection,
    pub(super) admission: AdmissionTable,
    pub(super) acl: AclTable,
    pub(super) auth: AuthTable,
    pub(super) listener: Vec<ListenerTable>,
}

/// `spin`, `park` or microseconds.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(untagged)]
pub(super) enum IdleValue {
    Micros(i64),
    Word(String),
}

/// Form of the log lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    Text,
    Json,
}

/// Least severe level that is logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum LogLevel {
    Error,
    Warn,
    Info,
    Debug,
    Trace,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Limits {
    pub(super) packet_bytes_max: i64,
    pub(super) connect_packet_bytes_max: i64,
    pub(super) connect_timeout_ms: i64,
    pub(super) linger_ms: i64,
    pub(super) out_bytes_max: i64,
    pub(super) turn_packets_max: i64,
    pub(super) connections_max: i64,
    pub(super) sessions_max: i64,
    pub(super) subscriptions_max: i64,
    pub(super) topic_levels_max: i64,
    pub(super) client_id_bytes_max: i64,
    pub(super) publishes_per_s: i64,
    pub(super) bytes_per_s: i64,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Session {
    pub(super) keep_alive_max_s: i64,
    pub(super) expiry_max_s: i64,
    pub(super) receive_maximum: i64,
    pub(super) inflight_max: i64,
    pub(super) topic_alias_max: i64,
    pub(super) topic_alias_out_max: i64,
    pub(super) topic_alias_bytes_max: i64,
    pub(super) queue_messages_max: i64,
    pub(super) queue_bytes_max: i64,
    #[serde(with = "OverflowValue")]
    pub(super) overflow: OverflowPolicy,
    pub(super) empty_client_id: bool,
}

#[derive(Deserialize, Serialize)]
#[serde(remote = "OverflowPolicy", rename_all = "snake_case")]
enum OverflowValue {
    DropOldest,
    DropNewest,
    Refuse,
    Disconnect,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Retained {
    pub(super) available: bool,
    pub(super) messages_max: i64,
    pub(super) bytes_max: i64,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Share {
    pub(super) available: bool,
    #[serde(with = "StrategyValue")]
    pub(super) strategy: ShareStrategy,
}

#[derive(Deserialize, Serialize)]
#[serde(remote = "ShareStrategy", rename_all = "snake_case")]
enum StrategyValue {
    RoundRobin,
    Random,
    Sticky,
    HashClient,
    HashTopic,
    LeastInflight,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Mqtt {
    pub(super) maximum_qos: i64,
    pub(super) wildcard_available: bool,
    pub(super) subscription_ids_available: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Sys {
    pub(super) interval_s: i64,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct ReactorSection {
    pub(super) receive_buffers: i64,
    pub(super) receive_buffer_bytes: i64,
    pub(super) mailbox_bytes: i64,
}

impl Default for Document {
    fn default() -> Self {
        Self {
            listen: vec!["127.0.0.1:1883".to_owned()],
            shards: None,
            cores: None,
            // Watching costs the neighbours of a shared core more than a wake-up costs a client; a
            // machine with cores to spare says so with a number or `spin`.
            idle: IdleValue::Word("park".to_owned()),
            log: LogFormat::Text,
            log_level: LogLevel::Info,
            stop_timeout_s: 10,
            limits: Limits::default(),
            session: Session::default(),
            retained: Retained::default(),
            share: Share::default(),
            mqtt: Mqtt::default(),
            sys: Sys::default(),
            reactor: ReactorSection::default(),
            admission: AdmissionTable::default(),
            acl: AclTable::default(),
            auth: AuthTable::default(),
            listener: Vec::new(),
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        let from = Settings::default();
        Self {
            packet_bytes_max: from.packet_bytes_max.into(),
            connect_packet_bytes_max: from.connect_packet_bytes_max.into(),
            connect_timeout_ms: from.connect_timeout_ms.into(),
            linger_ms: from.linger_ms.into(),
            out_bytes_max: from.out_bytes_max.into(),
            turn_packets_max: from.turn_packets_max.into(),
            connections_max: from.connections_max.into(),
            sessions_max: from.sessions_max.into(),
            subscriptions_max: from.subscriptions_max.into(),
            topic_levels_max: from.topic_levels_max.into(),
            client_id_bytes_max: from.client_id_bytes_max.into(),
            // 0 is no limit.
            publishes_per_s: 0,
            bytes_per_s: 0,
        }
    }
}

impl Default for Session {
    fn default() -> Self {
        let from = Settings::default();
        Self {
            keep_alive_max_s: from.keep_alive_max_s.into(),
            expiry_max_s: from.session_expiry_max_s.into(),
            receive_maximum: from.receive_maximum.into(),
            inflight_max: from.inflight_max.into(),
            topic_alias_max: from.topic_alias_max.into(),
            topic_alias_out_max: from.topic_alias_out_max.into(),
            topic_alias_bytes_max: from.topic_alias_bytes_max.into(),
            queue_messages_max: from.queue_messages_max.into(),
            queue_bytes_max: i64::try_from(from.queue_bytes_max).unwrap_or(i64::MAX),
            overflow: from.overflow,
            empty_client_id: from.empty_client_id,
        }
    }
}

impl Default for Retained {
    fn default() -> Self {
        let from = Settings::default();
        Self {
            available: from.retain_available,
            messages_max: from.retained_messages_max.into(),
            bytes_max: i64::try_from(from.retained_bytes_max).unwrap_or(i64::MAX),
        }
    }
}

impl Default for Share {
    fn default() -> Self {
        let from = Settings::default();
        Self { available: from.shared_available, strategy: from.share_strategy }
    }
}

impl Default for Mqtt {
    fn default() -> Self {
        let from = Settings::default();
        Self {
            maximum_qos: match from.maximum_qos {
                QoS::AtMostOnce => 0,
                QoS::AtLeastOnce => 1,
                QoS::ExactlyOnce => 2,
            },
            wildcard_available: from.wildcard_available,
            subscription_ids_available: from.subscription_ids_available,
        }
    }
}

impl Default for Sys {
    fn default() -> Self {
        Self { interval_s: Settings::default().sys_interval_s.into() }
    }
}

impl Default for ReactorSection {
    fn default() -> Self {
        let from = Settings::default();
        Self {
            receive_buffers: 256,
            receive_buffer_bytes: 16 * 1024,
            mailbox_bytes: i64::try_from(from.mailbox_bytes).unwrap_or(i64::MAX),
        }
    }
}
