//! Who may connect, publish and subscribe: two seams that the shell fills.

use std::fmt::Debug;
use std::net::SocketAddr;

use crate::ids::QoS;
use crate::reject::ReasonCode;

/// What a CONNECT says about who is there.
#[derive(Clone, Copy, Debug)]
pub struct Credentials<'a> {
    pub client_id: &'a str,
    pub user_name: Option<&'a str>,
    pub password: Option<&'a [u8]>,
    pub peer: SocketAddr,
    pub listener: u16,
}

/// The answer to a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Allow,
    /// Refused with this reason code, which must be one of CONNACK's (3.1.1 gets the nearest return code).
    Deny(ReasonCode),
    /// The answer comes as `Input::Authenticated`; until then the connection's bytes wait.
    Later,
}

/// Checks a CONNECT. Must not block: what takes time answers `Later`.
pub trait Authenticate: Debug + Send {
    fn check(&mut self, credentials: &Credentials<'_>) -> Verdict;
}

/// Decides what a client may do. Asked on every PUBLISH, will and SUBSCRIBE.
pub trait Authorise: Debug + Send {
    /// True if every publish is allowed, always: then nobody is asked for each.
    fn allows_every_publish(&self) -> bool {
        false
    }

    fn may_publish(&mut self, client_id: &str, topic: &str, qos: QoS, retain: bool) -> bool;
    fn may_subscribe(&mut self, client_id: &str, filter: &str) -> bool;
}

/// Everybody may do everything.
#[derive(Clone, Copy, Debug, Default)]
pub struct AllowAll;

impl Authenticate for AllowAll {
    fn check(&mut self, _credentials: &Credentials<'_>) -> Verdict {
        Verdict::Allow
    }
}

impl Authorise for AllowAll {
    fn allows_every_publish(&self) -> bool {
        true
    }

    fn may_publish(&mut self, _client_id: &str, _topic: &str, _qos: QoS, _retain: bool) -> bool {
        true
    }

    fn may_subscribe(&mut self, _client_id: &str, _filter: &str) -> bool {
        true
    }
}
