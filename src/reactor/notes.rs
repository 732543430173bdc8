//! The security log: one structured line for each thing refused, at a bounded rate.
//!
//! Each kind has a rate of its own, so that a flood of one does not hide another; what was left out is
//! counted and told. What clients sent as passwords and tokens never comes here.

use std::fmt::Display;
use std::net::SocketAddr;
use std::time::Duration;

use shards::auth::FAILED;
use shards::ids::ShardId;
use shards::reject::{ReasonCode, Reject};
use shards::shard::Note;
use shards::time::Time;

/// Lines per kind, shard and second; a flood of bad clients must not become a flood of lines.
const LINES_PER_SECOND_MAX: u32 = 20;

/// What a line is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Wrong credentials.
    Login,
    /// Something that the client may not do.
    Denied,
    /// More than is allowed.
    Limit,
    /// Against the rules of MQTT.
    Protocol,
    /// Against the rules of PROXY headers, TLS or WebSocket, or not trusted there.
    Transport,
    /// Refused before its first byte.
    Admission,
}

impl Kind {
    const ALL: [Self; 6] =
        [Self::Login, Self::Denied, Self::Limit, Self::Protocol, Self::Transport, Self::Admission];

    fn event(self) -> &'static str {
        match self {
            Self::Login => "login_failed",
            Self::Denied => "denied",
            Self::Limit => "limit_hit",
            Self::Protocol => "protocol_error",
            Self::Transport => "transport_refused",
            Self::Admission => "connection_refused",
        }
    }

    fn of(reject: &Reject) -> Self {
        match reject.reason {
            _ if reject.why == FAILED => Self::Login,
            ReasonCode::BadUserNameOrPassword
            | ReasonCode::BadAuthenticationMethod
            | ReasonCode::Banned => Self::Login,
            ReasonCode::NotAuthorized => Self::Denied,
            ReasonCode::QuotaExceeded
            | ReasonCode::ServerBusy
            | ReasonCode::MessageRateTooHigh
            | ReasonCode::ConnectionRateExceeded
            | ReasonCode::MaximumConnectTime
            | ReasonCode::PacketTooLarge => Self::Limit,
            _ => Self::Protocol,
        }
    }
}

/// Allows a number of lines per second and counts what it left out.
#[derive(Clone, Copy, Debug)]
struct RateLimit {
    since: Time,
    lines: u32,
    left_out: u64,
}

impl RateLimit {
    fn new(now: Time) -> Self {
        Self { since: now, lines: 0, left_out: 0 }
    }

    /// True if a line may be written.
    fn allows(&mut self) -> bool {
        if self.lines < LINES_PER_SECOND_MAX {
            self.lines += 1;
            return true;
        }
        self.left_out += 1;
        false
    }

    /// Starts the next second if it is time; how many lines were left out in the last.
    fn renew(&mut self, now: Time) -> u64 {
        if now.since(self.since) < Duration::from_secs(1) {
            return 0;
        }
        self.since = now;
        self.lines = 0;
        std::mem::take(&mut self.left_out)
    }

    fn next_report(&self) -> Option<Time> {
        (self.left_out > 0).then(|| self.since + Duration::from_secs(1))
    }
}

/// One shard's part of the security log.
#[derive(Debug)]
pub(super) struct Notes {
    shard: ShardId,
    limits: [RateLimit; Kind::ALL.len()],
    /// When the next line about lines left out is due.
    next_report: Option<Time>,
}

impl Notes {
    pub(super) fn new(shard: ShardId, now: Time) -> Self {
        Self { shard, limits: [RateLimit::new(now); Kind::ALL.len()], next_report: None }
    }

    /// What the core refused.
    pub(super) fn write(&mut self, now: Time, notes: &[Note]) {
        for note in notes {
            let kind = Kind::of(&note.reject);
            if self.allows(kind, now) {
                tracing::info!(
                    target: "security",
                    event = kind.event(),
                    shard = self.shard.0,
                    addr = %note.origin.peer,
                    listener = note.origin.listener,
                    client_id = ?note.client_id,
                    user = (!note.user.is_empty()).then(|| tracing::field::debug(&note.user)),
                    topic = (!note.topic.is_empty()).then(|| tracing::field::debug(&note.topic)),
                    "{}",
                    note.reject
                );
            }
        }
    }

    /// What was refused before the core heard of a client.
    pub(super) fn refused(
        &mut self,
        now: Time,
        kind: Kind,
        addr: SocketAddr,
        listener: u16,
        reason: &dyn Display,
    ) {
        if self.allows(kind, now) {
            let (event, shard) = (kind.event(), self.shard.0);
            tracing::info!(target: "security", event, shard, %addr, listener, "{reason}");
        }
    }

    /// Writes how many lines were left out, when their second is over.
    pub(super) fn report(&mut self, now: Time) {
        if self.next_report.is_none_or(|due| due > now) {
            return;
        }
        for kind in Kind::ALL {
            let left_out = self.limit(kind).renew(now);
            if left_out > 0 {
                let (event, shard) = (kind.event(), self.shard.0);
                tracing::info!(target: "security", event, shard, left_out, "more were left out");
            }
        }
        self.next_report = self.limits.iter().filter_map(RateLimit::next_report).min();
    }

    /// When [`Self::report`] has something to say.
    pub(super) fn next_report(&self) -> Option<Time> {
        self.next_report
    }

    fn allows(&mut self, kind: Kind, now: Time) -> bool {
        self.report(now);
        let limit = self.limit(kind);
        if limit.left_out == 0 {
            limit.renew(now);
        }
        let is_allowed = limit.allows();
        if !is_allowed && self.next_report.is_none() {
            self.next_report = self.limit(kind).next_report();
        }
        is_allowed
    }

    fn limit(&mut self, kind: Kind) -> &mut RateLimit {
        &mut self.limits[kind as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_too_much_is_counted_and_told_once() {
        let mut notes = Notes::new(ShardId(0), Time::ZERO);
        let written = (0..50).filter(|_| notes.allows(Kind::Login, Time::ZERO)).count();
        assert_eq!(written, LINES_PER_SECOND_MAX as usize);
        assert!(notes.allows(Kind::Denied, Time::ZERO), "each kind has a rate of its own");
        assert_eq!(notes.next_report(), Some(Time::from_secs(1)));
        notes.report(Time::from_millis(900));
        assert_eq!(notes.limit(Kind::Login).left_out, 30);
        notes.report(Time::from_secs(1));
        assert_eq!(notes.limit(Kind::Login).left_out, 0);
        assert_eq!(notes.next_report(), None);
        assert!(notes.allows(Kind::Login, Time::from_secs(1)));
    }

    #[test]
    fn a_report_does_not_hide_a_later_one() {
        let mut notes = Notes::new(ShardId(0), Time::ZERO);
        let flood =
            |notes: &mut Notes, kind, now| (0..50).filter(|_| notes.allows(kind, now)).count();
        flood(&mut notes, Kind::Login, Time::ZERO);
        assert_eq!(flood(&mut notes, Kind::Denied, Time::from_millis(500)), 20);
        assert_eq!(notes.next_report(), Some(Time::from_secs(1)));
        notes.report(Time::from_secs(1));
        assert_eq!(notes.next_report(), None, "both seconds had begun at 0");
    }
}
