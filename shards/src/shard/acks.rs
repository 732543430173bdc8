//! Acknowledgements from a client for what was sent to it, and the release of what it sent
//! (MQTT 5.0 sections 3.4 to 3.7 and 4.3).

use crate::codec::{Ack, AckKind};
use crate::ids::{ConnId, QoS, SessionId};
use crate::mark;
use crate::reject::{ReasonCode, Reject};
use crate::session::outgoing::Stage;
use crate::time::Now;

use super::Shard;
use super::effect::Outbox;

impl Shard {
    pub(super) fn on_puback(
        &mut self,
        now: Now,
        session: SessionId,
        ack: &Ack<'_>,
        out: &mut Outbox,
    ) -> Result<(), Reject> {
        match self.stage(session, ack) {
            Some((Stage::Published, Some(QoS::AtLeastOnce))) => {
                self.end_exchange(now, session, ack, out);
                Ok(())
            }
            Some(_) => Err(Reject::protocol("PUBACK for a QoS 2 exchange")),
            // An acknowledgement may come twice when connections overlap: it changes nothing.
            None => {
                mark!(AckUnknown);
                Ok(())
            }
        }
    }

    pub(super) fn on_pubrec(
        &mut self,
        now: Now,
        id: ConnId,
        session: SessionId,
        ack: &Ack<'_>,
        out: &mut Outbox,
    ) -> Result<(), Reject> {
        let packet_id = ack.packet_id;
        let answer = match self.stage(session, ack) {
            Some((Stage::Published, Some(QoS::ExactlyOnce))) if ack.reason.is_error() => {
                mark!(PubrecError);
                self.end_exchange(now, session, ack, out);
                return Ok(());
            }
            Some((Stage::Published, Some(QoS::ExactlyOnce))) => {
                let local = &mut self.local;
                if let Some(found) = local.sessions.get_mut(session)
                    && let Some(delivery) = found.outgoing_mut().release(packet_id)
                {
                    local.store_released(session, packet_id, &delivery);
                    local.messages.release(delivery.message);
                }
                ReasonCode::Success
            }
            Some((Stage::Released, _)) => {
                mark!(PubrecAgain);
                ReasonCode::Success
            }
            Some((Stage::Published, _)) => {
                return Err(Reject::protocol("PUBREC for a QoS 1 exchange"));
            }
            None if ack.reason.is_error() => return Ok(()),
            None => ReasonCode::PacketIdentifierNotFound,
        };
        self.send_ack(id, AckKind::Pubrel, packet_id, answer, out);
        Ok(())
    }

    pub(super) fn on_pubcomp(
        &mut self,
        now: Now,
        session: SessionId,
        ack: &Ack<'_>,
        out: &mut Outbox,
    ) -> Result<(), Reject> {
        match self.stage(session, ack) {
            Some((Stage::Released, _)) => {
                self.end_exchange(now, session, ack, out);
                Ok(())
            }
            Some((Stage::Published, _)) => {
                Err(Reject::protocol("PUBCOMP before PUBREC, or for a QoS 1 exchange"))
            }
            None => Ok(()),
        }
    }

    pub(super) fn on_pubrel(
        &mut self,
        id: ConnId,
        session: SessionId,
        ack: &Ack<'_>,
        out: &mut Outbox,
    ) -> Result<(), Reject> {
        let session_id = session;
        let Some(session) = self.local.sessions.get_mut(session_id) else { return Ok(()) };
        let was_open =
            session.inbound.as_mut().is_some_and(|inbound| inbound.remove(ack.packet_id));
        mark!(PubrelUnknown if !was_open);
        if session.inbound_count() == 0 {
            session.inbound = None;
        }
        if was_open {
            self.local.store_inbound(session_id, ack.packet_id, false);
        }
        let reason =
            if was_open { ReasonCode::Success } else { ReasonCode::PacketIdentifierNotFound };
        self.send_ack(id, AckKind::Pubcomp, ack.packet_id, reason, out);
        Ok(())
    }

    fn stage(&self, session: SessionId, ack: &Ack<'_>) -> Option<(Stage, Option<QoS>)> {
        self.local.sessions.get(session)?.outgoing.as_ref()?.stage(ack.packet_id)
    }

    /// An exchange is over; the place in the window goes to what waits.
    fn end_exchange(&mut self, now: Now, id: SessionId, ack: &Ack<'_>, out: &mut Outbox) {
        let local = &mut self.local;
        let Some(session) = local.sessions.get_mut(id) else { return };
        let has_stream = session.stream.is_some();
        let outgoing = session.outgoing_mut();
        let delivery = outgoing.end(ack.packet_id);
        let waits = outgoing.waits();
        local.store_ended(id, ack.packet_id, delivery.as_ref());
        if let Some(delivery) = delivery {
            local.messages.release(delivery.message);
        }
        if waits || has_stream {
            self.pump(now, id, out);
        }
    }
}
