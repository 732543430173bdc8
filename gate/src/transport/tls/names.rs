//! Who a client is by its certificate.
//!
//! The chain was verified by rustls; here the names are read. A name that could be mistaken for more
//! than a name (in a log line, or in the place of `%u` in an ACL pattern) is none.

use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer;

/// Where in its certificate a client's identity stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum IdentitySource {
    /// Certificates open the door, but say nothing of who comes.
    #[default]
    None,
    /// The subject's common name; it must have exactly one.
    CommonName,
    /// The first of the subject's alternative names that is a DNS name, an e-mail address or a URI.
    SubjectAltName,
}

/// The identity in a certificate (DER), or why there is none where one is asked for.
pub(super) fn identity(
    source: IdentitySource,
    certificate: &[u8],
) -> Result<Option<Box<str>>, &'static str> {
    if source == IdentitySource::None {
        return Ok(None);
    }
    let (_, certificate) = X509Certificate::from_der(certificate)
        .map_err(|_| "the client's certificate cannot be parsed")?;
    let name = match source {
        IdentitySource::None => return Ok(None),
        IdentitySource::CommonName => common_name(&certificate)?,
        IdentitySource::SubjectAltName => alternative_name(&certificate)?,
    };
    if !is_plain(name) {
        return Err("the name in the client's certificate is not fit to be a user name");
    }
    Ok(Some(name.into()))
}

/// The DNS names that a certificate is good for, in lower case. Empty if it cannot be parsed.
pub(super) fn dns_names(certificate: &[u8]) -> Vec<Box<str>> {
    let Ok((_, certificate)) = X509Certificate::from_der(certificate) else { return Vec::new() };
    let Ok(Some(names)) = certificate.subject_alternative_name() else { return Vec::new() };
    let names = names.value.general_names.iter().filter_map(|name| match name {
        GeneralName::DNSName(name) => Some(name.to_ascii_lowercase().into_boxed_str()),
        _ => None,
    });
    names.collect()
}

/// Until when a certificate is valid, in seconds since 1970.
pub(super) fn not_after(certificate: &[u8]) -> Option<i64> {
    let (_, certificate) = X509Certificate::from_der(certificate).ok()?;
    Some(certificate.validity().not_after.timestamp())
}

fn common_name<'a>(certificate: &'a X509Certificate<'_>) -> Result<&'a str, &'static str> {
    let mut names = certificate.subject().iter_common_name();
    let (Some(name), None) = (names.next(), names.next()) else {
        return Err("the client's certificate has no common name, or several");
    };
    name.as_str().map_err(|_| "the common name in the client's certificate is not UTF-8")
}

fn alternative_name<'a>(certificate: &'a X509Certificate<'_>) -> Result<&'a str, &'static str> {
    const NONE: &str = "the client's certificate has no DNS name, e-mail address or URI";
    let names = certificate.subject_alternative_name();
    let names =
        names.map_err(|_| "the client's alternative names cannot be parsed")?.ok_or(NONE)?;
    let name = names.value.general_names.iter().find_map(|name| match name {
        GeneralName::DNSName(name) | GeneralName::RFC822Name(name) | GeneralName::URI(name) => {
            Some(*name)
        }
        _ => None,
    });
    name.ok_or(NONE)
}

/// No control characters, none of MQTT's wildcards nor that of certificates.
fn is_plain(name: &str) -> bool {
    let is_bad = |c: char| c.is_control() || matches!(c, '+' | '#' | '*');
    !name.is_empty() && name.len() <= NAME_BYTES_MAX && !name.contains(is_bad)
}

/// Common names have at most 64 characters by their own standard; URIs are longer.
const NAME_BYTES_MAX: usize = 1024;
