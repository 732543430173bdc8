//! One hashed password, in each of the forms that a password file may have.

use std::fmt;
use std::num::NonZeroU32;

use argon2::{Algorithm, Argon2, Params, Version};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use ring::{digest, pbkdf2};
use subtle::ConstantTimeEq as _;

use crate::scram::{self, Keys};

pub use crate::scram::Unfit;

/// Of new entries.
pub const SALT_BYTES: usize = 16;

/// A reader that takes anything would let a file stop the helper threads: about a second of work.
pub(crate) const ITERATIONS_MAX: u32 = 1_000_000;

/// Each helper thread needs as much at the same time.
const ARGON2_KIB_MAX: u32 = 256 * 1024;
const ARGON2_PASSES_MAX: u32 = 16;
const ARGON2_LANES_MAX: u32 = 16;
const ARGON2_HASH_BYTES: usize = 32;

const SHA512_BYTES: usize = digest::SHA512_OUTPUT_LEN;

/// Mosquitto 2.0 reads no other length.
const MOSQUITTO_SALT_BYTES: usize = 12;
const SALT_BYTES_MAX: usize = 64;

/// What OWASP advises for this digest; `mosquitto_passwd` takes 101.
const PBKDF2_ITERATIONS: NonZeroU32 = NonZeroU32::new(210_000).expect("not zero");

/// Whether a check may be done on a shard, or must go to a helper thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cost {
    /// Microseconds.
    Cheap,
    /// Milliseconds and more, and memory.
    Dear,
}

/// A password as it stands in a file.
#[derive(Clone, PartialEq, Eq)]
pub enum Hash {
    /// `$6$salt$hash`: SHA-512 of password and salt, Mosquitto's own (1.6 and earlier), not crypt(3)'s.
    Sha512 { salt: Box<[u8]>, hash: Box<[u8]> },
    /// `$7$iterations$salt$hash`: PBKDF2 with HMAC-SHA-512, Mosquitto's from 2.0 on. HMAC fills short
    /// keys up with zeros, so it cannot tell a password from the same with NULs behind it.
    Pbkdf2 { iterations: NonZeroU32, salt: Box<[u8]>, hash: Box<[u8]> },
    /// `$argon2id$v=19$m=..,t=..,p=..$salt$hash`.
    Argon2id { params: Params, salt: Box<[u8]>, hash: Box<[u8]> },
    /// `SCRAM-SHA-256$iterations:salt$StoredKey:ServerKey`.
    Scram(Keys),
}

impl Hash {
    /// For a new entry.
    #[must_use]
    pub fn argon2id(password: &[u8], salt: [u8; SALT_BYTES]) -> Self {
        let params = Params::new(
            Params::DEFAULT_M_COST,
            Params::DEFAULT_T_COST,
            Params::DEFAULT_P_COST,
            Some(ARGON2_HASH_BYTES),
        );
        let params = params.expect("the default parameters are in range");
        let mut hash = [0; ARGON2_HASH_BYTES];
        argon2id(&params, &salt, password, &mut hash).expect("parameters and salt are in range");
        Self::Argon2id { params, salt: salt.into(), hash: hash.into() }
    }

    /// For a file that Mosquitto 2.0 must be able to read as well.
    #[must_use]
    pub fn pbkdf2(password: &[u8], salt: [u8; SALT_BYTES]) -> Self {
        let salt = &salt[..MOSQUITTO_SALT_BYTES];
        let hash = pbkdf2(PBKDF2_ITERATIONS, salt, password).into();
        Self::Pbkdf2 { iterations: PBKDF2_ITERATIONS, salt: salt.into(), hash }
    }

    /// For clients that prove with SCRAM that they know the password. They may show it as well.
    ///
    /// # Errors
    /// If the password has no form in which SCRAM could compare it.
    pub fn new_scram(password: &[u8], salt: [u8; SALT_BYTES]) -> Result<Self, Unfit> {
        let text = str::from_utf8(password).map_err(|_| Unfit)?;
        let password = scram::prepare(text)?;
        Ok(Self::Scram(Keys::derive(password.as_bytes(), &salt, scram::ITERATIONS)))
    }

    /// Reads what stands behind the user name.
    ///
    /// # Errors
    /// Says what is wrong, in words that hold nothing of `text`.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        if let Some(rest) = text.strip_prefix("$6$") {
            parse_sha512(rest)
        } else if let Some(rest) = text.strip_prefix("$7$") {
            parse_pbkdf2(rest)
        } else if let Some(rest) = text.strip_prefix("$argon2id$") {
            parse_argon2id(rest)
        } else if let Some(rest) = text.strip_prefix("SCRAM-SHA-256$") {
            parse_scram(rest)
        } else if text.is_empty() {
            Err("no password behind the ':'")
        } else {
            Err("not a hash of a known kind ($6$, $7$, $argon2id$, SCRAM-SHA-256$); \
                 plain passwords become hashes with `muring passwd --upgrade`")
        }
    }

    /// Whether this is the password. Takes as long for a wrong as for a right one.
    #[must_use]
    pub fn verify(&self, password: &[u8]) -> bool {
        match self {
            Self::Sha512 { salt, hash } => sha512(salt, password).ct_eq(hash).into(),
            Self::Pbkdf2 { iterations, salt, hash } => {
                pbkdf2(*iterations, salt, password).ct_eq(hash).into()
            }
            Self::Argon2id { params, salt, hash } => {
                let mut computed = vec![0; hash.len()];
                // It fails for what `parse` refuses, and a hash of zeros is not to be a way in.
                argon2id(params, salt, password, &mut computed).is_ok()
                    & bool::from(computed.ct_eq(hash))
            }
            Self::Scram(keys) => keys.verify(password),
        }
    }

    /// What [`Self::verify`] takes.
    #[must_use]
    pub fn cost(&self) -> Cost {
        match self {
            Self::Sha512 { .. } => Cost::Cheap,
            Self::Pbkdf2 { .. } | Self::Argon2id { .. } | Self::Scram(_) => Cost::Dear,
        }
    }

    pub(super) fn scram(&self) -> Option<&Keys> {
        match self {
            Self::Scram(keys) => Some(keys),
            Self::Sha512 { .. } | Self::Pbkdf2 { .. } | Self::Argon2id { .. } => None,
        }
    }
}

impl fmt::Debug for Hash {
    /// The kind alone.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Sha512 { .. } => "Sha512",
            Self::Pbkdf2 { .. } => "Pbkdf2",
            Self::Argon2id { .. } => "Argon2id",
            Self::Scram(_) => "Scram",
        })
    }
}

impl fmt::Display for Hash {
    /// What stands in a file.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sha512 { salt, hash } => {
                write!(f, "$6${}${}", STANDARD.encode(salt), STANDARD.encode(hash))
            }
            Self::Pbkdf2 { iterations, salt, hash } => {
                write!(f, "$7${iterations}${}${}", STANDARD.encode(salt), STANDARD.encode(hash))
            }
            Self::Argon2id { params, salt, hash } => {
                let (memory, passes, lanes) = (params.m_cost(), params.t_cost(), params.p_cost());
                let (salt, hash) = (STANDARD_NO_PAD.encode(salt), STANDARD_NO_PAD.encode(hash));
                write!(f, "$argon2id$v=19$m={memory},t={passes},p={lanes}${salt}${hash}")
            }
            Self::Scram(keys) => {
                let salt = STANDARD.encode(&keys.salt);
                let (stored, server) = (STANDARD.encode(keys.stored), STANDARD.encode(keys.server));
                write!(f, "SCRAM-SHA-256${}:{salt}${stored}:{server}", keys.iterations)
            }
        }
    }
}

fn sha512(salt: &[u8], password: &[u8]) -> [u8; SHA512_BYTES] {
    let mut context = digest::Context::new(&digest::SHA512);
    context.update(password);
    context.update(salt);
    let mut hash = [0; SHA512_BYTES];
    hash.copy_from_slice(context.finish().as_ref());
    hash
}

fn pbkdf2(iterations: NonZeroU32, salt: &[u8], password: &[u8]) -> [u8; SHA512_BYTES] {
    let mut hash = [0; SHA512_BYTES];
    pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA512, iterations, salt, password, &mut hash);
    hash
}

fn argon2id(params: &Params, salt: &[u8], password: &[u8], hash: &mut [u8]) -> argon2::Result<()> {
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params.clone())
        .hash_password_into(password, salt, hash)
}

fn parse_sha512(text: &str) -> Result<Hash, &'static str> {
    let (salt, hash) = text.split_once('$').ok_or("$6$ is not followed by salt and hash")?;
    Ok(Hash::Sha512 { salt: parse_salt(salt)?, hash: parse_sha512_hash(hash)? })
}

fn parse_pbkdf2(text: &str) -> Result<Hash, &'static str> {
    let mut parts = text.split('$');
    let (Some(iterations), Some(salt), Some(hash), None) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err("$7$ is not followed by iterations, salt and hash");
    };
    let iterations = number(iterations).filter(|&iterations| iterations <= ITERATIONS_MAX);
    let iterations = iterations.and_then(NonZeroU32::new);
    Ok(Hash::Pbkdf2 {
        iterations: iterations.ok_or("the iterations are not a number from 1 to 1000000")?,
        salt: parse_salt(salt)?,
        hash: parse_sha512_hash(hash)?,
    })
}

fn parse_argon2id(text: &str) -> Result<Hash, &'static str> {
    let mut parts = text.split('$');
    let (Some("v=19"), Some(params), Some(salt), Some(hash), None) =
        (parts.next(), parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err("$argon2id$ is not followed by v=19, parameters, salt and hash");
    };
    let salt =
        decode_without_padding(salt).filter(|salt| (8..=SALT_BYTES_MAX).contains(&salt.len()));
    let hash = decode_without_padding(hash).filter(|hash| (16..=64).contains(&hash.len()));
    let hash = hash.ok_or("the hash is not base64 of 16 to 64 bytes without padding")?;
    Ok(Hash::Argon2id {
        params: parse_argon2id_params(params, hash.len())?,
        salt: salt.ok_or("the salt is not base64 of 8 to 64 bytes without padding")?,
        hash,
    })
}

fn parse_argon2id_params(text: &str, hash_bytes: usize) -> Result<Params, &'static str> {
    let mut parts = text.split(',');
    let mut next = |key| number(parts.next()?.strip_prefix(key)?);
    let (Some(memory), Some(passes), Some(lanes)) = (next("m="), next("t="), next("p=")) else {
        return Err("the parameters are not m=NUMBER,t=NUMBER,p=NUMBER");
    };
    if parts.next().is_some() {
        return Err("more parameters than m, t and p");
    }
    if memory > ARGON2_KIB_MAX {
        return Err("m, the memory in KiB, is more than 262144 (256 MiB)");
    }
    if passes > ARGON2_PASSES_MAX || lanes > ARGON2_LANES_MAX {
        return Err("t or p is more than 16");
    }
    Params::new(memory, passes, lanes, Some(hash_bytes))
        .map_err(|_| "t or p is 0, or m less than 8 times p")
}

fn parse_scram(text: &str) -> Result<Hash, &'static str> {
    let halves = text.split_once('$').and_then(|(cost, keys)| {
        let (iterations, salt) = cost.split_once(':')?;
        let (stored, server) = keys.split_once(':')?;
        Some((iterations, salt, stored, server))
    });
    let (iterations, salt, stored, server) =
        halves.ok_or("SCRAM-SHA-256$ is not followed by iterations:salt$StoredKey:ServerKey")?;
    let range = scram::ITERATIONS_MIN..=ITERATIONS_MAX;
    let iterations = number(iterations).filter(|iterations| range.contains(iterations));
    let iterations = iterations.and_then(NonZeroU32::new);
    let key = |text| STANDARD.decode(text).ok()?.try_into().ok();
    Ok(Hash::Scram(Keys {
        iterations: iterations.ok_or("the iterations are not a number from 4096 to 1000000")?,
        salt: parse_salt(salt)?,
        stored: key(stored).ok_or("StoredKey is not base64 of 32 bytes")?,
        server: key(server).ok_or("ServerKey is not base64 of 32 bytes")?,
    }))
}

fn parse_salt(text: &str) -> Result<Box<[u8]>, &'static str> {
    let salt = STANDARD.decode(text).ok();
    let salt = salt.filter(|salt| (1..=SALT_BYTES_MAX).contains(&salt.len()));
    salt.map(Vec::into_boxed_slice).ok_or("the salt is not base64 of 1 to 64 bytes")
}

fn parse_sha512_hash(text: &str) -> Result<Box<[u8]>, &'static str> {
    let hash = STANDARD.decode(text).ok().filter(|hash| hash.len() == SHA512_BYTES);
    hash.map(Vec::into_boxed_slice).ok_or("the hash is not base64 of 64 bytes")
}

fn decode_without_padding(text: &str) -> Option<Box<[u8]>> {
    STANDARD_NO_PAD.decode(text).ok().map(Vec::into_boxed_slice)
}

/// Digits alone: the standard library would take a sign as well.
fn number(text: &str) -> Option<u32> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}
