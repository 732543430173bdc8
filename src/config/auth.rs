//! What the ways to find out who a client is need: files, keys, URLs.

use std::path::PathBuf;
use std::time::Duration;

use super::ConfigError;
use super::keys::Key;
use super::references::{References, Secret};
use super::resolve::Check;
use super::tables::{AuthTable, HttpTable, JwtTable};

const HELPER_THREADS_MAX: i64 = 64;

/// Checks that wait; each holds a password at most.
const QUEUE_MAX: i64 = 1 << 20;

/// A clock that is an hour off is a clock to be set.
const LEEWAY_S_MAX: i64 = 3600;

/// A minute: clients do not wait longer.
const HTTP_TIMEOUT_MS_MAX: i64 = 60_000;

/// The `[auth]` sections: who checks, and against what.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AuthConfig {
    pub helper_threads: usize,
    /// Checks that may wait for a helper thread; more are refused.
    pub queue_max: usize,
    /// For passwords and SCRAM.
    pub password_file: Option<PathBuf>,
    pub jwt: Option<JwtConfig>,
    pub http: Option<HttpConfig>,
}

/// Keys of tokens, and what tokens must say. At least one of `secret`, `key_files` and `jwks` is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JwtConfig {
    /// For HS256.
    pub secret: Option<Secret>,
    /// Public keys in PEM.
    pub key_files: Vec<PathBuf>,
    pub jwks: Option<PathBuf>,
    pub audience: Option<String>,
    pub issuer: Option<String>,
    /// Which claim is the user name.
    pub user_claim: String,
    /// Which claim must equal the client identifier.
    pub client_id_claim: Option<String>,
    /// Which claims list the topic filters that the client may publish and subscribe to; both or none.
    pub publish_claim: Option<String>,
    pub subscribe_claim: Option<String>,
    pub leeway: Duration,
    pub expiry_required: bool,
    /// Claims that must have these values.
    pub claims: Vec<(String, String)>,
}

/// The URL that is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpConfig {
    pub url: String,
    pub timeout: Duration,
    /// Certificate authorities of the URL's server, in PEM.
    pub ca: Option<PathBuf>,
}

/// Resolves the sections; paths and references in them are replaced by what counts.
pub(super) fn resolve(check: &Check<'_>, table: &mut AuthTable) -> Result<AuthConfig, ConfigError> {
    let references = References { layers: check.layers };
    let key = Key::parse("auth.password.file");
    Ok(AuthConfig {
        helper_threads: check.number(
            "auth.helper_threads",
            table.helper_threads,
            1..=HELPER_THREADS_MAX,
        )?,
        queue_max: check.number("auth.queue_max", table.queue_max, 1..=QUEUE_MAX)?,
        password_file: references.optional_path(&key, &mut table.password.file)?,
        jwt: resolve_jwt(check, references, &mut table.jwt)?,
        http: resolve_http(check, references, &mut table.http)?,
    })
}

fn resolve_jwt(
    check: &Check<'_>,
    references: References<'_>,
    table: &mut JwtTable,
) -> Result<Option<JwtConfig>, ConfigError> {
    let key = Key::parse("auth.jwt");
    let secret = table.secret.as_mut().map(|text| &mut text.0);
    let secret = secret.map(|text| references.secret(&key.child("secret"), text)).transpose()?;
    let key_files = key.child("key_files");
    let files = table.key_files.iter_mut().map(|text| references.path(&key_files, text));
    let key_files = files.collect::<Result<Vec<_>, _>>()?;
    let jwks = references.optional_path(&key.child("jwks"), &mut table.jwks)?;
    let leeway = check.number("auth.jwt.leeway_s", table.leeway_s, 0..=LEEWAY_S_MAX)?;
    let names = [
        ("user_claim", Some(&table.user_claim)),
        ("client_id_claim", table.client_id_claim.as_ref()),
        ("publish_claim", table.publish_claim.as_ref()),
        ("subscribe_claim", table.subscribe_claim.as_ref()),
    ];
    if let Some((name, _)) = names.into_iter().find(|(_, text)| text.is_some_and(String::is_empty))
    {
        return Err(
            check.wrong(&format!("auth.jwt.{name}"), "no claim has an empty name".to_owned())
        );
    }
    // One alone would leave nothing permitted in the other direction.
    let alone = match (&table.publish_claim, &table.subscribe_claim) {
        (Some(_), None) => Some("publish_claim"),
        (None, Some(_)) => Some("subscribe_claim"),
        (Some(_), Some(_)) | (None, None) => None,
    };
    if let Some(name) = alone {
        let problem = "publish_claim and subscribe_claim go together".to_owned();
        return Err(check.wrong(&format!("auth.jwt.{name}"), problem));
    }
    let has_keys = secret.is_some() || !key_files.is_empty() || jwks.is_some();
    Ok(has_keys.then(|| JwtConfig {
        secret,
        key_files,
        jwks,
        audience: table.audience.clone(),
        issuer: table.issuer.clone(),
        user_claim: table.user_claim.clone(),
        client_id_claim: table.client_id_claim.clone(),
        publish_claim: table.publish_claim.clone(),
        subscribe_claim: table.subscribe_claim.clone(),
        leeway: Duration::from_secs(leeway),
        expiry_required: table.expiry_required,
        claims: table.claims.clone().into_iter().collect(),
    }))
}

fn resolve_http(
    check: &Check<'_>,
    references: References<'_>,
    table: &mut HttpTable,
) -> Result<Option<HttpConfig>, ConfigError> {
    let range = 1..=HTTP_TIMEOUT_MS_MAX;
    let timeout = check.number("auth.http.timeout_ms", table.timeout_ms, range)?;
    let ca = references.optional_path(&Key::parse("auth.http.ca"), &mut table.ca)?;
    let Some(url) = table.url.clone() else { return Ok(None) };
    // Not shown in messages: what is wrong with it may be a password in it.
    let wrong = |problem: &str| check.wrong("auth.http.url", problem.to_owned());
    let rest = url.strip_prefix("http://").or_else(|| url.strip_prefix("https://"));
    let rest = rest.ok_or_else(|| wrong("give a URL that begins with http:// or https://"))?;
    let host = rest.split(['/', '?', '#']).next().unwrap_or_default();
    if host.contains('@') {
        return Err(wrong("a user name or password may not stand in the URL"));
    }
    if host.is_empty() || url.contains(|c: char| c.is_whitespace() || c.is_control()) {
        return Err(wrong("not a URL"));
    }
    Ok(Some(HttpConfig { url, timeout: Duration::from_millis(timeout), ca }))
}
