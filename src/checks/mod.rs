//! Finds out who clients are, by the methods of their listener, without ever holding up a shard.
//!
//! A listener's methods are asked in their order, and the first that applies decides: it lets the client
//! in or refuses it. What applies:
//!
//! - `x509`: the transport knows an identity, from a certificate or a unix socket's peer.
//! - `jwt`: the password has the form of a token.
//! - `password`: there are a user name and a password.
//! - `http`: there is a user name or a password.
//! - `scram`: the CONNECT names that authentication method. One that names a method is not asked anything
//!   else.
//! - `anonymous`: always. Such a client has no user name, whatever it said.
//!
//! Who is left over is refused. Passwords, tokens and URLs are checked by helper threads (`pool`); URLs
//! have threads of their own, so that a slow one does not hold up passwords.

mod hook;
mod pool;

use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use gate::admission::{Flapping, FlappingLimits};
use gate::jwt::Verifier;
use gate::passwd::{Cost, Passwords};
use gate::scram::{self, Disguise, Exchange};
use ring::rand::{SecureRandom as _, SystemRandom};
use shards::auth::{Authenticate, Credentials, Grant, Identity, Verdict};
use shards::ids::{ConnId, ShardId};
use shards::reject::ReasonCode;

use self::hook::Question;
use self::pool::{Job, Pool};
use crate::config::Method;
use crate::reactor::{Stations, monotonic};

pub use self::hook::Hook;

/// What clients are checked by. Shared by all shards, replaced as a whole.
#[derive(Debug, Default)]
pub struct AuthRules {
    /// The methods of each listener, by position in the configuration.
    pub listeners: Vec<Box<[Method]>>,
    pub passwords: Option<Passwords>,
    /// Users that were in the password file and are not any more.
    pub removed: BTreeSet<Box<str>>,
    pub tokens: Option<Verifier>,
    pub hook: Option<Hook>,
    pub deny_client_ids: BTreeSet<Box<str>>,
    pub flapping: FlappingLimits,
}

impl AuthRules {
    /// Takes note of who is not in the password file any more: they are to go, whatever let them in.
    pub(crate) fn follow(&mut self, before: &Self) {
        let old = before.passwords.iter().flat_map(Passwords::names);
        let is_there = |user: &&str| self.passwords.as_ref().is_some_and(|now| now.contains(user));
        self.removed = old.filter(|user| !is_there(user)).map(Into::into).collect();
    }
}

/// The threads for what takes long.
#[derive(Clone, Debug)]
pub struct Helpers {
    local: Pool,
    remote: Pool,
    random: SystemRandom,
    /// For SCRAM; the same as long as the process lives.
    disguise: Disguise,
}

impl Helpers {
    /// `threads` for each of the two kinds of checks, and as many jobs waiting as `queue_max`.
    ///
    /// # Errors
    /// If they cannot be started.
    pub fn start(threads: usize, queue_max: usize, stations: &Arc<Stations>) -> io::Result<Self> {
        let random = SystemRandom::new();
        let mut secret = [0; 32];
        random.fill(&mut secret).map_err(|_| io::Error::other("the system has no randomness"))?;
        Ok(Self {
            local: Pool::start("muring-check", threads, queue_max, stations)?,
            remote: Pool::start("muring-hook", threads, queue_max, stations)?,
            random,
            disguise: Disguise::new(&secret),
        })
    }
}

/// One shard's checks.
pub struct Checker {
    shard: ShardId,
    rules: Arc<AuthRules>,
    helpers: Helpers,
    flapping: Flapping,
    /// Checks that were put off; also some that have been answered.
    pending: HashMap<ConnId, Arc<AtomicBool>>,
    /// Beyond so many, those that were answered are looked for.
    pending_max: usize,
    /// Clients that were challenged.
    exchanges: HashMap<ConnId, Exchange>,
}

impl fmt::Debug for Checker {
    /// Without what clients have sent.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Checker").field("shard", &self.shard).finish_non_exhaustive()
    }
}

/// Checks that may be put off before answered ones are looked for.
const PENDING_MIN: usize = 64;

/// A method's answer, if it applies.
type Answer = Option<Verdict>;

impl Checker {
    #[must_use]
    pub fn new(shard: ShardId, rules: Arc<AuthRules>, helpers: Helpers) -> Self {
        Self {
            shard,
            flapping: Flapping::new(rules.flapping),
            rules,
            helpers,
            pending: HashMap::new(),
            pending_max: PENDING_MIN,
            exchanges: HashMap::new(),
        }
    }

    fn ask(&mut self, method: Method, credentials: &Credentials<'_>) -> Answer {
        match method {
            Method::X509 => {
                let user = Some(credentials.identity?.into());
                Some(Verdict::Allow(Grant { user, ..Grant::default() }))
            }
            Method::Jwt => self.ask_token(credentials),
            Method::Http => self.ask_hook(credentials),
            Method::Password => self.ask_password(credentials),
            Method::Scram => None,
            Method::Anonymous => Some(Verdict::allow()),
        }
    }

    fn ask_token(&mut self, credentials: &Credentials<'_>) -> Answer {
        let token = credentials.password.filter(|password| is_token(password))?.to_owned();
        let rules = Arc::clone(&self.rules);
        rules.tokens.as_ref()?;
        let client_id = credentials.client_id.to_owned();
        let user_name = credentials.user_name.map(str::to_owned);
        let work = move || {
            let now = unix_secs();
            let verifier = rules.tokens.as_ref();
            let found = verifier
                .map(|verifier| verifier.verify(&token, &client_id, user_name.as_deref(), now));
            match found {
                Some(Ok(bearer)) => Verdict::Allow(bearer.into_grant(now)),
                Some(Err(_)) | None => Verdict::Deny(ReasonCode::BadUserNameOrPassword),
            }
        };
        let pool = self.helpers.local.clone();
        Some(self.put_off(credentials.conn, &pool, Box::new(work)))
    }

    fn ask_password(&mut self, credentials: &Credentials<'_>) -> Answer {
        let (user, password) = (credentials.user_name?, credentials.password?);
        let rules = Arc::clone(&self.rules);
        let cost = rules.passwords.as_ref()?.cost(user);
        let (user, password) = (Box::<str>::from(user), password.to_owned());
        let work = move || match &rules.passwords {
            Some(passwords) if passwords.verify(&user, &password) => {
                Verdict::Allow(Grant { user: Some(user), ..Grant::default() })
            }
            Some(_) | None => Verdict::Deny(ReasonCode::BadUserNameOrPassword),
        };
        Some(match cost {
            Cost::Cheap => work(),
            Cost::Dear => {
                let pool = self.helpers.local.clone();
                self.put_off(credentials.conn, &pool, Box::new(work))
            }
        })
    }

    /// The first message of an enhanced authentication.
    fn challenge(&mut self, credentials: &Credentials<'_>) -> Verdict {
        let methods = self.rules.listeners.get(usize::from(credentials.listener));
        let is_offered = methods.is_some_and(|methods| methods.contains(&Method::Scram));
        let passwords = self.rules.passwords.as_ref().filter(|_| is_offered);
        let Some(passwords) = passwords.filter(|_| credentials.method == Some(scram::METHOD))
        else {
            return Verdict::Deny(ReasonCode::BadAuthenticationMethod);
        };
        let mut nonce = [0; scram::NONCE_BYTES];
        if self.helpers.random.fill(&mut nonce).is_err() {
            return Verdict::Deny(ReasonCode::ServerUnavailable);
        }
        let first = credentials.data.unwrap_or_default();
        match scram::begin(first, &nonce, passwords, &self.helpers.disguise) {
            Ok((exchange, answer)) => {
                self.exchanges.insert(credentials.conn, exchange);
                Verdict::Challenge(answer)
            }
            Err(_) => Verdict::Deny(ReasonCode::NotAuthorized),
        }
    }

    fn ask_hook(&mut self, credentials: &Credentials<'_>) -> Answer {
        credentials.user_name.map(str::as_bytes).or(credentials.password)?;
        let hook = self.rules.hook.clone()?;
        let question = Question::new(credentials);
        let work = move || hook.ask(question);
        let pool = self.helpers.remote.clone();
        Some(self.put_off(credentials.conn, &pool, Box::new(work)))
    }

    fn put_off(
        &mut self,
        conn: ConnId,
        pool: &Pool,
        work: Box<dyn FnOnce() -> Verdict + Send>,
    ) -> Verdict {
        let is_void = Arc::new(AtomicBool::new(false));
        let job = Job { shard: self.shard, conn, is_void: Arc::clone(&is_void), work };
        if !pool.offer(job) {
            return Verdict::Deny(ReasonCode::QuotaExceeded);
        }
        if self.pending.len() >= self.pending_max {
            // Whoever works on a check, or brings its answer, has a copy.
            self.pending.retain(|_, is_void| Arc::strong_count(is_void) > 1);
            self.pending_max = PENDING_MIN.max(2 * self.pending.len());
        }
        self.pending.insert(conn, is_void);
        Verdict::Later
    }
}

impl Authenticate for Checker {
    fn check(&mut self, credentials: &Credentials<'_>) -> Verdict {
        if self.rules.deny_client_ids.contains(credentials.client_id) {
            return Verdict::Deny(ReasonCode::Banned);
        }
        if !self.flapping.admit(monotonic(), credentials.client_id) {
            return Verdict::Deny(ReasonCode::ConnectionRateExceeded);
        }
        if credentials.method.is_some() {
            return self.challenge(credentials);
        }
        let rules = Arc::clone(&self.rules);
        let methods = rules.listeners.get(usize::from(credentials.listener));
        for method in methods.map(|methods| &**methods).unwrap_or_default() {
            if let Some(verdict) = self.ask(*method, credentials) {
                return verdict;
            }
        }
        Verdict::Deny(if credentials.user_name.is_some() {
            ReasonCode::BadUserNameOrPassword
        } else {
            ReasonCode::NotAuthorized
        })
    }

    fn proceed(&mut self, credentials: &Credentials<'_>) -> Verdict {
        let exchange = self.exchanges.remove(&credentials.conn);
        let Some(exchange) = exchange else { return Verdict::Deny(ReasonCode::NotAuthorized) };
        let user = Some(exchange.user().into());
        match exchange.finish(credentials.data.unwrap_or_default()) {
            Ok(answer) => {
                let data = Some(answer.into());
                Verdict::Allow(Grant { user, data, ..Grant::default() })
            }
            Err(_) => Verdict::Deny(ReasonCode::NotAuthorized),
        }
    }

    fn forget(&mut self, conn: ConnId) {
        self.exchanges.remove(&conn);
        if let Some(is_void) = self.pending.remove(&conn) {
            is_void.store(true, Ordering::Relaxed);
        }
    }

    fn is_valid(&self, client_id: &str, identity: &Identity) -> bool {
        if self.rules.deny_client_ids.contains(client_id) {
            return false;
        }
        let methods = self.rules.listeners.get(usize::from(identity.listener));
        let Some(methods) = methods else { return false };
        let Some(user) = identity.user.as_deref() else {
            return identity.rights.is_some() || methods.contains(&Method::Anonymous);
        };
        if self.rules.removed.contains(user) {
            return false;
        }
        // A user can have come by any of the methods; where that can only be a password, the file must
        // still have it.
        let is_by_password = |method: &Method| match method {
            Method::Password | Method::Scram | Method::Anonymous => true,
            Method::X509 | Method::Jwt | Method::Http => false,
        };
        let passwords = self.rules.passwords.as_ref();
        !methods.iter().all(is_by_password)
            || passwords.is_some_and(|passwords| passwords.contains(user))
    }
}

/// Whether a password has the form of a token: three parts, and the first begins as a JSON object does in
/// base64.
fn is_token(password: &[u8]) -> bool {
    password.starts_with(b"eyJ") && password.iter().filter(|byte| **byte == b'.').count() == 2
}

fn unix_secs() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

#[cfg(test)]
mod tests;
