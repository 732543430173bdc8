//! Listeners: where each is, what is spoken on it, who may come in.

use std::collections::BTreeSet;
use std::net::{SocketAddr, ToSocketAddrs as _};
use std::path::PathBuf;
use std::sync::Arc;

use ipnet::IpNet;
use shards::ids::Version;
use shards::limits::{ListenerSettings, MOUNT_BYTES_MAX, Versions};

use super::ConfigError;
use super::admission::{self, AdmissionLimits};
use super::auth::AuthConfig;
use super::document::Document;
use super::keys::Key;
use super::references::{References, Secret};
use super::resolve::{Check, PACKET_BYTES_MAX};
use super::tables::{
    CertificateIdentity, ClientCertificates, Kind, ListenerTable, Method, TlsTable, TlsVersion,
    WebSocketTable,
};
use crate::accounts::Owner;

const U32_MAX: i64 = u32::MAX as i64;

/// What the kernel takes as the path of a unix socket, its end included.
const SOCKET_PATH_BYTES_MAX: usize = 108;

/// Only the owner's and group's processes connect, unless the operator says more.
const SOCKET_MODE: u32 = 0o660;

/// Where browsers expect MQTT over WebSocket.
const WEBSOCKET_PATH: &str = "/mqtt";

/// One listener of the configuration. Its position in [`super::Config::listeners`] is what the core
/// calls it by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListenerConfig {
    pub kind: Kind,
    pub place: Place,
    /// Each connection begins with a PROXY header, and comes from one of these networks or is refused.
    pub proxy_networks: Option<Vec<IpNet>>,
    /// For the whole broker.
    pub connections_max: Option<u32>,
    pub packet_bytes_max: Option<u32>,
    /// In ascending order, each once, at least one.
    pub versions: Vec<Version>,
    pub mount_point: Option<String>,
    /// For each client; `None` is no limit.
    pub publishes_per_s: Option<u32>,
    pub bytes_per_s: Option<u32>,
    /// In this order; the first that applies decides.
    pub authentication: Vec<Method>,
    pub admission: AdmissionLimits,
    /// There exactly for `ws` and `wss`.
    pub websocket: Option<WebSocketConfig>,
    /// There exactly for `mqtts` and `wss`.
    pub tls: Option<TlsConfig>,
}

/// Where a listener is found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// A host name may mean several addresses.
    Tcp(Vec<SocketAddr>),
    Unix(UnixPlace),
}

/// A unix socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnixPlace {
    pub path: PathBuf,
    pub mode: u32,
    pub owner: Owner,
    /// The user of the process at the other end is who the client is.
    pub peer_credentials: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WebSocketConfig {
    pub path: String,
    /// Whose pages may connect: only `*`, which is all, or origins. Clients that are no browsers have none.
    pub origins: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsConfig {
    /// For the server names that stand in them; the first is the default. At least one.
    pub certificates: Vec<CertificateConfig>,
    pub client_ca: Option<PathBuf>,
    pub crl: Option<PathBuf>,
    pub client_certificates: ClientCertificates,
    pub identity: CertificateIdentity,
    pub minimum_version: TlsVersion,
}

/// A chain and its key, both in PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateConfig {
    pub certificate: PathBuf,
    pub key: Secret,
}

impl ListenerConfig {
    /// A plain listener with the defaults of everything.
    #[must_use]
    pub fn plain(addresses: Vec<SocketAddr>) -> Self {
        Self {
            kind: Kind::Mqtt,
            place: Place::Tcp(addresses),
            proxy_networks: None,
            connections_max: None,
            packet_bytes_max: None,
            versions: vec![Version::V31, Version::V311, Version::V5],
            mount_point: None,
            publishes_per_s: None,
            bytes_per_s: None,
            authentication: vec![Method::Anonymous],
            admission: AdmissionLimits::default(),
            websocket: None,
            tls: None,
        }
    }

    /// What the core has to know of it, with so many shards. The connections that are allowed are shared
    /// out evenly, each shard's share rounded up.
    #[must_use]
    pub fn settings(&self, shards: usize) -> ListenerSettings {
        let shards = u32::try_from(shards).unwrap_or(u32::MAX).max(1);
        ListenerSettings {
            packet_bytes_max: self.packet_bytes_max,
            connections_max: self.connections_max.map(|most| most.div_ceil(shards)),
            versions: Versions::of(&self.versions),
            mount: self.mount_point.as_deref().map(Arc::from),
            publishes_per_s: self.publishes_per_s,
            bytes_per_s: self.bytes_per_s,
        }
    }

    /// Its addresses; none if it is a unix socket.
    #[must_use]
    pub fn addresses(&self) -> &[SocketAddr] {
        match &self.place {
            Place::Tcp(addresses) => addresses,
            Place::Unix(_) => &[],
        }
    }
}

/// What the core has to know of all of them: up to the last that has more than the defaults.
pub(super) fn settings_of(listeners: &[ListenerConfig], shards: usize) -> Vec<ListenerSettings> {
    let mut all: Vec<_> = listeners.iter().map(|listener| listener.settings(shards)).collect();
    while all.pop_if(|last| *last == ListenerSettings::default()).is_some() {}
    all
}

/// All listeners: those of `listen`, then those with tables of their own.
pub(super) fn resolve(
    check: &Check<'_>,
    document: &mut Document,
    auth: &AuthConfig,
) -> Result<Vec<ListenerConfig>, ConfigError> {
    let listen = Key::parse("listen");
    // The default is for who says nothing at all.
    if !document.listener.is_empty() && !check.layers.is_given(&listen) {
        document.listen.clear();
    }
    if document.listen.is_empty() && document.listener.is_empty() {
        return Err(check.layers.wrong(&listen, "empty; give at least one address".to_owned()));
    }
    let mut listeners = Vec::new();
    let mut taken = Taken::default();
    for text in &document.listen {
        let addresses = taken.addresses(check, &listen, text)?;
        let mut listener = ListenerConfig::plain(addresses);
        listener.admission = admission::resolve_limits(check, &document.admission, None)?;
        listener.publishes_per_s =
            rate(check, &Key::parse("limits.publishes_per_s"), document.limits.publishes_per_s)?;
        listener.bytes_per_s =
            rate(check, &Key::parse("limits.bytes_per_s"), document.limits.bytes_per_s)?;
        listeners.push(listener);
    }
    let mut tables = std::mem::take(&mut document.listener);
    for (index, table) in tables.iter_mut().enumerate() {
        let one = One { check, key: Key::element("listener", index) };
        listeners.push(one.resolve(table, document, auth, &mut taken)?);
    }
    document.listener = tables;
    if u16::try_from(listeners.len()).is_err() {
        return Err(check.layers.wrong(&listen, "more listeners than 65535".to_owned()));
    }
    Ok(listeners)
}

/// Addresses and paths that are in use already.
#[derive(Debug, Default)]
struct Taken {
    addresses: BTreeSet<SocketAddr>,
    paths: BTreeSet<PathBuf>,
}

impl Taken {
    fn addresses(
        &mut self,
        check: &Check<'_>,
        key: &Key,
        text: &str,
    ) -> Result<Vec<SocketAddr>, ConfigError> {
        let addresses = text.to_socket_addrs().map_err(|error| {
            let example = "give HOST:PORT, for example 127.0.0.1:1883 or [::]:1883";
            check.layers.wrong(key, format!("{text:?}: {error}; {example}"))
        })?;
        let addresses: Vec<_> = addresses.collect();
        for address in &addresses {
            // Port 0 is another each time.
            if address.port() != 0 && !self.addresses.insert(*address) {
                return Err(check.layers.wrong(key, format!("{address} is given twice")));
            }
        }
        Ok(addresses)
    }
}

/// A limit on what a client sends in a second. 0 is none.
fn rate(check: &Check<'_>, key: &Key, value: i64) -> Result<Option<u32>, ConfigError> {
    let rate: u32 = check.number_at(key, value, 0..=U32_MAX)?;
    Ok((rate > 0).then_some(rate))
}

/// One `[[listener]]`, which is blamed by its position.
#[derive(Debug)]
struct One<'a> {
    check: &'a Check<'a>,
    key: Key,
}

impl One<'_> {
    fn resolve(
        &self,
        table: &mut ListenerTable,
        document: &Document,
        auth: &AuthConfig,
        taken: &mut Taken,
    ) -> Result<ListenerConfig, ConfigError> {
        let place = match table.kind {
            Kind::Unix => Place::Unix(self.unix(table, taken)?),
            Kind::Mqtt | Kind::Mqtts | Kind::Ws | Kind::Wss => self.tcp(table, taken)?,
        };
        let tls = self.tls(table)?;
        let own = table.admission.as_ref();
        let own_key = self.key.child("admission");
        let listener = ListenerConfig {
            kind: table.kind,
            proxy_networks: self.proxy(table)?,
            connections_max: self.optional(
                "connections_max",
                table.connections_max,
                1..=U32_MAX,
            )?,
            packet_bytes_max: self.optional(
                "packet_bytes_max",
                table.packet_bytes_max,
                256..=PACKET_BYTES_MAX,
            )?,
            versions: self.versions(table)?,
            mount_point: self.mount_point(table)?,
            publishes_per_s: self.rate(
                "publishes_per_s",
                table.publishes_per_s,
                document.limits.publishes_per_s,
            )?,
            bytes_per_s: self.rate(
                "bytes_per_s",
                table.bytes_per_s,
                document.limits.bytes_per_s,
            )?,
            authentication: self.authentication(table, auth, &place, tls.as_ref())?,
            admission: admission::resolve_limits(
                self.check,
                &document.admission,
                own.map(|own| (&own_key, own)),
            )?,
            websocket: self.websocket(table)?,
            tls,
            place,
        };
        Ok(listener)
    }

    fn wrong(&self, name: &str, problem: impl Into<String>) -> ConfigError {
        self.check.layers.wrong(&self.key.child(name), problem.into())
    }

    fn references(&self) -> References<'_> {
        References { layers: self.check.layers }
    }

    /// Refuses keys that mean nothing on a listener of this kind.
    fn refuse<const N: usize>(
        &self,
        given: [(&str, bool); N],
        only_for: &str,
    ) -> Result<(), ConfigError> {
        match given.into_iter().find(|(_, is_given)| *is_given) {
            Some((name, _)) => {
                Err(self.wrong(name, format!("only for listeners of kind {only_for}")))
            }
            None => Ok(()),
        }
    }

    fn tcp(&self, table: &ListenerTable, taken: &mut Taken) -> Result<Place, ConfigError> {
        let given = [
            ("path", table.path.is_some()),
            ("mode", table.mode.is_some()),
            ("owner", table.owner.is_some()),
            ("peer_credentials", table.peer_credentials.is_some()),
        ];
        self.refuse(given, "unix")?;
        let Some(text) = &table.address else {
            let problem = "it has no address; give address = \"HOST:PORT\"";
            return Err(self.check.layers.wrong(&self.key, problem.to_owned()));
        };
        taken.addresses(self.check, &self.key.child("address"), text).map(Place::Tcp)
    }

    fn unix(&self, table: &mut ListenerTable, taken: &mut Taken) -> Result<UnixPlace, ConfigError> {
        let given = [
            ("address", table.address.is_some()),
            ("proxy_protocol", table.proxy_protocol.is_some()),
            ("proxy_networks", table.proxy_networks.is_some()),
        ];
        self.refuse(given, "mqtt, mqtts, ws or wss")?;
        let Some(text) = &mut table.path else {
            let problem = "it has no path; give path = \"/run/...\"";
            return Err(self.check.layers.wrong(&self.key, problem.to_owned()));
        };
        let path = self.references().path(&self.key.child("path"), text)?;
        if path.as_os_str().len() >= SOCKET_PATH_BYTES_MAX {
            let problem =
                format!("longer than the {} bytes of a socket", SOCKET_PATH_BYTES_MAX - 1);
            return Err(self.wrong("path", problem));
        }
        if !taken.paths.insert(path.clone()) {
            return Err(self.wrong("path", format!("{} is given twice", path.display())));
        }
        let mode = table.mode.as_deref().map(|text| {
            let mode = u32::from_str_radix(text, 8).ok().filter(|mode| *mode <= 0o777);
            let problem = || format!("{text:?} is no mode; give octal digits, for example \"660\"");
            mode.ok_or_else(|| self.wrong("mode", problem()))
        });
        let owner = table.owner.as_deref().map(Owner::parse).transpose();
        Ok(UnixPlace {
            path,
            mode: mode.transpose()?.unwrap_or(SOCKET_MODE),
            owner: owner.map_err(|problem| self.wrong("owner", problem))?.unwrap_or_default(),
            peer_credentials: table.peer_credentials.unwrap_or(false),
        })
    }

    fn proxy(&self, table: &ListenerTable) -> Result<Option<Vec<IpNet>>, ConfigError> {
        let key = self.key.child("proxy_networks");
        match (table.proxy_protocol, &table.proxy_networks) {
            (Some(true), Some(texts)) if !texts.is_empty() => {
                admission::networks(self.check.layers, &key, texts).map(Some)
            }
            (Some(true), _) => {
                let problem = "anybody could announce any address; name the networks that may in \
                    proxy_networks, for example [\"10.0.0.0/8\"]";
                Err(self.wrong("proxy_protocol", problem))
            }
            (Some(false) | None, Some(_)) => {
                Err(self.wrong("proxy_networks", "of no use without proxy_protocol = true"))
            }
            (Some(false) | None, None) => Ok(None),
        }
    }

    fn optional(
        &self,
        name: &str,
        value: Option<i64>,
        range: std::ops::RangeInclusive<i64>,
    ) -> Result<Option<u32>, ConfigError> {
        let key = self.key.child(name);
        value.map(|value| self.check.number_at(&key, value, range)).transpose()
    }

    /// The listener's own limit, or that of all.
    fn rate(&self, name: &str, own: Option<i64>, all: i64) -> Result<Option<u32>, ConfigError> {
        match own {
            Some(value) => rate(self.check, &self.key.child(name), value),
            None => rate(self.check, &Key::parse("limits").child(name), all),
        }
    }

    fn versions(&self, table: &ListenerTable) -> Result<Vec<Version>, ConfigError> {
        let Some(texts) = &table.protocol_versions else {
            return Ok(vec![Version::V31, Version::V311, Version::V5]);
        };
        let known = [("3.1", Version::V31), ("3.1.1", Version::V311), ("5.0", Version::V5)];
        let is_known = |text: &&String| known.iter().any(|(name, _)| name == text);
        if let Some(text) = texts.iter().find(|text| !is_known(text)) {
            let problem = format!("{text:?} is not one of \"3.1\", \"3.1.1\" and \"5.0\"");
            return Err(self.wrong("protocol_versions", problem));
        }
        let wanted = known.into_iter().filter(|(name, _)| texts.iter().any(|text| text == name));
        let versions: Vec<_> = wanted.map(|(_, version)| version).collect();
        if versions.is_empty() {
            return Err(self.wrong("protocol_versions", "empty; nobody could connect"));
        }
        Ok(versions)
    }

    fn mount_point(&self, table: &ListenerTable) -> Result<Option<String>, ConfigError> {
        let Some(text) = table.mount_point.clone() else { return Ok(None) };
        let problem = if text.is_empty() {
            "empty; leave it out"
        } else if text.contains(['+', '#', '\0']) {
            "the beginning of topics has no wildcards and no zero character"
        } else if text.starts_with('$') {
            "topics that begin with $ are the broker's"
        } else if text.len() > MOUNT_BYTES_MAX {
            "longer than 1024 bytes"
        } else if !text.ends_with('/') {
            "it stands in front of each topic; end it with a slash, for example \"factory/\""
        } else {
            return Ok(Some(text));
        };
        Err(self.wrong("mount_point", problem))
    }

    fn authentication(
        &self,
        table: &ListenerTable,
        auth: &AuthConfig,
        place: &Place,
        tls: Option<&TlsConfig>,
    ) -> Result<Vec<Method>, ConfigError> {
        let Some(methods) = &table.authentication else { return Ok(vec![Method::Anonymous]) };
        let wrong = |problem: &str| self.wrong("authentication", problem);
        let Some((last, others)) = methods.split_last() else {
            return Err(wrong("empty; nobody could connect"));
        };
        if others.contains(&Method::Anonymous) {
            return Err(wrong("nothing behind \"anonymous\" would ever be asked; put it last"));
        }
        if others.contains(last) || (1..others.len()).any(|n| others[..n].contains(&others[n])) {
            return Err(wrong("a method is given twice"));
        }
        let knows_peer = match place {
            Place::Tcp(_) => tls.is_some_and(|tls| tls.identity != CertificateIdentity::None),
            Place::Unix(unix) => unix.peer_credentials,
        };
        for method in methods {
            let missing = match method {
                Method::X509 if !knows_peer => {
                    "\"x509\" needs client certificates and an identity in [listener.tls], or \
                     peer_credentials on a unix socket"
                }
                Method::Jwt if auth.jwt.is_none() => {
                    "\"jwt\" needs secret, key_files or jwks in [auth.jwt]"
                }
                Method::Password | Method::Scram if auth.password_file.is_none() => {
                    "\"password\" and \"scram\" need file in [auth.password]"
                }
                Method::Http if auth.http.is_none() => "\"http\" needs url in [auth.http]",
                Method::X509
                | Method::Jwt
                | Method::Password
                | Method::Http
                | Method::Scram
                | Method::Anonymous => continue,
            };
            return Err(wrong(missing));
        }
        Ok(methods.clone())
    }

    fn websocket(&self, table: &ListenerTable) -> Result<Option<WebSocketConfig>, ConfigError> {
        if !matches!(table.kind, Kind::Ws | Kind::Wss) {
            self.refuse([("websocket", table.websocket.is_some())], "ws or wss")?;
            return Ok(None);
        }
        let WebSocketTable { path, origins } = table.websocket.clone().unwrap_or_default();
        let path = path.unwrap_or_else(|| WEBSOCKET_PATH.to_owned());
        if !path.starts_with('/') || path.contains(|c: char| !c.is_ascii_graphic() || c == '?') {
            let problem = format!("{path:?} is not the path of a URL; it begins with /");
            return Err(self.wrong("websocket.path", problem));
        }
        let all = ["*"];
        let origins = origins.unwrap_or_else(|| all.map(str::to_owned).to_vec());
        if origins == all {
            return Ok(Some(WebSocketConfig { path, origins }));
        }
        let is_origin = |text: &&String| {
            let host = text.split_once("://").map(|(_, host)| host);
            host.is_some_and(|host| !host.is_empty() && !host.contains(['/', ' ', '*']))
        };
        if let Some(text) = origins.iter().find(|text| !is_origin(text)) {
            let problem = format!("{text:?} is no origin; give \"https://HOST\" or only \"*\"");
            return Err(self.wrong("websocket.origins", problem));
        }
        Ok(Some(WebSocketConfig { path, origins }))
    }

    fn tls(&self, listener: &mut ListenerTable) -> Result<Option<TlsConfig>, ConfigError> {
        if !matches!(listener.kind, Kind::Mqtts | Kind::Wss) {
            self.refuse([("tls", listener.tls.is_some())], "mqtts or wss")?;
            return Ok(None);
        }
        let Some(table) = &mut listener.tls else {
            return Err(self.wrong("kind", "it needs certificate and key in [listener.tls]"));
        };
        let certificates = self.certificates(table)?;
        let key = self.key.child("tls");
        let client_ca =
            self.references().optional_path(&key.child("client_ca"), &mut table.client_ca)?;
        let crl = self.references().optional_path(&key.child("crl"), &mut table.crl)?;
        let are_asked = table.client_certificates != ClientCertificates::None;
        if are_asked && client_ca.is_none() {
            let problem = "client_ca has to name the authorities that sign client certificates";
            return Err(self.wrong("tls.client_certificates", problem));
        }
        let useless = [
            ("tls.client_ca", client_ca.is_some()),
            ("tls.crl", crl.is_some()),
            ("tls.identity", table.identity != CertificateIdentity::None),
        ];
        if let Some((name, _)) = useless.into_iter().find(|(_, given)| *given && !are_asked) {
            let problem = "of no use without client_certificates = \"optional\" or \"required\"";
            return Err(self.wrong(name, problem));
        }
        Ok(Some(TlsConfig {
            certificates,
            client_ca,
            crl,
            client_certificates: table.client_certificates,
            identity: table.identity,
            minimum_version: table.minimum_version,
        }))
    }

    fn certificates(&self, table: &mut TlsTable) -> Result<Vec<CertificateConfig>, ConfigError> {
        let key = self.key.child("tls");
        let (Some(certificate), Some(secret)) = (&mut table.certificate, &mut table.key) else {
            return Err(self.wrong("tls", "it needs both certificate and key"));
        };
        let references = self.references();
        let pair = |key: &Key, certificate: &mut String, secret: &mut String| {
            Ok(CertificateConfig {
                certificate: references.path(&key.child("certificate"), certificate)?,
                key: references.secret_file(&key.child("key"), secret)?,
            })
        };
        let mut certificates = vec![pair(&key, certificate, secret)?];
        for (index, more) in table.additional.iter_mut().enumerate() {
            let key = key.child("additional").at(index);
            certificates.push(pair(&key, &mut more.certificate, &mut more.key)?);
        }
        Ok(certificates)
    }
}
