//! Asks a URL whether a client may come. Fails closed: only an answer that says so lets it in.

use std::fmt::Display;
use std::io::Read as _;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::json;
use shards::auth::{Credentials, Grant, Verdict};
use shards::reject::ReasonCode;
use ureq::Agent;
use ureq::tls::{Certificate, PemItem, RootCerts, TlsConfig, TlsProvider};

/// An answer has a few words at most.
const ANSWER_BYTES_MAX: u64 = 4096;

/// A question for the URL. It holds a password, so it has no `Debug`.
pub(super) struct Question {
    client_id: String,
    user_name: Option<String>,
    password: Option<Vec<u8>>,
    peer: SocketAddr,
    listener: u16,
}

impl Question {
    pub(super) fn new(credentials: &Credentials<'_>) -> Self {
        Self {
            client_id: credentials.client_id.to_owned(),
            user_name: credentials.user_name.map(str::to_owned),
            password: credentials.password.map(<[u8]>::to_owned),
            peer: credentials.peer,
            listener: credentials.listener,
        }
    }
}

/// The URL, and how to reach it.
#[derive(Clone, Debug)]
pub struct Hook {
    agent: Agent,
    url: Arc<str>,
    /// The second of the last complaint about the URL: whoever connects can cause one.
    complained_s: Arc<AtomicU64>,
}

impl Hook {
    /// `ca` are the authorities that the URL's server may have its certificate from, in PEM.
    ///
    /// # Errors
    /// What is wrong with them.
    pub fn new(url: &str, timeout: Duration, ca: Option<&[u8]>) -> Result<Self, String> {
        let mut roots = Vec::new();
        for item in ureq::tls::parse_pem(ca.unwrap_or_default()) {
            match item {
                Ok(PemItem::Certificate(certificate)) => roots.push(certificate),
                Ok(_) => {}
                Err(error) => return Err(error.to_string()),
            }
        }
        if url.starts_with("https:") && roots.is_empty() {
            return Err("an https URL needs certificates of authorities to trust".to_owned());
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let roots: Vec<Certificate<'static>> = roots;
        let tls = TlsConfig::builder()
            .provider(TlsProvider::Rustls)
            .unversioned_rustls_crypto_provider(provider)
            .root_certs(RootCerts::Specific(Arc::new(roots)))
            .build();
        let agent = Agent::config_builder()
            .tls_config(tls)
            .timeout_global(Some(timeout))
            .http_status_as_error(false)
            .max_redirects(0)
            .proxy(None)
            .user_agent("muring")
            .build();
        let agent = Agent::new_with_config(agent);
        Ok(Self { agent, url: url.into(), complained_s: Arc::default() })
    }

    /// Has a line in the log, one a second at most.
    fn complain(&self, problem: &dyn Display) {
        let now_s = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        if self.complained_s.swap(now_s, Ordering::Relaxed) != now_s {
            tracing::warn!("the authentication URL has no answer: {problem}");
        }
    }

    /// Status 200 lets the client in under its user name, 4xx refuses its credentials, and all else means
    /// that nobody knows.
    pub(super) fn ask(&self, question: Question) -> Verdict {
        let password = question.password.as_deref().map(String::from_utf8_lossy);
        let body = json!({
            "client_id": question.client_id,
            "user_name": question.user_name,
            "password": password,
            "peer": question.peer.to_string(),
            "listener": question.listener,
        });
        let request = self.agent.post(&*self.url).content_type("application/json");
        let answer = match request.send(body.to_string()) {
            Ok(answer) => answer,
            Err(error) => {
                self.complain(&error);
                return Verdict::Deny(ReasonCode::ServerUnavailable);
            }
        };
        let status = answer.status().as_u16();
        // So that the connection can be used again.
        let mut rest = answer.into_body().into_reader().take(ANSWER_BYTES_MAX);
        let _ = std::io::copy(&mut rest, &mut std::io::sink());
        match status {
            200 => {
                let user = question.user_name.map(String::into_boxed_str);
                Verdict::Allow(Grant { user, ..Grant::default() })
            }
            400..=499 => Verdict::Deny(ReasonCode::BadUserNameOrPassword),
            _ => {
                self.complain(&format_args!("status {status}"));
                Verdict::Deny(ReasonCode::ServerUnavailable)
            }
        }
    }
}
