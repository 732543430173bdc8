//! Keys that tokens are verified with. A key knows the one algorithm that it is for, so a header cannot
//! turn a public key into a shared secret.

use std::fmt;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use ring::hmac;
use ring::signature::{self, RsaPublicKeyComponents, UnparsedPublicKey};
use serde_json::{Map, Value};
use x509_parser::pem::Pem;
use x509_parser::prelude::{FromDer, X509Certificate};
use x509_parser::public_key::{PublicKey, RSAPublicKey};
use x509_parser::x509::SubjectPublicKeyInfo;

use crate::text::ParseError;

use super::json;

/// More for one signature would be a way to keep a thread busy.
const KEYS_TRIED_MAX: usize = 8;

/// RFC 7518 section 3.2: as long as the hash.
const SECRET_BYTES_MIN: usize = 32;

/// RFC 7518 section 3.3.
const RSA_BYTES_MIN: usize = 2048 / 8;

const RSA: &str = "1.2.840.113549.1.1.1";
const EC: &str = "1.2.840.10045.2.1";
const P256: &str = "1.2.840.10045.3.1.7";
const ED25519: &str = "1.3.101.112";

/// How tokens may be signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    Hs256,
    Rs256,
    Es256,
    EdDsa,
}

impl Algorithm {
    /// By its name in a header or a key. Anything else, `none` above all, is refused.
    pub(super) fn parse(name: &str) -> Option<Self> {
        match name {
            "HS256" => Some(Self::Hs256),
            "RS256" => Some(Self::Rs256),
            "ES256" => Some(Self::Es256),
            "EdDSA" => Some(Self::EdDsa),
            _ => None,
        }
    }
}

#[derive(Clone)]
enum Material {
    Secret(hmac::Key),
    Rsa(RsaPublicKeyComponents<Vec<u8>>),
    /// A point of P-256, uncompressed.
    Ec(Vec<u8>),
    Ed(Vec<u8>),
}

/// Never printed but for its name and kind.
#[derive(Clone)]
struct Key {
    kid: Option<Box<str>>,
    material: Material,
}

impl fmt::Debug for Key {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(to, "{:?} key {:?}", self.algorithm(), self.kid)
    }
}

impl Key {
    fn algorithm(&self) -> Algorithm {
        match &self.material {
            Material::Secret(_) => Algorithm::Hs256,
            Material::Rsa(_) => Algorithm::Rs256,
            Material::Ec(_) => Algorithm::Es256,
            Material::Ed(_) => Algorithm::EdDsa,
        }
    }

    fn verifies(&self, signed: &[u8], signature: &[u8]) -> bool {
        let verified = match &self.material {
            Material::Secret(key) => hmac::verify(key, signed, signature),
            Material::Rsa(key) => {
                key.verify(&signature::RSA_PKCS1_2048_8192_SHA256, signed, signature)
            }
            Material::Ec(point) => {
                UnparsedPublicKey::new(&signature::ECDSA_P256_SHA256_FIXED, point)
                    .verify(signed, signature)
            }
            Material::Ed(key) => {
                UnparsedPublicKey::new(&signature::ED25519, key).verify(signed, signature)
            }
        };
        verified.is_ok()
    }
}

/// Keys from any number of files.
#[derive(Clone, Debug, Default)]
pub struct Keys(Vec<Key>);

/// What a signature is checked against.
pub(super) enum Verified {
    Yes,
    No,
    /// No key is for this algorithm and has this name.
    NoKey,
}

impl Keys {
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Adds a secret that tokens are signed with (HS256), as it is: a line feed at the end belongs to it.
    ///
    /// # Errors
    /// If it is too short to be one, or a file of keys by mistake.
    pub fn add_secret(&mut self, name: &str, secret: &[u8]) -> Result<(), ParseError> {
        let at_fault = |problem: &str| refused(name, 1, problem);
        if secret.trim_ascii_start().starts_with(b"-----BEGIN ") {
            return Err(at_fault("a PEM file is no secret"));
        }
        self.0.push(Key { kid: None, material: secret_of(secret).map_err(at_fault)? });
        Ok(())
    }

    /// Adds all public keys and keys of certificates in a PEM file.
    ///
    /// # Errors
    /// If there is none, or one that no algorithm is for, or a private one.
    pub fn add_pem(&mut self, name: &str, text: &[u8]) -> Result<(), ParseError> {
        let mut keys = Vec::new();
        let mut line = 1;
        let mut begins = text
            .split(|&byte| byte == b'\n')
            .enumerate()
            .filter(|(_, text)| text.starts_with(b"-----BEGIN "));
        for block in Pem::iter_from_buffer(text) {
            line = begins.next().map_or(line, |(index, _)| index.saturating_add(1));
            let block = block.map_err(|_| refused(name, line, "not a whole PEM block"))?;
            let material = of_block(&block).map_err(|problem| refused(name, line, problem))?;
            keys.push(Key { kid: None, material });
        }
        if keys.is_empty() {
            return Err(refused(name, 1, "no PEM block with a public key"));
        }
        self.0.append(&mut keys);
        Ok(())
    }

    /// Adds the keys of a JWKS document, but for those that are for another purpose or algorithm.
    ///
    /// # Errors
    /// If it is none, if a key is damaged, or if none is left.
    pub fn add_jwks(&mut self, name: &str, text: &[u8]) -> Result<(), ParseError> {
        let document = json::parse(text).map_err(|error| {
            refused(name, error.line(), &format!("not a JWKS document: {error}"))
        })?;
        let Some(listed) = document.get("keys").and_then(Value::as_array) else {
            return Err(refused(name, 1, "not a JWKS document: no list \"keys\""));
        };
        let mut keys = Vec::new();
        for (index, key) in listed.iter().enumerate() {
            let key = of_jwk(key)
                .map_err(|problem| refused(name, 1, &format!("key {index} (from 0): {problem}")))?;
            keys.extend(key);
        }
        if keys.is_empty() {
            return Err(refused(name, 1, "no key for HS256, RS256, ES256 or EdDSA"));
        }
        self.0.append(&mut keys);
        Ok(())
    }

    /// Checks with the keys of that name; if there are none, or no name is given, with all that fit.
    pub(super) fn verify(
        &self,
        algorithm: Algorithm,
        kid: Option<&str>,
        signed: &[u8],
        signature: &[u8],
    ) -> Verified {
        let fitting = || self.0.iter().filter(move |key| key.algorithm() == algorithm);
        let is_named = kid.is_some_and(|kid| fitting().any(|key| key.kid.as_deref() == Some(kid)));
        let is_candidate = |key: &&Key| match &key.kid {
            // A file of one key does not name it.
            None => !is_named,
            Some(own) => kid.is_none_or(|kid| kid == &**own),
        };
        let mut candidates = fitting().filter(is_candidate).take(KEYS_TRIED_MAX).peekable();
        if candidates.peek().is_none() {
            return Verified::NoKey;
        }
        let is_good = candidates.any(|key| key.verifies(signed, signature));
        if is_good { Verified::Yes } else { Verified::No }
    }
}

fn refused(file: &str, line: usize, problem: &str) -> ParseError {
    ParseError { file: file.into(), line, problem: problem.to_owned() }
}

fn secret_of(secret: &[u8]) -> Result<Material, &'static str> {
    if secret.len() < SECRET_BYTES_MIN {
        return Err("a secret for HS256 has 32 bytes at least");
    }
    Ok(Material::Secret(hmac::Key::new(hmac::HMAC_SHA256, secret)))
}

fn rsa_of(n: &[u8], e: &[u8]) -> Result<Material, &'static str> {
    let significant = |number: &[u8]| {
        let zeros = number.iter().take_while(|&&byte| byte == 0).count();
        number.get(zeros..).unwrap_or_default().to_vec()
    };
    let (n, e) = (significant(n), significant(e));
    if n.len() < RSA_BYTES_MIN {
        return Err("an RSA key for RS256 has 2048 bits at least");
    }
    Ok(Material::Rsa(RsaPublicKeyComponents { n, e }))
}

fn ec_of(point: &[u8]) -> Result<Material, &'static str> {
    let is_good = point.len() == 65 && point.first() == Some(&4);
    is_good.then(|| Material::Ec(point.to_vec())).ok_or("not an uncompressed point of P-256")
}

fn ed_of(key: &[u8]) -> Result<Material, &'static str> {
    (key.len() == 32).then(|| Material::Ed(key.to_vec())).ok_or("not an Ed25519 key")
}

fn of_block(block: &Pem) -> Result<Material, &'static str> {
    const DAMAGED: &str = "the key is damaged";
    match block.label.as_str() {
        "PUBLIC KEY" => {
            let (_, info) = SubjectPublicKeyInfo::from_der(&block.contents).map_err(|_| DAMAGED)?;
            of_info(&info)
        }
        "CERTIFICATE" => {
            let parsed = X509Certificate::from_der(&block.contents);
            let (_, certificate) = parsed.map_err(|_| "the certificate is damaged")?;
            of_info(certificate.public_key())
        }
        "RSA PUBLIC KEY" => {
            let (_, key) = RSAPublicKey::from_der(&block.contents).map_err(|_| DAMAGED)?;
            rsa_of(key.modulus, key.exponent)
        }
        label if label.ends_with("PRIVATE KEY") => {
            Err("a private key; whoever only verifies has the public one")
        }
        _ => Err("neither a public key nor a certificate"),
    }
}

fn of_info(info: &SubjectPublicKeyInfo<'_>) -> Result<Material, &'static str> {
    let bits = &info.subject_public_key.data;
    match info.algorithm.algorithm.to_id_string().as_str() {
        RSA => match info.parsed() {
            Ok(PublicKey::RSA(key)) => rsa_of(key.modulus, key.exponent),
            Ok(_) | Err(_) => Err("the RSA key is damaged"),
        },
        EC => {
            let curve = info.algorithm.parameters.as_ref().and_then(|any| any.as_oid().ok());
            if curve.is_none_or(|curve| curve.to_id_string() != P256) {
                return Err("an EC key must be on the curve P-256");
            }
            ec_of(bits)
        }
        ED25519 => ed_of(bits),
        _ => Err("a key must be RSA, EC on P-256, or Ed25519"),
    }
}

/// `None` for a key that is not for us.
fn of_jwk(key: &Value) -> Result<Option<Key>, String> {
    let Some(key) = key.as_object() else { return Err("not an object".to_owned()) };
    let text = |name: &str| key.get(name).and_then(Value::as_str);
    let is_for_signatures = text("use").is_none_or(|purpose| purpose == "sig")
        && key.get("key_ops").and_then(Value::as_array).is_none_or(|operations| {
            operations.iter().any(|operation| operation.as_str() == Some("verify"))
        });
    if !is_for_signatures {
        return Ok(None);
    }
    let material = match (text("kty"), text("crv")) {
        (Some("oct"), _) => secret_of(&number(key, "k")?)?,
        (Some("RSA"), _) => rsa_of(&number(key, "n")?, &number(key, "e")?)?,
        (Some("EC"), Some("P-256")) => {
            ec_of(&[&[4], &*number(key, "x")?, &*number(key, "y")?].concat())?
        }
        (Some("OKP"), Some("Ed25519")) => ed_of(&number(key, "x")?)?,
        (Some(_), _) => return Ok(None),
        (None, _) => return Err("no \"kty\"".to_owned()),
    };
    let key = Key { kid: text("kid").map(Into::into), material };
    let is_ours = text("alg").is_none_or(|name| Algorithm::parse(name) == Some(key.algorithm()));
    Ok(is_ours.then_some(key))
}

fn number(key: &Map<String, Value>, name: &str) -> Result<Vec<u8>, String> {
    let text = key.get(name).and_then(Value::as_str);
    let bytes = text.and_then(|text| BASE64_URL_SAFE_NO_PAD.decode(text).ok());
    bytes.ok_or_else(|| format!("no {name:?} in base64url without padding"))
}
