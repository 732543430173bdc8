//! What looks like a mistake, but need not be one.

use std::net::SocketAddr;
use std::path::Path;

use super::layers::Layers;
use super::references::exposed;
use super::{Config, ListenerConfig, Method, Place, Secret};

pub(super) fn warnings(layers: &Layers, config: &Config) -> Vec<String> {
    let secrets = secrets(config);
    let is_ours = |name: &&String| {
        secrets.iter().any(|secret| matches!(secret, Secret::Variable(ours) if ours == *name))
    };
    let unknown = layers.unknown_variables.iter().filter(|name| !is_ours(name));
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
    warnings.extend(config.listeners.iter().filter_map(open_to_all));
    warnings.extend(config.listeners.iter().filter_map(readable_on_the_way));
    warnings.extend(files(config, &secrets).filter_map(exposed));
    warnings
}

/// All secrets that are named.
fn secrets(config: &Config) -> Vec<&Secret> {
    let tls = config.listeners.iter().filter_map(|listener| listener.tls.as_ref());
    let keys = tls.flat_map(|tls| &tls.certificates).map(|pair| &pair.key);
    keys.chain(config.auth.jwt.iter().filter_map(|jwt| jwt.secret.as_ref())).collect()
}

/// Files that only the broker should be able to read. The hashes of passwords are worth guessing at.
fn files<'a>(config: &'a Config, secrets: &'a [&Secret]) -> impl Iterator<Item = &'a Path> {
    let named = secrets.iter().filter_map(|secret| match secret {
        Secret::File(path) => Some(path.as_path()),
        Secret::Variable(_) => None,
    });
    let mut files: Vec<_> = named.chain(config.auth.password_file.as_deref()).collect();
    files.sort_unstable();
    files.dedup();
    files.into_iter()
}

fn open_to_all(listener: &ListenerConfig) -> Option<String> {
    let address = public(listener)?;
    let is_open = listener.authentication.contains(&Method::Anonymous);
    is_open
        .then(|| format!("{address}: clients need no password here, and the network can reach it"))
}

/// A proxy in front may well have done the TLS.
fn readable_on_the_way(listener: &ListenerConfig) -> Option<String> {
    let address = public(listener)?;
    let sends_secrets = |method: &Method| match method {
        Method::Password | Method::Http | Method::Jwt => true,
        Method::X509 | Method::Scram | Method::Anonymous => false,
    };
    let is_readable = listener.tls.is_none() && listener.proxy_networks.is_none();
    let has_secrets = listener.authentication.iter().any(sends_secrets);
    (is_readable && has_secrets).then(|| {
        format!("{address}: passwords and tokens are readable on the way; use mqtts or wss")
    })
}

/// The first address that others than this machine may reach.
fn public(listener: &ListenerConfig) -> Option<SocketAddr> {
    match &listener.place {
        Place::Tcp(all) => all.iter().find(|address| !address.ip().is_loopback()).copied(),
        Place::Unix(_) => None,
    }
}
