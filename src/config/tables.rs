//! The shape of what a configuration file says about listeners and security: every key, its type and
//! its default. Relations between keys are checked where they are resolved.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Deserializer, Serialize};
use toml::Value;

/// `[[listener]]`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct ListenerTable {
    pub(super) kind: Kind,
    pub(super) address: Option<String>,
    pub(super) path: Option<String>,
    pub(super) mode: Option<String>,
    pub(super) owner: Option<String>,
    pub(super) peer_credentials: Option<bool>,
    pub(super) proxy_protocol: Option<bool>,
    pub(super) proxy_networks: Option<Vec<String>>,
    pub(super) connections_max: Option<i64>,
    pub(super) packet_bytes_max: Option<i64>,
    pub(super) protocol_versions: Option<Vec<String>>,
    pub(super) mount_point: Option<String>,
    pub(super) publishes_per_s: Option<i64>,
    pub(super) bytes_per_s: Option<i64>,
    pub(super) authentication: Option<Vec<Method>>,
    pub(super) websocket: Option<WebSocketTable>,
    pub(super) tls: Option<TlsTable>,
    pub(super) admission: Option<ListenerAdmissionTable>,
}

/// What is spoken on a listener.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// MQTT over TCP.
    #[default]
    Mqtt,
    /// MQTT over TLS.
    Mqtts,
    /// MQTT over WebSocket.
    Ws,
    /// MQTT over WebSocket over TLS.
    Wss,
    /// MQTT over a unix socket.
    Unix,
}

/// A way to find out who a client is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Method {
    /// The client's certificate, or the credentials of the process behind a unix socket.
    X509,
    /// A token as the password.
    Jwt,
    /// User name and password against the password file.
    Password,
    /// User name and password, asked of a URL.
    Http,
    /// SCRAM-SHA-256 as enhanced authentication, against the password file.
    Scram,
    /// Nobody in particular.
    Anonymous,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct WebSocketTable {
    pub(super) path: Option<String>,
    pub(super) origins: Option<Vec<String>>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct TlsTable {
    pub(super) certificate: Option<String>,
    pub(super) key: Option<String>,
    pub(super) client_ca: Option<String>,
    pub(super) crl: Option<String>,
    pub(super) client_certificates: ClientCertificates,
    pub(super) identity: CertificateIdentity,
    pub(super) minimum_version: TlsVersion,
    pub(super) additional: Vec<CertificateTable>,
}

/// A further certificate, for other server names.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct CertificateTable {
    pub(super) certificate: String,
    pub(super) key: String,
}

/// Whether clients show certificates.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ClientCertificates {
    /// They are not asked for one.
    #[default]
    None,
    /// They may; a certificate that is shown must be valid.
    Optional,
    Required,
}

/// Where in a client's certificate its identity stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum CertificateIdentity {
    #[default]
    None,
    CommonName,
    SubjectAltName,
}

/// Oldest version of TLS that is spoken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub enum TlsVersion {
    #[default]
    #[serde(rename = "1.2")]
    V1_2,
    #[serde(rename = "1.3")]
    V1_3,
}

/// `[listener.admission]`: what differs from `[admission]`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct ListenerAdmissionTable {
    pub(super) connects_per_s: Option<i64>,
    pub(super) connects_per_s_per_source: Option<i64>,
    pub(super) handshakes_max: Option<i64>,
    pub(super) handshakes_max_per_source: Option<i64>,
    pub(super) failures_max: Option<i64>,
    pub(super) penalty_s: Option<i64>,
    pub(super) penalty_max_s: Option<i64>,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct AdmissionTable {
    pub(super) connects_per_s: i64,
    pub(super) connects_per_s_per_source: i64,
    pub(super) handshakes_max: i64,
    pub(super) handshakes_max_per_source: i64,
    pub(super) failures_max: i64,
    pub(super) penalty_s: i64,
    pub(super) penalty_max_s: i64,
    pub(super) flapping_connects_max: i64,
    pub(super) flapping_window_s: i64,
    pub(super) flapping_penalty_s: i64,
    pub(super) deny_networks: Vec<String>,
    pub(super) deny_client_ids: Vec<String>,
}

impl Default for AdmissionTable {
    fn default() -> Self {
        Self {
            // 0 is no limit: how many clients come at once, and from behind how few addresses, only
            // the operator knows.
            connects_per_s: 0,
            connects_per_s_per_source: 0,
            handshakes_max: 0,
            handshakes_max_per_source: 0,
            // Guessing is never wanted; a mistyped password now and then is no guessing.
            failures_max: 10,
            penalty_s: 1,
            penalty_max_s: 300,
            flapping_connects_max: 0,
            flapping_window_s: 60,
            flapping_penalty_s: 60,
            deny_networks: Vec::new(),
            deny_client_ids: Vec::new(),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct AuthTable {
    pub(super) helper_threads: i64,
    pub(super) queue_max: i64,
    pub(super) password: PasswordTable,
    pub(super) jwt: JwtTable,
    pub(super) http: HttpTable,
}

impl Default for AuthTable {
    fn default() -> Self {
        Self {
            helper_threads: 2,
            queue_max: 1024,
            password: PasswordTable::default(),
            jwt: JwtTable::default(),
            http: HttpTable::default(),
        }
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct PasswordTable {
    pub(super) file: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct JwtTable {
    pub(super) secret: Option<SecretText>,
    pub(super) key_files: Vec<String>,
    pub(super) jwks: Option<String>,
    pub(super) audience: Option<String>,
    pub(super) issuer: Option<String>,
    pub(super) user_claim: String,
    pub(super) client_id_claim: Option<String>,
    pub(super) publish_claim: Option<String>,
    pub(super) subscribe_claim: Option<String>,
    pub(super) leeway_s: i64,
    pub(super) expiry_required: bool,
    pub(super) claims: BTreeMap<String, String>,
}

impl Default for JwtTable {
    fn default() -> Self {
        Self {
            secret: None,
            key_files: Vec::new(),
            jwks: None,
            audience: None,
            issuer: None,
            user_claim: "sub".to_owned(),
            client_id_claim: None,
            publish_claim: None,
            subscribe_claim: None,
            leeway_s: 0,
            expiry_required: true,
            claims: BTreeMap::new(),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct HttpTable {
    pub(super) url: Option<String>,
    pub(super) timeout_ms: i64,
    pub(super) ca: Option<String>,
}

impl Default for HttpTable {
    fn default() -> Self {
        Self { url: None, timeout_ms: 2000, ca: None }
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct AclTable {
    pub(super) file: Option<String>,
}

/// What stands where a reference to a secret belongs. It may be the secret itself by mistake, so no
/// message shows it.
#[derive(Clone, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub(super) struct SecretText(pub(super) String);

impl<'de> Deserialize<'de> for SecretText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // Of any type: the reader's complaint about a number would show it.
        Ok(match Value::deserialize(deserializer)? {
            Value::String(text) => Self(text),
            _ => Self(String::new()),
        })
    }
}

impl fmt::Debug for SecretText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretText")
    }
}
