//! SCRAM-SHA-256 (RFC 5802, RFC 7677), the server's side: a client proves that it knows a password
//! without sending it, and learns that the server knows it too.
//!
//! Two steps, each a function of its arguments: [`begin`] answers the client's first message,
//! [`Exchange::finish`] its last. An [`Exchange`] belongs to one connection; it is dropped when the
//! connection ends or begins anew. Channel binding is not offered, and who asks for it is refused.
//!
//! Who is not in the password file, or has no SCRAM entry there, is asked for a proof like everybody else;
//! see [`Disguise`].

#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::fmt;
use std::num::NonZeroU32;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::{digest, hmac, pbkdf2};
use subtle::ConstantTimeEq as _;

use crate::passwd::Passwords;

/// What the authentication method is called in CONNECT and AUTH.
pub const METHOD: &str = "SCRAM-SHA-256";

/// Random bytes that make a server's nonce.
pub const NONCE_BYTES: usize = 18;

/// Of new entries. The client does the work, and it may be a small one.
pub(crate) const ITERATIONS: NonZeroU32 = NonZeroU32::new(32_768).expect("not zero");

/// What RFC 7677 asks for at least; clients may refuse less.
pub(crate) const ITERATIONS_MIN: u32 = 4096;

/// A client's nonce is kept until its last message.
const NONCE_BYTES_MAX: usize = 512;

const KEY_BYTES: usize = digest::SHA256_OUTPUT_LEN;
const SALT_BYTES: usize = 16;

/// Why an exchange ends. The peer is told that it is not authorised, and no more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    #[error("malformed message: {0}")]
    Malformed(&'static str),
    #[error("channel binding is not offered")]
    ChannelBinding,
    #[error("an extension that must be understood is not")]
    Extension,
    #[error("acting for another user is not offered")]
    OtherUser,
    #[error("the user name is not one that can be compared")]
    UserName,
    #[error("wrong proof")]
    Proof,
}

/// Text has characters that SASLprep prohibits (control characters above all), or is not UTF-8.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("has characters that SCRAM does not allow")]
pub struct Unfit;

/// Text in the form in which names and passwords are compared (SASLprep, RFC 4013).
///
/// # Errors
/// If it has characters that this form prohibits.
pub fn prepare(text: &str) -> Result<Cow<'_, str>, Unfit> {
    stringprep::saslprep(text).map_err(|_| Unfit)
}

/// What a server keeps of a password.
#[derive(Clone, PartialEq, Eq)]
pub struct Keys {
    pub(crate) iterations: NonZeroU32,
    pub(crate) salt: Box<[u8]>,
    pub(crate) stored: [u8; KEY_BYTES],
    pub(crate) server: [u8; KEY_BYTES],
}

impl Keys {
    /// From a password that is prepared.
    pub(crate) fn derive(password: &[u8], salt: &[u8], iterations: NonZeroU32) -> Self {
        let mut salted = [0; KEY_BYTES];
        pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA256, iterations, salt, password, &mut salted);
        let stored = sha256(&sign(&salted, b"Client Key"));
        Self { iterations, salt: salt.into(), stored, server: sign(&salted, b"Server Key") }
    }

    /// Whether this, shown as it is, is the password.
    pub(crate) fn verify(&self, password: &[u8]) -> bool {
        let prepared = str::from_utf8(password).ok().and_then(|text| prepare(text).ok());
        // What cannot be prepared is nobody's password, and takes as long.
        let password = prepared.as_ref().map_or(password, |text| text.as_bytes());
        let shown = Self::derive(password, &self.salt, self.iterations);
        shown.stored.ct_eq(&self.stored).into()
    }
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keys").field("iterations", &self.iterations).finish_non_exhaustive()
    }
}

/// Makes up salts for users who have none, so that they cannot be told from those who have: the same user
/// is always told the same salt, as long as the process lives, with the iterations and the length that some
/// entry of the file has. Belongs to the shell; outlives reloads.
#[derive(Clone, Debug)]
pub struct Disguise(hmac::Key);

impl Disguise {
    /// `secret` is random and of this process alone.
    #[must_use]
    pub fn new(secret: &[u8; 32]) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, secret))
    }

    fn keys(&self, user: &str, like: Option<&Keys>) -> Keys {
        let salt_bytes = like.map_or(SALT_BYTES, |keys| keys.salt.len());
        let blocks = (0_u8..=u8::MAX).flat_map(|number| self.block(user, number));
        Keys {
            iterations: like.map_or(ITERATIONS, |keys| keys.iterations),
            salt: blocks.take(salt_bytes).collect(),
            stored: [0; KEY_BYTES],
            server: [0; KEY_BYTES],
        }
    }

    fn block(&self, user: &str, number: u8) -> [u8; KEY_BYTES] {
        let mut context = hmac::Context::with_key(&self.0);
        context.update(&[number]);
        context.update(user.as_bytes());
        array(context.sign().as_ref())
    }
}

/// Answers a client's first message with the server's first.
///
/// `random` is drawn for this call and never used again.
///
/// # Errors
/// If the message is not one, or asks for what is not offered.
pub fn begin(
    message: &[u8],
    random: &[u8; NONCE_BYTES],
    passwords: &Passwords,
    disguise: &Disguise,
) -> Result<(Exchange, Vec<u8>), Failure> {
    begin_with_nonce(message, &STANDARD.encode(random), passwords, disguise)
}

fn begin_with_nonce(
    message: &[u8],
    nonce: &str,
    passwords: &Passwords,
    disguise: &Disguise,
) -> Result<(Exchange, Vec<u8>), Failure> {
    let first = First::parse(message)?;
    let known = passwords.scram(&first.user);
    let stand_in = || disguise.keys(&first.user, passwords.scram_stand_in(&first.user));
    let keys = known.cloned().unwrap_or_else(stand_in);
    let nonce = format!("{}{nonce}", first.nonce);
    let answer = format!("r={nonce},s={},i={}", STANDARD.encode(&keys.salt), keys.iterations);
    let exchange = Exchange {
        user: first.user,
        is_known: known.is_some(),
        keys,
        binding: STANDARD.encode(first.header),
        signed: format!("{},{answer},", first.bare),
        nonce,
    };
    Ok((exchange, answer.into_bytes()))
}

/// A client has sent its first message and been answered.
pub struct Exchange {
    user: Box<str>,
    is_known: bool,
    keys: Keys,
    /// What the client must repeat of the header of its first message.
    binding: String,
    /// The beginning of what the proof signs: both first messages.
    signed: String,
    /// The client's and the server's.
    nonce: String,
}

impl Exchange {
    /// Who the client says that it is. Nothing is proven before [`Self::finish`] is content.
    #[must_use]
    pub fn user(&self) -> &str {
        &self.user
    }

    /// Checks the proof. The answer goes to the client, who learns from it that the server knows its
    /// password.
    ///
    /// # Errors
    /// If the message is not one, or the proof is wrong.
    pub fn finish(self, message: &[u8]) -> Result<Vec<u8>, Failure> {
        let last = Last::parse(message)?;
        if last.binding != self.binding {
            return Err(Failure::ChannelBinding);
        }
        if last.nonce != self.nonce {
            return Err(Failure::Malformed("another nonce than the one agreed on"));
        }
        let signed = format!("{}{}", self.signed, last.without_proof);
        let signature = sign(&self.keys.stored, signed.as_bytes());
        let mut client_key = [0; KEY_BYTES];
        for (byte, (left, right)) in client_key.iter_mut().zip(signature.iter().zip(&last.proof)) {
            *byte = left ^ right;
        }
        let is_right: bool = sha256(&client_key).ct_eq(&self.keys.stored).into();
        if !(is_right & self.is_known) {
            return Err(Failure::Proof);
        }
        let signature = STANDARD.encode(sign(&self.keys.server, signed.as_bytes()));
        Ok(format!("v={signature}").into_bytes())
    }
}

impl fmt::Debug for Exchange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Exchange").field("user", &self.user).finish_non_exhaustive()
    }
}

/// A client's first message.
struct First<'a> {
    /// Up to and with the second comma.
    header: &'a str,
    /// What comes behind the header.
    bare: &'a str,
    user: Box<str>,
    nonce: &'a str,
}

impl<'a> First<'a> {
    fn parse(message: &'a [u8]) -> Result<Self, Failure> {
        let message = text(message)?;
        let mut parts = message.splitn(3, ',');
        let (Some(flag), Some(acting_for), Some(bare)) = (parts.next(), parts.next(), parts.next())
        else {
            return Err(Failure::Malformed("no header"));
        };
        match flag {
            "n" | "y" => {}
            _ if flag.starts_with("p=") => return Err(Failure::ChannelBinding),
            _ => return Err(Failure::Malformed("unknown flag of channel binding")),
        }
        let header = message.get(..message.len().saturating_sub(bare.len())).unwrap_or_default();
        let mut attributes = bare.split(',');
        let mut user = attributes.next().unwrap_or_default();
        if user.starts_with("m=") {
            return Err(Failure::Extension);
        }
        user = user.strip_prefix("n=").ok_or(Failure::Malformed("no user name"))?;
        let user = parse_name(user)?;
        match acting_for.strip_prefix("a=") {
            None if acting_for.is_empty() => {}
            Some(name) if parse_name(name)? == user => {}
            Some(_) => return Err(Failure::OtherUser),
            None => return Err(Failure::Malformed("no name of whom to act for")),
        }
        let nonce = attributes.next().and_then(|attribute| attribute.strip_prefix("r="));
        let nonce = nonce.filter(|nonce| (1..=NONCE_BYTES_MAX).contains(&nonce.len()));
        let nonce = nonce.filter(|nonce| nonce.bytes().all(|byte| byte.is_ascii_graphic()));
        check_extensions(attributes)?;
        let nonce = nonce.ok_or(Failure::Malformed("no nonce, or one that is too long"))?;
        Ok(Self { header, bare, user, nonce })
    }
}

/// A client's last message.
struct Last<'a> {
    binding: &'a str,
    nonce: &'a str,
    proof: [u8; KEY_BYTES],
    without_proof: &'a str,
}

impl<'a> Last<'a> {
    fn parse(message: &'a [u8]) -> Result<Self, Failure> {
        let (without_proof, proof) =
            text(message)?.rsplit_once(",p=").ok_or(Failure::Malformed("no proof"))?;
        let proof = STANDARD.decode(proof).ok().and_then(|proof| proof.try_into().ok());
        let mut attributes = without_proof.split(',');
        let mut next = |key| attributes.next().and_then(|attribute| attribute.strip_prefix(key));
        let (Some(binding), Some(nonce)) = (next("c="), next("r=")) else {
            return Err(Failure::Malformed("no channel binding, or no nonce"));
        };
        check_extensions(attributes)?;
        let proof = proof.ok_or(Failure::Malformed("the proof is not base64 of 32 bytes"))?;
        Ok(Self { binding, nonce, proof, without_proof })
    }
}

fn text(message: &[u8]) -> Result<&str, Failure> {
    let text = str::from_utf8(message).map_err(|_| Failure::Malformed("not UTF-8"))?;
    if text.contains('\0') { Err(Failure::Malformed("has a NUL")) } else { Ok(text) }
}

/// Attributes that may be passed over: a letter, `=`, something.
fn check_extensions<'a>(mut attributes: impl Iterator<Item = &'a str>) -> Result<(), Failure> {
    let is_good = |attribute: &str| match attribute.as_bytes() {
        [key, b'=', _, ..] => key.is_ascii_alphabetic(),
        _ => false,
    };
    if attributes.all(is_good) { Ok(()) } else { Err(Failure::Malformed("an extension is none")) }
}

/// A name with commas and equal signs escaped.
fn parse_name(escaped: &str) -> Result<Box<str>, Failure> {
    let mut name = String::with_capacity(escaped.len());
    let mut parts = escaped.split('=');
    name.push_str(parts.next().unwrap_or_default());
    for part in parts {
        let (sign, rest) = match (part.strip_prefix("2C"), part.strip_prefix("3D")) {
            (Some(rest), _) => (',', rest),
            (None, Some(rest)) => ('=', rest),
            (None, None) => return Err(Failure::Malformed("'=' in a name is not an escape")),
        };
        name.push(sign);
        name.push_str(rest);
    }
    let name = prepare(&name).map_err(|Unfit| Failure::UserName)?;
    if name.is_empty() { Err(Failure::UserName) } else { Ok(name.into()) }
}

fn sign(key: &[u8], data: &[u8]) -> [u8; KEY_BYTES] {
    array(hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), data).as_ref())
}

fn sha256(data: &[u8]) -> [u8; KEY_BYTES] {
    array(digest::digest(&digest::SHA256, data).as_ref())
}

/// Of a digest, which is as long.
fn array(digest: &[u8]) -> [u8; KEY_BYTES] {
    let mut array = [0; KEY_BYTES];
    array.copy_from_slice(digest);
    array
}
