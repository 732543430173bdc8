//! Who may connect, publish and subscribe: two seams that the shell fills, and what a session keeps of
//! who its client is.

use std::fmt::Debug;
use std::net::SocketAddr;
use std::time::Duration;

use crate::ids::{ConnId, QoS};
use crate::reject::ReasonCode;

/// What the note of a refused client says when a check has denied it.
pub const FAILED: &str = "authentication failed";

/// Who a client turned out to be. A session keeps that of its last CONNECT; sessions of the same client
/// may share one. A client that gave no name on the first listener has none at all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    pub user: Option<Box<str>>,
    pub rights: Option<Box<Rights>>,
    /// The listener that it came through, by position in the configuration.
    pub listener: u16,
}

/// Topic filters that a client brought along. Beyond them nothing is permitted; what [`Authorise`] says
/// applies as well.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rights {
    pub publish: Box<[Box<str>]>,
    pub subscribe: Box<[Box<str>]>,
}

/// What comes with being let in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Grant {
    pub user: Option<Box<str>>,
    pub rights: Option<Box<Rights>>,
    /// The connection ends after this time, unless it is granted anew before.
    pub lasts: Option<Duration>,
    /// Authentication Data of the CONNACK, or of the AUTH that ends a re-authentication.
    pub data: Option<Box<[u8]>>,
}

/// What a CONNECT or an AUTH says about who is there.
#[derive(Clone, Copy, Debug)]
pub struct Credentials<'a> {
    /// Names the check: a later one of the same connection comes only after an answer or
    /// [`Authenticate::forget`].
    pub conn: ConnId,
    pub client_id: &'a str,
    pub user_name: Option<&'a str>,
    pub password: Option<&'a [u8]>,
    pub peer: SocketAddr,
    pub listener: u16,
    /// From a certificate or from the peer's credentials, as `Input::Identified` told it.
    pub identity: Option<&'a str>,
    /// Enhanced authentication: the method, and the data of this packet.
    pub method: Option<&'a str>,
    pub data: Option<&'a [u8]>,
}

/// The answer to a check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    Allow(Grant),
    /// Refused with this reason code, which must be one of CONNACK's (3.1.1 gets the nearest return code).
    Deny(ReasonCode),
    /// The answer comes as `Input::Authenticated`; until then the connection's bytes wait.
    Later,
    /// Enhanced authentication goes on: this is Authentication Data for the client, whose answer comes to
    /// [`Authenticate::proceed`]. Only for credentials with a method.
    Challenge(Vec<u8>),
}

impl Verdict {
    /// Let in, without anything known about who it is.
    #[must_use]
    pub fn allow() -> Self {
        Self::Allow(Grant::default())
    }
}

/// Checks who is there. Must not block: what takes time answers `Later`.
pub trait Authenticate: Debug + Send {
    /// A CONNECT; or, with a method and without user name and password, the AUTH that begins a
    /// re-authentication. A method that is not offered is denied with `BadAuthenticationMethod`.
    fn check(&mut self, credentials: &Credentials<'_>) -> Verdict;

    /// The client's answer to a challenge: method and data are those of its AUTH, user name and password
    /// are not given again.
    fn proceed(&mut self, credentials: &Credentials<'_>) -> Verdict {
        let _ = credentials;
        Verdict::Deny(ReasonCode::BadAuthenticationMethod)
    }

    /// The connection's exchange or pending check is void: no answer to it may come any more.
    fn forget(&mut self, conn: ConnId) {
        let _ = conn;
    }

    /// Whether a client that was let in by earlier rules may stay.
    fn is_valid(&self, client_id: &str, identity: &Identity) -> bool {
        let _ = (client_id, identity);
        true
    }
}

/// Whom a question about rights concerns.
#[derive(Clone, Copy, Debug)]
pub struct Who<'a> {
    pub client_id: &'a str,
    pub identity: Option<&'a Identity>,
}

/// The answer about a subscription.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subscribing {
    Deny,
    Allow,
    /// The filter is wider than the permission: each delivery is asked for ([`Authorise::may_receive`]).
    AllowChecked,
}

/// Decides what a client may do. Asked on every PUBLISH, will and SUBSCRIBE, and on deliveries to
/// subscriptions that it allowed with that condition.
pub trait Authorise: Debug + Send {
    /// True if everything is allowed to everybody, always: then nobody is asked for each.
    fn allows_everything(&self) -> bool {
        false
    }

    fn may_publish(&mut self, who: &Who<'_>, topic: &str, qos: QoS, retain: bool) -> bool;

    /// `filter` without the prefix of a shared subscription.
    fn may_subscribe(&mut self, who: &Who<'_>, filter: &str) -> Subscribing;

    fn may_receive(&mut self, who: &Who<'_>, topic: &str) -> bool;
}

/// Everybody may do everything; there is no enhanced authentication.
#[derive(Clone, Copy, Debug, Default)]
pub struct AllowAll;

impl Authenticate for AllowAll {
    fn check(&mut self, credentials: &Credentials<'_>) -> Verdict {
        match credentials.method {
            Some(_) => Verdict::Deny(ReasonCode::BadAuthenticationMethod),
            None => Verdict::allow(),
        }
    }
}

impl Authorise for AllowAll {
    fn allows_everything(&self) -> bool {
        true
    }

    fn may_publish(&mut self, _who: &Who<'_>, _topic: &str, _qos: QoS, _retain: bool) -> bool {
        true
    }

    fn may_subscribe(&mut self, _who: &Who<'_>, _filter: &str) -> Subscribing {
        Subscribing::Allow
    }

    fn may_receive(&mut self, _who: &Who<'_>, _topic: &str) -> bool {
        true
    }
}
