//! What a TLS listener needs, from PEM texts: certificates and keys, whom to trust, what is revoked.
//!
//! Either all of it is good and gives a [`TlsPolicy`], or nothing is changed and the error says which file
//! is to blame. A policy is never altered: a reload makes a new one, with new ticket keys, so that nobody
//! resumes what was agreed upon before.

use std::fmt;
use std::sync::Arc;

use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::SectionKind;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::time_provider::{DefaultTimeProvider, TimeProvider};
use rustls::{RootCertStore, ServerConfig, SupportedProtocolVersion};
use x509_parser::prelude::FromDer;
use x509_parser::revocation_list::CertificateRevocationList;

use super::names::{self, IdentitySource};
use super::pem::{DECRYPT_IT, MaterialError, Pem, Section};
use super::resolver::Resolver;
use super::{LAYER, TransportError};

/// All that makes a listener's TLS, as texts of files.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TlsMaterial {
    /// One for each group of names; a client that asks for no name, or an unknown one, gets the first.
    pub certificates: Vec<ServerCertificate>,
    pub client_auth: ClientAuth,
    /// The authorities whose clients are trusted.
    pub client_ca: Option<Pem>,
    /// If there are any, each authority below which clients are trusted needs one: an unknown status is
    /// refused like a revoked one.
    pub crls: Vec<Pem>,
    pub expired_crl: ExpiredCrl,
    pub identity: IdentitySource,
    pub version_min: VersionMin,
    pub application: Application,
}

/// A chain, the server's own certificate first, and its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerCertificate {
    pub chain: Pem,
    pub key: Pem,
}

/// Whether clients show certificates.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ClientAuth {
    #[default]
    None,
    /// A client without one is let in, one with a bad one is not.
    Optional,
    Required,
}

/// What a CRL says after its next update was due.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ExpiredCrl {
    /// Nothing that could be relied on: its authority's clients are refused.
    #[default]
    Refuse,
    /// As much as before.
    Accept,
}

/// The oldest version of TLS that is spoken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum VersionMin {
    #[default]
    Tls12,
    Tls13,
}

/// What is carried, told with ALPN to clients that ask. One that asks for something else is refused.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Application {
    #[default]
    Mqtt,
    /// WebSocket begins as HTTP/1.1.
    WebSocket,
}

/// When something in a file stops being valid. Whoever has a clock warns of what is over or soon will be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expiry {
    pub file: String,
    pub line: usize,
    /// Seconds since 1970.
    pub at: i64,
}

/// A listener's TLS, ready for use. Shared by its connections on all shards.
///
/// Sessions are resumed with tickets alone, so that there is no cache to share. What is shared is the
/// tickets' key: a lock for readers, taken once in a handshake, written every six hours.
pub struct TlsPolicy {
    config: Arc<ServerConfig>,
    verifier: Option<Arc<dyn ClientCertVerifier>>,
    identity: IdentitySource,
    expiries: Vec<Expiry>,
}

impl TlsPolicy {
    #[must_use]
    pub fn config(&self) -> &Arc<ServerConfig> {
        &self.config
    }

    /// Ends of validity of the server's certificates and of the CRLs.
    #[must_use]
    pub fn expiries(&self) -> &[Expiry] {
        &self.expiries
    }

    pub(super) fn identity(&self) -> IdentitySource {
        self.identity
    }

    /// Whether a client's chain is good now.
    pub(super) fn verify(&self, chain: &[CertificateDer<'_>]) -> Result<(), TransportError> {
        let broken = |why: &str| TransportError::broken(LAYER, why);
        let (Some(verifier), [own, above @ ..]) = (&self.verifier, chain) else {
            return Err(broken("a resumed session has a certificate that nobody asked for"));
        };
        let now = self.config.time_provider.current_time();
        let now = now.ok_or_else(|| broken("the system does not know the time"))?;
        let verified = verifier.verify_client_cert(own, above, now);
        verified.map(drop).map_err(|error| broken(&error.to_string()))
    }
}

impl fmt::Debug for TlsPolicy {
    /// Without the configuration, which holds keys.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsPolicy")
            .field("identity", &self.identity)
            .field("expiries", &self.expiries)
            .finish_non_exhaustive()
    }
}

impl TlsMaterial {
    /// Reads all texts and makes what the connections share.
    ///
    /// # Errors
    /// If anything in the texts cannot be used, or does not fit together.
    pub fn policy(&self) -> Result<TlsPolicy, MaterialError> {
        self.policy_by(Arc::new(DefaultTimeProvider))
    }

    /// The same, with a clock that says which certificates are valid.
    ///
    /// # Errors
    /// As [`Self::policy`].
    pub fn policy_by(&self, clock: Arc<dyn TimeProvider>) -> Result<TlsPolicy, MaterialError> {
        let provider = Arc::new(ring::default_provider());
        let mut expiries = Vec::new();
        let certificates = self.certificates.iter();
        let certificates = certificates.map(|pair| pair.read(&provider, &mut expiries));
        let certificates = certificates.collect::<Result<Vec<_>, _>>()?;
        let Some(first) = self.certificates.first() else {
            return Err(nameless("TLS needs a certificate and its key"));
        };
        let verifier = self.verifier(&provider, &mut expiries)?;
        let wrong = |error: rustls::Error| first.chain.error(None, error.to_string());
        let config = ServerConfig::builder_with_details(provider, clock);
        let config = config.with_protocol_versions(self.version_min.versions()).map_err(wrong)?;
        let config = match &verifier {
            Some(verifier) => config.with_client_cert_verifier(Arc::clone(verifier)),
            None => config.with_no_client_auth(),
        };
        let mut config = config.with_cert_resolver(Arc::new(Resolver::new(certificates)));
        config.alpn_protocols = vec![self.application.alpn().to_vec()];
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.ticketer = ring::Ticketer::new().map_err(wrong)?;
        // One is enough to come back with, and each costs a record and its encryption.
        config.send_tls13_tickets = 1;
        Ok(TlsPolicy { config: Arc::new(config), verifier, identity: self.identity, expiries })
    }

    fn verifier(
        &self,
        provider: &Arc<CryptoProvider>,
        expiries: &mut Vec<Expiry>,
    ) -> Result<Option<Arc<dyn ClientCertVerifier>>, MaterialError> {
        if self.client_auth == ClientAuth::None {
            return self.unverified();
        }
        let Some(ca) = &self.client_ca else {
            return Err(nameless(
                "client certificates are asked for, but no authority is named to trust",
            ));
        };
        let crls = self.crls.iter().map(|crl| read_crls(crl, expiries));
        let crls: Vec<_> = crls.collect::<Result<Vec<_>, _>>()?.into_iter().flatten().collect();
        let mut builder = WebPkiClientVerifier::builder_with_provider(
            Arc::new(read_roots(ca)?),
            Arc::clone(provider),
        )
        .with_crls(crls);
        if self.client_auth == ClientAuth::Optional {
            builder = builder.allow_unauthenticated();
        }
        if self.expired_crl == ExpiredCrl::Refuse {
            builder = builder.enforce_revocation_expiration();
        }
        let blamed = self.crls.first().unwrap_or(ca);
        let verifier = builder.build().map_err(|error| blamed.error(None, error.to_string()))?;
        Ok(Some(verifier))
    }

    /// Nobody is asked for a certificate: then nothing may rely on one.
    fn unverified(&self) -> Result<Option<Arc<dyn ClientCertVerifier>>, MaterialError> {
        if let Some(unused) = self.client_ca.iter().chain(&self.crls).next() {
            return Err(unused.error(
                None,
                "it is for client certificates, which are not asked for: make them optional or \
                 required, or leave the file out",
            ));
        }
        if self.identity != IdentitySource::None {
            return Err(nameless(
                "identities come from client certificates, which are not asked for: make them \
                 optional or required",
            ));
        }
        Ok(None)
    }
}

impl VersionMin {
    fn versions(self) -> &'static [&'static SupportedProtocolVersion] {
        match self {
            Self::Tls12 => VERSIONS,
            Self::Tls13 => &VERSIONS[..1],
        }
    }
}

/// Newest first.
static VERSIONS: &[&SupportedProtocolVersion] = &[&rustls::version::TLS13, &rustls::version::TLS12];

impl Application {
    fn alpn(self) -> &'static [u8] {
        match self {
            Self::Mqtt => b"mqtt",
            Self::WebSocket => b"http/1.1",
        }
    }
}

impl ServerCertificate {
    fn read(
        &self,
        provider: &CryptoProvider,
        expiries: &mut Vec<Expiry>,
    ) -> Result<CertifiedKey, MaterialError> {
        let mut chain = Vec::new();
        for section in self.chain.sections()? {
            if section.kind != SectionKind::Certificate {
                continue;
            }
            let Some(at) = names::not_after(&section.der) else {
                return Err(self.chain.error(Some(section.line), "this is not a certificate"));
            };
            expiries.push(Expiry { file: self.chain.name.clone(), line: section.line, at });
            chain.push(CertificateDer::from(section.der));
        }
        if chain.is_empty() {
            return Err(self.chain.error(None, "no certificate is in the file (PEM is expected)"));
        }
        let key = read_key(&self.key)?;
        CertifiedKey::from_der(chain, key, provider).map_err(|error| match error {
            rustls::Error::InconsistentKeys(_) => {
                let chain = &self.chain.name;
                let problem = format!(
                    "the key is not that of the first certificate in {chain}; the server's own \
                     certificate comes first, those of its authorities after it"
                );
                self.key.error(None, problem)
            }
            error => self.key.error(None, format!("the key cannot be used: {error}")),
        })
    }
}

fn read_key(pem: &Pem) -> Result<PrivateKeyDer<'static>, MaterialError> {
    let mut keys = pem.sections()?.into_iter().filter_map(key_of);
    match (keys.next(), keys.next()) {
        (Some(key), None) => Ok(key),
        (Some(_), Some(_)) => Err(pem.error(None, "several keys are in the file; leave one")),
        (None, _) if pem.is_encrypted() => Err(pem.error(None, DECRYPT_IT)),
        (None, _) => Err(pem.error(None, "no private key is in the file (PEM is expected)")),
    }
}

fn key_of(section: Section) -> Option<PrivateKeyDer<'static>> {
    match section.kind {
        SectionKind::PrivateKey => Some(PrivateKeyDer::Pkcs8(section.der.into())),
        SectionKind::RsaPrivateKey => Some(PrivateKeyDer::Pkcs1(section.der.into())),
        SectionKind::EcPrivateKey => Some(PrivateKeyDer::Sec1(section.der.into())),
        _ => None,
    }
}

fn read_roots(pem: &Pem) -> Result<RootCertStore, MaterialError> {
    let mut roots = RootCertStore::empty();
    for section in pem.sections()? {
        if section.kind == SectionKind::Certificate {
            let added = roots.add(CertificateDer::from(section.der));
            added.map_err(|_| pem.error(Some(section.line), "this is not a certificate"))?;
        }
    }
    if roots.is_empty() {
        return Err(pem.error(None, "no certificate is in the file (PEM is expected)"));
    }
    Ok(roots)
}

fn read_crls(
    pem: &Pem,
    expiries: &mut Vec<Expiry>,
) -> Result<Vec<CertificateRevocationListDer<'static>>, MaterialError> {
    let mut crls = Vec::new();
    for section in pem.sections()? {
        if section.kind != SectionKind::Crl {
            continue;
        }
        let Ok((_, crl)) = CertificateRevocationList::from_der(&section.der) else {
            return Err(pem.error(Some(section.line), "this is not a revocation list"));
        };
        let file = &pem.name;
        let next = crl.next_update();
        expiries.extend(next.map(|at| Expiry {
            file: file.clone(),
            line: section.line,
            at: at.timestamp(),
        }));
        crls.push(CertificateRevocationListDer::from(section.der));
    }
    if crls.is_empty() {
        return Err(pem.error(None, "no revocation list is in the file (PEM is expected)"));
    }
    Ok(crls)
}

/// A mistake that is in no file.
fn nameless(problem: &str) -> MaterialError {
    MaterialError { file: "TLS".into(), line: None, problem: problem.into() }
}
