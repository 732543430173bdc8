//! Which of several certificates a client is shown.

use std::sync::Arc;

use rustls::SignatureScheme;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use super::names;

/// Certificates by the names they are good for, in the order of the configuration.
#[derive(Debug)]
pub(super) struct Resolver {
    entries: Vec<(Vec<Box<str>>, Arc<CertifiedKey>)>,
}

impl Resolver {
    pub(super) fn new(certificates: Vec<CertifiedKey>) -> Self {
        let entry = |key: CertifiedKey| {
            let own = key.cert.first();
            let names = own.map(|own| names::dns_names(own)).unwrap_or_default();
            (names, Arc::new(key))
        };
        Self { entries: certificates.into_iter().map(entry).collect() }
    }

    /// The first that has the name and a key that the client can verify; else the first with such a
    /// key; else the first: then the handshake fails for the reason that is the client's.
    fn choose(
        &self,
        name: Option<&str>,
        schemes: &[SignatureScheme],
    ) -> Option<&Arc<CertifiedKey>> {
        let name = name.map(str::to_ascii_lowercase);
        let is_good = |key: &CertifiedKey| key.key.choose_scheme(schemes).is_some();
        let has_name = |names: &[Box<str>]| {
            name.as_deref().is_some_and(|name| names.iter().any(|known| is_for(known, name)))
        };
        let named = self.entries.iter().find(|(names, key)| has_name(names) && is_good(key));
        let entry = named.or_else(|| self.entries.iter().find(|(_, key)| is_good(key)));
        entry.or_else(|| self.entries.first()).map(|(_, key)| key)
    }
}

impl ResolvesServerCert for Resolver {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.choose(hello.server_name(), hello.signature_schemes()).cloned()
    }
}

/// Whether a certificate's name covers a host: the same, or a wildcard in place of its first label.
fn is_for(known: &str, host: &str) -> bool {
    match known.strip_prefix("*.") {
        Some(parent) => host.split_once('.').is_some_and(|(_, rest)| rest == parent),
        None => known == host,
    }
}

#[cfg(test)]
mod tests {
    use super::is_for;

    #[track_caller]
    fn check(known: &str, host: &str, want: bool) {
        assert_eq!(is_for(known, host), want, "{known} for {host}");
    }

    #[test]
    fn a_wildcard_stands_for_one_label() {
        check("a.example", "a.example", true);
        check("a.example", "b.a.example", false);
        check("*.example", "a.example", true);
        check("*.example", "example", false);
        check("*.example", "b.a.example", false);
    }
}
