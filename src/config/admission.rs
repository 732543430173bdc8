//! Limits on who comes, how often, and how often in vain.

use std::net::IpAddr;

use ipnet::IpNet;

use super::ConfigError;
use super::keys::Key;
use super::layers::Layers;
use super::resolve::Check;
use super::tables::{AdmissionTable, ListenerAdmissionTable};

/// A day: longer penalties are a mistake in the unit.
const DAY_S: i64 = 24 * 3600;

const U32_MAX: i64 = u32::MAX as i64;

/// Limits of one listener on new connections. They are for the whole broker; 0 is no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AdmissionLimits {
    pub connects_per_s: u32,
    pub connects_per_s_per_source: u32,
    /// Connections that have not been let in yet.
    pub handshakes_max: u32,
    pub handshakes_max_per_source: u32,
    /// Failed authentications of a source after which it is refused for a while.
    pub failures_max: u32,
    /// How long it is refused first; doubled with each further failure.
    pub penalty_s: u32,
    pub penalty_max_s: u32,
}

/// What holds for all listeners.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AdmissionConfig {
    pub deny_networks: Vec<IpNet>,
    pub deny_client_ids: Vec<String>,
    /// Connects of one client identifier within the window after which it is refused for a while. 0: any
    /// number.
    pub flapping_connects_max: u32,
    pub flapping_window_s: u32,
    pub flapping_penalty_s: u32,
}

pub(super) fn resolve(
    check: &Check<'_>,
    table: &AdmissionTable,
) -> Result<AdmissionConfig, ConfigError> {
    let number =
        |name: &str, value, from| check.number(&format!("admission.{name}"), value, from..=DAY_S);
    let key = "admission.flapping_connects_max";
    let deny_client_ids = &table.deny_client_ids;
    if deny_client_ids.iter().any(String::is_empty) {
        return Err(
            check.wrong("admission.deny_client_ids", "an empty client identifier".to_owned())
        );
    }
    Ok(AdmissionConfig {
        deny_networks: networks(
            check.layers,
            &Key::parse("admission.deny_networks"),
            &table.deny_networks,
        )?,
        deny_client_ids: deny_client_ids.clone(),
        flapping_connects_max: check.number(key, table.flapping_connects_max, 0..=U32_MAX)?,
        flapping_window_s: number("flapping_window_s", table.flapping_window_s, 1)?,
        flapping_penalty_s: number("flapping_penalty_s", table.flapping_penalty_s, 1)?,
    })
}

/// The limits of the listener whose table stands under `own`, or those of all.
pub(super) fn resolve_limits(
    check: &Check<'_>,
    table: &AdmissionTable,
    own: Option<(&Key, &ListenerAdmissionTable)>,
) -> Result<AdmissionLimits, ConfigError> {
    let limit = |name: &str, all: i64, own_value: Option<i64>, to: i64| {
        let shared = Key::parse("admission").child(name);
        let (key, value) = match (own, own_value) {
            (Some((own, _)), Some(value)) => (own.child(name), value),
            (Some(_) | None, _) => (shared, all),
        };
        check.number_at(&key, value, 0..=to)
    };
    let none = ListenerAdmissionTable::default();
    let of = own.map_or(&none, |(_, own)| own);
    let limits = AdmissionLimits {
        connects_per_s: limit("connects_per_s", table.connects_per_s, of.connects_per_s, U32_MAX)?,
        connects_per_s_per_source: limit(
            "connects_per_s_per_source",
            table.connects_per_s_per_source,
            of.connects_per_s_per_source,
            U32_MAX,
        )?,
        handshakes_max: limit("handshakes_max", table.handshakes_max, of.handshakes_max, U32_MAX)?,
        handshakes_max_per_source: limit(
            "handshakes_max_per_source",
            table.handshakes_max_per_source,
            of.handshakes_max_per_source,
            U32_MAX,
        )?,
        failures_max: limit("failures_max", table.failures_max, of.failures_max, U32_MAX)?,
        penalty_s: limit("penalty_s", table.penalty_s, of.penalty_s, DAY_S)?,
        penalty_max_s: limit("penalty_max_s", table.penalty_max_s, of.penalty_max_s, DAY_S)?,
    };
    if limits.penalty_max_s < limits.penalty_s {
        let problem = format!(
            "penalty_max_s ({}) is less than penalty_s ({})",
            limits.penalty_max_s, limits.penalty_s
        );
        let key = blamed_penalty(check.layers, own);
        return Err(check.layers.wrong(&key, problem));
    }
    Ok(limits)
}

/// The key that somebody wrote: the closest one.
fn blamed_penalty(layers: &Layers, own: Option<(&Key, &ListenerAdmissionTable)>) -> Key {
    let names = ["penalty_max_s", "penalty_s"];
    let own = own.into_iter().flat_map(|(own, _)| names.map(|name| own.child(name)));
    let mut keys = own.chain(names.map(|name| Key::parse("admission").child(name)));
    let shared = Key::parse("admission.penalty_max_s");
    keys.find(|key| layers.is_given(key)).unwrap_or(shared)
}

/// Networks in CIDR notation; a single address is one of its own.
pub(super) fn networks(
    layers: &Layers,
    key: &Key,
    texts: &[String],
) -> Result<Vec<IpNet>, ConfigError> {
    let network = |text: &String| {
        let network = text.parse::<IpNet>().ok();
        let network = network.or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from));
        network.map(|network| network.trunc()).ok_or_else(|| {
            let example = "give NETWORK/BITS, for example 10.0.0.0/8 or fd00::/8";
            layers.wrong(key, format!("{text:?} is no network; {example}"))
        })
    };
    texts.iter().map(network).collect()
}
