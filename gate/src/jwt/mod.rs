//! Tokens as passwords: a compact JWS (RFC 7515) whose payload are claims (RFC 7519).
//!
//! A [`Verifier`] belongs to whoever checks, is never changed, and can be shared between threads. The clock
//! is the caller's. What it guarantees:
//!
//! - Only what one of its keys signed passes, with the algorithm that the key is for; `none` never does.
//! - Nothing in a payload is looked at before its signature is known to be good.
//! - A [`Refusal`] can be logged: there is nothing of the token in it.
//!
//! Checking a public key's signature takes longer than a packet; where that happens is the caller's to say.

mod claims;
mod json;
mod keys;

use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use serde_json::{Map, Value};
use shards::auth::{Grant, Rights};

pub use self::keys::{Algorithm, Keys};

use self::claims::Claims;
use self::keys::Verified;

/// A CONNECT may carry 64 KiB of password; nobody has that much to say about himself.
pub const TOKEN_BYTES_MAX: usize = 16 * 1024;

/// What is asked of a token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Must be among `aud`. Without it a token that has `aud` is for somebody else.
    pub audience: Option<Box<str>>,
    pub issuer: Option<Box<str>>,
    /// Claims and their values: a text, a text in a list, a number or a truth value as JSON writes it.
    pub required: Vec<(Box<str>, Box<str>)>,
    /// Whether a token without `exp` is refused.
    pub needs_expiry: bool,
    /// Whether one with an `iat` in the future is.
    pub checks_issued: bool,
    /// How far clocks may be apart.
    pub leeway_s: u64,
    /// Says the user name.
    pub user_claim: Box<str>,
    /// Whether the CONNECT must give that same user name.
    pub user_name_must_match: bool,
    /// Must say the client identifier, if given.
    pub client_id_claim: Option<Box<str>>,
    /// Claims that say what the bearer may do; without them a token does not limit that.
    pub topics: Option<TopicClaims>,
}

/// The names of two claims, each a topic filter or a list of them, with `%c` for the client identifier and
/// `%u` for the user name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicClaims {
    pub publish: Box<str>,
    pub subscribe: Box<str>,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            audience: None,
            issuer: None,
            required: Vec::new(),
            needs_expiry: true,
            checks_issued: false,
            leeway_s: 0,
            user_claim: "sub".into(),
            user_name_must_match: false,
            client_id_claim: None,
            topics: None,
        }
    }
}

/// Who holds a token that was accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bearer {
    pub user: Box<str>,
    /// `None`: the token does not limit what he may do.
    pub rights: Option<Rights>,
    /// From this second on the token is worth nothing; leeway is included.
    pub expires_unix_s: Option<u64>,
}

impl Bearer {
    /// What the core is told.
    #[must_use]
    pub fn into_grant(self, now_unix_s: u64) -> Grant {
        let left = self.expires_unix_s.map(|expires| expires.saturating_sub(now_unix_s));
        Grant {
            user: Some(self.user),
            rights: self.rights.map(Box::new),
            lasts: left.map(Duration::from_secs),
            data: None,
        }
    }
}

/// Why a token is refused. Names in it are those of the [`Policy`] or of the standard.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("token longer than {TOKEN_BYTES_MAX} bytes")]
    TooLong,
    #[error("not a token: its form is not three parts of base64url")]
    Form,
    #[error("the token's {0} is not a JSON object, or an ambiguous one")]
    NotJson(&'static str),
    #[error("the token's algorithm is none of HS256, RS256, ES256, EdDSA")]
    Algorithm,
    #[error("the token has extensions that must be understood")]
    Critical,
    #[error("no key for the token's algorithm and key name")]
    NoKey,
    #[error("the token's signature is wrong")]
    Signature,
    #[error("the token has expired")]
    Expired,
    #[error("the token is not valid yet")]
    TooEarly,
    #[error("the token was issued in the future")]
    IssuedLater,
    #[error("the token is for another audience")]
    OtherAudience,
    #[error("the token is from another issuer")]
    OtherIssuer,
    #[error("the token has no claim {0}")]
    Missing(Box<str>),
    #[error("the token's claim {0} has another value")]
    OtherValue(Box<str>),
    #[error("the token's claim {0} has a form that it must not have")]
    Malformed(Box<str>),
    #[error("the token is for another user name")]
    OtherUser,
    #[error("the token is for another client identifier")]
    OtherClient,
    #[error("a name that the token's topic filters refer to has a wildcard")]
    WildcardInName,
}

/// Keys, and what is asked of what they signed.
#[derive(Clone, Debug, Default)]
pub struct Verifier {
    keys: Keys,
    policy: Policy,
}

impl Verifier {
    #[must_use]
    pub fn new(keys: Keys, policy: Policy) -> Self {
        Self { keys, policy }
    }

    /// Checks the token of a client with this identifier, who gave this user name in its CONNECT.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn verify(
        &self,
        token: &[u8],
        client_id: &str,
        user_name: Option<&str>,
        now_unix_s: u64,
    ) -> Result<Bearer, Refusal> {
        let payload = self.open(token)?;
        let claims = object(&payload, "payload")?;
        Claims(&claims).check(&self.policy, client_id, user_name, now_unix_s)
    }

    /// The payload, once the signature is known to be good.
    fn open(&self, token: &[u8]) -> Result<Vec<u8>, Refusal> {
        if token.len() > TOKEN_BYTES_MAX {
            return Err(Refusal::TooLong);
        }
        let mut parts = token.split(|&byte| byte == b'.');
        let (Some(header), Some(payload), Some(signature), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(Refusal::Form);
        };
        // What is signed is the text of both parts and the dot between them.
        let signed_bytes = token.len().saturating_sub(signature.len()).saturating_sub(1);
        let signed = token.get(..signed_bytes).ok_or(Refusal::Form)?;
        let header = object(&decode(header)?, "header")?;
        // An extension may change what the signature is about.
        if header.contains_key("crit") {
            return Err(Refusal::Critical);
        }
        let algorithm = header.get("alg").and_then(Value::as_str).and_then(Algorithm::parse);
        let algorithm = algorithm.ok_or(Refusal::Algorithm)?;
        let kid = match header.get("kid") {
            None => None,
            Some(Value::String(kid)) => Some(kid.as_str()),
            Some(_) => return Err(Refusal::NoKey),
        };
        match self.keys.verify(algorithm, kid, signed, &decode(signature)?) {
            Verified::Yes => decode(payload),
            Verified::No => Err(Refusal::Signature),
            Verified::NoKey => Err(Refusal::NoKey),
        }
    }
}

fn decode(part: &[u8]) -> Result<Vec<u8>, Refusal> {
    BASE64_URL_SAFE_NO_PAD.decode(part).map_err(|_| Refusal::Form)
}

fn object(bytes: &[u8], which: &'static str) -> Result<Map<String, Value>, Refusal> {
    match json::parse(bytes) {
        Ok(Value::Object(map)) => Ok(map),
        Ok(_) | Err(_) => Err(Refusal::NotJson(which)),
    }
}

#[cfg(test)]
mod tests;
