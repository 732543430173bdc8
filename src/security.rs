//! What the configuration's files say about who may come and do what: read as a whole, at the start and on
//! SIGHUP. A mistake in one file leaves everything as it was.

use std::collections::BTreeSet;
use std::fmt::Display;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use gate::acl::Acl;
use gate::admission::{FlappingLimits, Limits, Rules};
use gate::jwt::{Keys, Policy, TopicClaims, Verifier};
use gate::passwd::Passwords;
use gate::rights::AclRules;
use gate::transport::StackConfig;
use gate::transport::proxy::ProxyPolicy;
use gate::transport::tls::{
    Application, ClientAuth, IdentitySource, Pem, ServerCertificate, TlsMaterial, TlsPolicy,
    VersionMin,
};
use gate::transport::ws::WsPolicy;
use shards::auth::{Authenticate, Authorise};
use shards::ids::ShardId;

use crate::checks::{AuthRules, Checker, Helpers, Hook};
use crate::config::{
    AdmissionLimits, AuthConfig, CertificateIdentity, ClientCertificates, Config, HttpConfig,
    JwtConfig, Kind, ListenerConfig, Secret, TlsConfig, TlsVersion,
};
use crate::reactor::Transports;

/// Certificates that end sooner than this are warned of.
const EXPIRES_SOON_S: i64 = 14 * 24 * 3600;

/// A file that cannot be used: which, where in it, and why.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct SecurityError(String);

impl SecurityError {
    fn new(problem: impl Display) -> Self {
        Self(problem.to_string())
    }
}

/// What all shards go by.
#[derive(Clone, Debug, Default)]
pub struct Security {
    pub transports: Transports,
    auth: Arc<AuthRules>,
    acl: Option<Arc<Acl>>,
    has_tokens: bool,
    admission: Rules,
    /// What will soon be a problem.
    pub warnings: Vec<String>,
}

impl Security {
    /// Reads every file that the configuration names.
    ///
    /// # Errors
    /// The first that cannot be used.
    pub fn load(config: &Config) -> Result<Self, SecurityError> {
        let mut warnings = Vec::new();
        let stacks = config.listeners.iter().map(|listener| stack(listener, &mut warnings));
        let stacks = stacks.collect::<Result<Vec<_>, _>>()?;
        let acl = config.acl.as_deref().map(|path| -> Result<_, SecurityError> {
            let text = read_text(path)?;
            let acl = Acl::parse(&path.display().to_string(), &text);
            acl.map(Arc::new).map_err(SecurityError::new)
        });
        Ok(Self {
            transports: Transports::new(stacks),
            auth: Arc::new(auth_rules(config)?),
            acl: acl.transpose()?,
            has_tokens: config.auth.jwt.is_some(),
            admission: Rules {
                listeners: config.listeners.iter().map(|l| limits(l.admission)).collect(),
                deny_networks: config.admission.deny_networks.clone(),
            },
            warnings,
        })
    }

    /// The rules that came after `before`.
    #[must_use]
    pub(crate) fn following(mut self, before: &Self) -> Self {
        // It was just made, so nobody shares it yet.
        if let Some(auth) = Arc::get_mut(&mut self.auth) {
            auth.follow(&before.auth);
        }
        self
    }

    /// One shard's checks.
    #[must_use]
    pub fn authenticate(&self, shard: ShardId, helpers: &Helpers) -> Box<dyn Authenticate> {
        Box::new(Checker::new(shard, Arc::clone(&self.auth), helpers.clone()))
    }

    /// One shard's permissions.
    #[must_use]
    pub fn authorise(&self) -> Box<dyn Authorise> {
        Box::new(AclRules::new(self.acl.clone(), self.has_tokens))
    }

    /// One shard's limits on new connections.
    #[must_use]
    pub fn admission(&self, shards: u8) -> Rules {
        let listeners = self.admission.listeners.iter().map(|limits| limits.share(shards));
        Rules {
            listeners: listeners.collect(),
            deny_networks: self.admission.deny_networks.clone(),
        }
    }
}

fn limits(limits: AdmissionLimits) -> Limits {
    Limits {
        connects_per_s: limits.connects_per_s,
        connects_per_s_per_source: limits.connects_per_s_per_source,
        handshakes_max: limits.handshakes_max,
        handshakes_max_per_source: limits.handshakes_max_per_source,
        failures_max: limits.failures_max,
        penalty: Duration::from_secs(limits.penalty_s.into()),
        penalty_max: Duration::from_secs(limits.penalty_max_s.into()),
    }
}

fn auth_rules(config: &Config) -> Result<AuthRules, SecurityError> {
    let AuthConfig { password_file, jwt, http, .. } = &config.auth;
    let passwords = password_file.as_deref().map(|path| -> Result<_, SecurityError> {
        let text = read_text(path)?;
        Passwords::parse(&path.display().to_string(), &text).map_err(SecurityError::new)
    });
    let admission = &config.admission;
    let flapping = FlappingLimits {
        connects_max: admission.flapping_connects_max,
        window: Duration::from_secs(admission.flapping_window_s.into()),
        penalty: Duration::from_secs(admission.flapping_penalty_s.into()),
    };
    let methods = |listener: &ListenerConfig| Box::from(listener.authentication.as_slice());
    Ok(AuthRules {
        listeners: config.listeners.iter().map(methods).collect(),
        passwords: passwords.transpose()?,
        removed: BTreeSet::new(),
        tokens: jwt.as_ref().map(tokens).transpose()?,
        hook: http.as_ref().map(hook).transpose()?,
        deny_client_ids: admission.deny_client_ids.iter().map(|id| id.as_str().into()).collect(),
        flapping,
    })
}

fn tokens(config: &JwtConfig) -> Result<Verifier, SecurityError> {
    let mut keys = Keys::default();
    if let Some(secret) = &config.secret {
        let read = read_secret(secret)?;
        keys.add_secret(&secret.reference(), &read).map_err(SecurityError::new)?;
    }
    for path in &config.key_files {
        let read = read(path)?;
        keys.add_pem(&path.display().to_string(), &read).map_err(SecurityError::new)?;
    }
    if let Some(path) = &config.jwks {
        let read = read(path)?;
        keys.add_jwks(&path.display().to_string(), &read).map_err(SecurityError::new)?;
    }
    let topics = match (&config.publish_claim, &config.subscribe_claim) {
        (Some(publish), Some(subscribe)) => Some(TopicClaims {
            publish: publish.as_str().into(),
            subscribe: subscribe.as_str().into(),
        }),
        (None, None) => None,
        (Some(_), None) | (None, Some(_)) => {
            let problem = "auth.jwt: publish_claim and subscribe_claim go together; give both";
            return Err(SecurityError::new(problem));
        }
    };
    let boxed = |text: &String| Box::from(text.as_str());
    let required = config.claims.iter().map(|(name, value)| (boxed(name), boxed(value)));
    let policy = Policy {
        audience: config.audience.as_ref().map(boxed),
        issuer: config.issuer.as_ref().map(boxed),
        required: required.collect(),
        needs_expiry: config.expiry_required,
        leeway_s: config.leeway.as_secs(),
        user_claim: boxed(&config.user_claim),
        client_id_claim: config.client_id_claim.as_ref().map(boxed),
        topics,
        ..Policy::default()
    };
    Ok(Verifier::new(keys, policy))
}

fn hook(config: &HttpConfig) -> Result<Hook, SecurityError> {
    let ca = config.ca.as_deref().map(read).transpose()?;
    let hook = Hook::new(&config.url, config.timeout, ca.as_deref());
    hook.map_err(|problem| SecurityError(format!("auth.http: {problem}")))
}

/// The layers of a listener's connections.
fn stack(
    listener: &ListenerConfig,
    warnings: &mut Vec<String>,
) -> Result<StackConfig, SecurityError> {
    let proxy = listener.proxy_networks.clone().map(|networks| Arc::new(ProxyPolicy { networks }));
    let tls = listener.tls.as_ref().map(|config| tls(config, listener.kind)).transpose()?;
    if let Some(policy) = &tls {
        warn_of_expiries(policy, warnings);
    }
    let ws = listener.websocket.as_ref().map(|config| {
        let origins = match config.origins.as_slice() {
            [] => vec!["*".to_owned()],
            origins => origins.to_vec(),
        };
        Arc::new(WsPolicy { path: config.path.clone(), origins, ..WsPolicy::default() })
    });
    Ok(StackConfig { proxy, tls, ws })
}

fn tls(config: &TlsConfig, kind: Kind) -> Result<Arc<TlsPolicy>, SecurityError> {
    let certificates = config.certificates.iter().map(|certificate| {
        let key = Pem::new(certificate.key.reference(), read_secret(&certificate.key)?);
        Ok(ServerCertificate { chain: pem(&certificate.certificate)?, key })
    });
    let material = TlsMaterial {
        certificates: certificates.collect::<Result<_, SecurityError>>()?,
        client_auth: match config.client_certificates {
            ClientCertificates::None => ClientAuth::None,
            ClientCertificates::Optional => ClientAuth::Optional,
            ClientCertificates::Required => ClientAuth::Required,
        },
        client_ca: config.client_ca.as_deref().map(pem).transpose()?,
        crls: config.crl.as_deref().map(pem).transpose()?.into_iter().collect(),
        identity: match config.identity {
            CertificateIdentity::None => IdentitySource::None,
            CertificateIdentity::CommonName => IdentitySource::CommonName,
            CertificateIdentity::SubjectAltName => IdentitySource::SubjectAltName,
        },
        version_min: match config.minimum_version {
            TlsVersion::V1_2 => VersionMin::Tls12,
            TlsVersion::V1_3 => VersionMin::Tls13,
        },
        application: match kind {
            Kind::Ws | Kind::Wss => Application::WebSocket,
            Kind::Mqtt | Kind::Mqtts | Kind::Unix => Application::Mqtt,
        },
        ..TlsMaterial::default()
    };
    material.policy().map(Arc::new).map_err(SecurityError::new)
}

fn warn_of_expiries(policy: &TlsPolicy, warnings: &mut Vec<String>) {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let now = i64::try_from(now).unwrap_or(i64::MAX);
    for expiry in policy.expiries() {
        let (file, line) = (&expiry.file, expiry.line);
        if expiry.at <= now {
            warnings.push(format!("{file}:{line}: it has expired; renew it and send SIGHUP"));
        } else if expiry.at - now < EXPIRES_SOON_S {
            let days = (expiry.at - now) / (24 * 3600);
            warnings.push(format!("{file}:{line}: it expires in {days} days"));
        }
    }
}

fn pem(path: &Path) -> Result<Pem, SecurityError> {
    Ok(Pem::new(path.display().to_string(), read(path)?))
}

fn read(path: &Path) -> Result<Vec<u8>, SecurityError> {
    fs::read(path).map_err(|error| SecurityError(format!("{}: {error}", path.display())))
}

fn read_text(path: &Path) -> Result<String, SecurityError> {
    fs::read_to_string(path).map_err(|error| SecurityError(format!("{}: {error}", path.display())))
}

fn read_secret(secret: &Secret) -> Result<Vec<u8>, SecurityError> {
    secret.read().map_err(|error| SecurityError(format!("{}: {error}", secret.reference())))
}

/// Whether two configurations differ in what a running broker cannot change; the names of the settings.
#[must_use]
pub fn fixed_differences(old: &Config, new: &Config) -> Vec<&'static str> {
    let places = |config: &Config| -> Vec<_> {
        config.listeners.iter().map(|listener| (listener.kind, listener.place.clone())).collect()
    };
    let core = |config: &Config| -> Vec<_> {
        let known = config.listeners.iter().map(|listener| {
            let limits = (listener.connections_max, listener.packet_bytes_max);
            let rates = (listener.publishes_per_s, listener.bytes_per_s);
            (limits, rates, listener.versions.clone(), listener.mount_point.clone())
        });
        known.collect()
    };
    let (auth, other) = (&old.auth, &new.auth);
    let is_same = [
        ("the listeners' addresses and kinds", places(old) == places(new)),
        (
            "what the core knows of listeners (limits, versions, mount points)",
            core(old) == core(new),
        ),
        ("cores", old.cores == new.cores),
        ("idle", old.idle == new.idle),
        ("buffers", old.buffers == new.buffers),
        ("limits", old.settings == new.settings),
        ("log", old.log == new.log && old.log_level == new.log_level),
        ("auth.helper_threads", auth.helper_threads == other.helper_threads),
        ("auth.queue_max", auth.queue_max == other.queue_max),
    ];
    is_same.into_iter().filter(|(_, is_same)| !is_same).map(|(name, _)| name).collect()
}
