//! How fast a client may publish: what is beyond waits, in its socket too, and goes on as soon as it may.
//! Nothing is lost, and nobody else notices. What the client sends behind it waits as well, its PINGREQ
//! included, but counts as heard.

use crate::codec::PacketKind;
use crate::conn::Conn;
use crate::conn::meter::Meter;
use crate::conn::pause::PauseReason;
use crate::ids::ConnId;
use crate::limits::Settings;
use crate::mark;
use crate::planted::planted;
use crate::reject::{ReasonCode, Reject};
use crate::time::{Now, Time};
use crate::timers::Timer;

use super::Shard;
use super::effect::{Note, Outbox};
use super::local::Local;

const TOO_FAST: Reject = Reject {
    reason: ReasonCode::MessageRateTooHigh,
    why: "the client publishes faster than its listener allows, and waits",
};

impl Settings {
    /// Gives a connection whose CONNECT is accepted the limits of its listener.
    pub(super) fn rate(&self, conn: &mut Conn, now: Time) {
        let meter = self.listener(conn.listener()).and_then(|listener| Meter::new(listener, now));
        if let Some(meter) = meter {
            conn.extras_mut().meter = Some(Box::new(meter));
        }
    }
}

impl Local {
    /// What a run has taken.
    pub(super) fn paid(&mut self, id: ConnId, meter: Meter) {
        if let Some(kept) = self.conns.get_mut(id).and_then(Conn::meter_mut) {
            *kept = meter;
        }
    }
}

impl Shard {
    /// Whether a packet of a connection that has limits may be worked on now; if not, the connection
    /// pauses until it may.
    pub(super) fn takes(
        &mut self,
        now: Now,
        id: ConnId,
        first: u8,
        packet_bytes: usize,
        out: &mut Outbox,
    ) -> bool {
        if PacketKind::from_nibble(first >> 4) != Some(PacketKind::Publish) {
            return true;
        }
        let Some(meter) = self.local.conns.get_mut(id).and_then(Conn::meter_mut) else {
            return true;
        };
        if !planted!(TokensNotRefilled) {
            meter.refill(now.time);
        }
        if meter.takes(packet_bytes) {
            return true;
        }
        mark!(RateLimited);
        debug_assert!(meter.timer.is_none(), "a connection that waits is not worked on");
        let timer = Timer::RateEnd { index: id.index };
        meter.timer = Some(self.local.timers.set(timer, now.time + meter.wait(packet_bytes)));
        let is_news = !std::mem::replace(&mut meter.is_noted, true);
        self.local.pause(id, PauseReason::RateLimited);
        if is_news {
            self.note_too_fast(id, out);
        }
        false
    }

    fn note_too_fast(&self, id: ConnId, out: &mut Outbox) {
        let Some(conn) = self.local.conns.get(id) else { return };
        let (client_id, user) = self.name(conn);
        let (origin, topic) = (conn.origin(), String::new());
        out.notes.push(Note { origin, client_id, user, topic, reject: TOO_FAST });
    }

    /// The next PUBLISH of a connection may be worked on.
    pub(super) fn on_rate_end(&mut self, now: Now, index: u32) {
        let Some(conn) = self.local.conns.at_mut(index) else { return };
        let Some(meter) = conn.meter_mut() else { return };
        meter.timer = None;
        // Its client was not listened to, and begins to be heard again only now.
        if conn.is_read_paused {
            conn.last_received = conn.last_received.max(now.time);
        }
        let id = conn.id;
        self.local.unpause(id, PauseReason::RateLimited);
    }
}
