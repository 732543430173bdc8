//! Who may do what in the world: names say it, so that every test can read it off.

use std::time::Duration;

use shards::auth::{
    Authenticate, Authorise, Credentials, Grant, Identity, Subscribing, Verdict, Who,
};
use shards::ids::QoS;
use shards::reject::ReasonCode;
use shards::topic::TopicFilter;

use crate::swarm::MOUNT;

/// The one method of enhanced authentication. What the client says is what it gets: see `verdict`.
pub const METHOD: &str = "sim";

/// Topics that clients with an odd number may not receive under narrow rules.
const NARROW: [&str; 3] = ["a/c", "b/c", "s/2"];

/// Client identifiers that begin with `denied` or `later` get that answer; the user is who the client
/// says, and a number for a password is how many seconds it may stay. Topics and filters under
/// `forbidden/` are nobody's, and under `secret/` nobody's whose name begins with `narrow`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rules {
    /// Clients with an odd number may not publish to `b`.
    pub has_rights: bool,
    /// They may not receive everything either; nor is anything under `closing/` for anybody, and whose
    /// name begins with `barred` may not stay, nor may the user `bert`, and `carl` may only listen to what
    /// is kept for him.
    pub is_narrow: bool,
}

impl Rules {
    #[must_use]
    pub fn lets_receive(self, client_id: &str, topic: &str) -> bool {
        let is_secret = client_id.starts_with("narrow") && topic.starts_with("secret/");
        let is_denied = self.is_narrow && is_odd(client_id) && NARROW.contains(&topic);
        !topic.starts_with("forbidden/") && !is_secret && !is_denied
    }

    #[must_use]
    pub fn lets_publish(self, client_id: &str, topic: &str) -> bool {
        let is_denied = self.has_rights && is_odd(client_id) && topic == "b";
        let is_closed = self.is_narrow && topic.starts_with("closing/");
        !topic.starts_with("forbidden/") && !is_denied && !is_closed
    }
}

fn is_carl(who: &Who<'_>) -> bool {
    who.identity.and_then(|identity| identity.user.as_deref()) == Some("carl")
}

fn is_odd(client_id: &str) -> bool {
    matches!(client_id.as_bytes(), [b'c' | b'k', b'1' | b'3' | b'5' | b'7'])
}

/// What a client is told that says these words: `ok`, `no`, `more` or `later`; behind `ok`, for how many
/// seconds, and as whom.
fn verdict(data: Option<&[u8]>) -> Verdict {
    let text = String::from_utf8_lossy(data.unwrap_or_default()).into_owned();
    let mut words = text.split(' ');
    match words.next() {
        Some("ok") => Verdict::Allow(Grant {
            lasts: words.next().and_then(|secs| secs.parse().ok()).map(Duration::from_secs),
            user: words.next().map(Into::into),
            data: Some(Box::from(*b"well done")),
            ..Grant::default()
        }),
        Some("more") => Verdict::Challenge(b"say more".to_vec()),
        Some("later") => Verdict::Later,
        _ => Verdict::Deny(ReasonCode::NotAuthorized),
    }
}

impl Authenticate for Rules {
    fn check(&mut self, credentials: &Credentials<'_>) -> Verdict {
        match credentials.method {
            Some(METHOD) => return verdict(credentials.data),
            Some(_) => return Verdict::Deny(ReasonCode::BadAuthenticationMethod),
            None => {}
        }
        if credentials.client_id.starts_with("denied") {
            return Verdict::Deny(ReasonCode::BadUserNameOrPassword);
        }
        if credentials.client_id.starts_with("later") {
            return Verdict::Later;
        }
        let password = credentials.password.and_then(|text| std::str::from_utf8(text).ok());
        let lasts = password.and_then(|secs| secs.parse().ok()).map(Duration::from_secs);
        let user = credentials.user_name.or(credentials.identity).map(Into::into);
        Verdict::Allow(Grant { user, lasts, ..Grant::default() })
    }

    fn proceed(&mut self, credentials: &Credentials<'_>) -> Verdict {
        verdict(credentials.data)
    }

    fn is_valid(&self, client_id: &str, identity: &Identity) -> bool {
        let is_barred = client_id.starts_with("barred") || identity.user.as_deref() == Some("bert");
        !(self.is_narrow && is_barred)
    }
}

impl Authorise for Rules {
    fn may_publish(&mut self, who: &Who<'_>, topic: &str, _qos: QoS, _retain: bool) -> bool {
        !(self.is_narrow && is_carl(who)) && self.lets_publish(who.client_id, seen(topic))
    }

    fn may_subscribe(&mut self, who: &Who<'_>, filter: &str) -> Subscribing {
        let filter = seen(filter);
        let is_closed = self.is_narrow && (filter.starts_with("closing/") || is_carl(who));
        if filter.starts_with("forbidden/") || is_closed {
            return Subscribing::Deny;
        }
        let parsed = TopicFilter::parse(filter, 128).expect("it was checked");
        let is_denied = |topic| parsed.matches(topic) && !self.lets_receive(who.client_id, topic);
        let is_wide = who.client_id.starts_with("narrow") && parsed.has_wildcard();
        if is_wide || NARROW.into_iter().any(is_denied) {
            Subscribing::AllowChecked
        } else {
            Subscribing::Allow
        }
    }

    fn may_receive(&mut self, who: &Who<'_>, topic: &str) -> bool {
        self.lets_receive(who.client_id, seen(topic))
    }
}

/// Below the mount point of drawn worlds the same rules hold.
fn seen(topic: &str) -> &str {
    topic.strip_prefix(MOUNT).unwrap_or(topic)
}
