//! What happened on a shard, and how much of each thing there is: plain numbers, copied out as a snapshot.

use crate::conn::pause::PauseReason;
use crate::reject::ReasonCode;

macro_rules! numbers {
    ($(#[$struct_doc:meta])* $name:ident { $($(#[$doc:meta])* $field:ident,)* }) => {
        $(#[$struct_doc])*
        #[derive(Clone, Debug, Default, PartialEq, Eq)]
        pub struct $name { $($(#[$doc])* pub $field: u64,)* }

        impl $name {
            /// Names and values, in a fixed order.
            pub fn each(&self, mut visit: impl FnMut(&'static str, u64)) {
                $(visit(stringify!($field), self.$field);)*
            }

            /// Reads what `each` gave, in its order.
            pub fn read(values: &mut impl Iterator<Item = u64>) -> Self {
                Self { $($field: values.next().unwrap_or(0),)* }
            }

            pub fn add(&mut self, other: &Self) {
                $(self.$field += other.$field;)*
            }
        }
    };
}

numbers! {
    /// Events since the start. Every drop, pause, reject and retry has a number of its own.
    Counters {
        connections_accepted,
        connections_handed_over,
        connections_adopted,
        connections_closed,
        /// Refused: the shard has as many connections as it may.
        connections_refused,
        connects_accepted,
        connects_refused,
        connect_timeouts,
        keep_alive_timeouts,
        /// Connections that were granted for a time which is over.
        grants_ended,
        sessions_resumed,
        sessions_taken_over,
        sessions_expired,
        bytes_received,
        bytes_sent,
        packets_received,
        /// PUBLISH packets from clients.
        messages_received,
        /// PUBLISH packets to clients, repeated ones included.
        messages_sent,
        /// PUBLISH packets sent again when a session resumed.
        messages_resent,
        /// Repeated QoS 2 PUBLISH packets that were not delivered again.
        duplicates_suppressed,
        /// Messages that matched nobody.
        messages_unmatched,
        /// QoS 0 to a client whose output is full.
        dropped_output_full,
        /// To a session whose queue is full: the new message.
        dropped_queue_newest,
        /// To a session whose queue is full: its oldest message.
        dropped_queue_oldest,
        /// To a session whose queue is full, with the publisher told.
        refused_queue_full,
        /// Larger than the client takes.
        dropped_too_large,
        /// Expired before delivery began.
        dropped_expired,
        /// QoS 0 for a session whose client is away, or left while it waited.
        dropped_offline,
        /// Publishes that the client may not send.
        denied_publish,
        denied_subscribe,
        /// Messages for subscriptions that are wider than what their clients may receive.
        denied_delivery,
        retained_set,
        retained_cleared,
        retained_expired,
        /// Retained messages beyond the limits.
        retained_refused,
        retained_overtaken,
        share_redelivered,
        wills_published,
        wills_dropped,
        mail_posted,
        mail_handled,
        mail_unreadable,
        subscribes,
        unsubscribes,
        paused_authenticating,
        paused_subscribing,
        paused_mailbox_full,
        paused_output_full,
        paused_acks_pending,
        paused_turn_spent,
        paused_rate_limited,
        /// Packets that could not be parsed.
        rejected_malformed,
        /// Packets that were parsed but not allowed.
        rejected_protocol,
        rejected_receive_maximum,
        rejected_topic_alias,
        rejected_packet_too_large,
        /// More of something than one client may have.
        rejected_quota,
        rejected_other,
        slow_subscribers_disconnected,
        /// Operations of the durable store that failed.
        store_failures,
    }
}

numbers! {
    /// How much there is now.
    Gauges {
        connections,
        clients_connected,
        sessions,
        subscriptions,
        shared_groups,
        retained_messages,
        retained_bytes,
        messages_kept,
        messages_kept_bytes,
        busy_permille,
    }
}

impl Counters {
    pub fn count_pause(&mut self, reason: PauseReason) {
        let counter = match reason {
            PauseReason::Authenticating => &mut self.paused_authenticating,
            PauseReason::Subscribing => &mut self.paused_subscribing,
            PauseReason::MailboxFull => &mut self.paused_mailbox_full,
            PauseReason::OutputFull => &mut self.paused_output_full,
            PauseReason::AcksPending => &mut self.paused_acks_pending,
            PauseReason::TurnSpent => &mut self.paused_turn_spent,
            PauseReason::RateLimited => &mut self.paused_rate_limited,
        };
        *counter += 1;
    }

    pub fn count_reject(&mut self, reason: ReasonCode) {
        let counter = match reason {
            ReasonCode::MalformedPacket => &mut self.rejected_malformed,
            ReasonCode::ProtocolError => &mut self.rejected_protocol,
            ReasonCode::ReceiveMaximumExceeded => &mut self.rejected_receive_maximum,
            ReasonCode::TopicAliasInvalid => &mut self.rejected_topic_alias,
            ReasonCode::PacketTooLarge => &mut self.rejected_packet_too_large,
            ReasonCode::QuotaExceeded => &mut self.rejected_quota,
            _ => &mut self.rejected_other,
        };
        *counter += 1;
    }
}

/// Everything countable of one shard at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Snapshot {
    pub counters: Counters,
    pub gauges: Gauges,
}

impl Snapshot {
    /// As it goes by mail: 8 bytes a value.
    pub fn write(&self, out: &mut Vec<u8>) {
        self.counters.each(|_, value| out.extend_from_slice(&value.to_le_bytes()));
        self.gauges.each(|_, value| out.extend_from_slice(&value.to_le_bytes()));
    }

    #[must_use]
    pub fn read(bytes: &[u8]) -> Self {
        let mut values = crate::mail::u64s(bytes);
        Self { counters: Counters::read(&mut values), gauges: Gauges::read(&mut values) }
    }

    pub fn add(&mut self, other: &Self) {
        self.counters.add(&other.counters);
        self.gauges.add(&other.gauges);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_snapshot_survives_mail() {
        let mut snapshot = Snapshot::default();
        snapshot.counters.messages_sent = 7;
        snapshot.counters.slow_subscribers_disconnected = 8;
        snapshot.gauges.busy_permille = 9;
        let mut bytes = Vec::new();
        snapshot.write(&mut bytes);
        assert_eq!(Snapshot::read(&bytes), snapshot);
        let mut twice = snapshot.clone();
        twice.add(&snapshot);
        assert_eq!(twice.counters.messages_sent, 14);
    }
}
