//! Who may do what in the world: names say it, so that every test can read it off.

use shards::auth::{Authenticate, Authorise, Credentials, Subscribing, Verdict, Who};
use shards::ids::QoS;
use shards::reject::ReasonCode;

/// Client identifiers that begin with `denied` or `later` get that answer; topics and filters under
/// `forbidden/` are nobody's.
#[derive(Debug)]
pub struct Rules;

impl Authenticate for Rules {
    fn check(&mut self, credentials: &Credentials<'_>) -> Verdict {
        if credentials.method.is_some() {
            Verdict::Deny(ReasonCode::BadAuthenticationMethod)
        } else if credentials.client_id.starts_with("denied") {
            Verdict::Deny(ReasonCode::BadUserNameOrPassword)
        } else if credentials.client_id.starts_with("later") {
            Verdict::Later
        } else {
            Verdict::allow()
        }
    }
}

impl Authorise for Rules {
    fn may_publish(&mut self, _who: &Who<'_>, topic: &str, _qos: QoS, _retain: bool) -> bool {
        !topic.starts_with("forbidden/")
    }

    fn may_subscribe(&mut self, _who: &Who<'_>, filter: &str) -> Subscribing {
        if filter.starts_with("forbidden/") { Subscribing::Deny } else { Subscribing::Allow }
    }

    fn may_receive(&mut self, _who: &Who<'_>, topic: &str) -> bool {
        !topic.starts_with("forbidden/")
    }
}
