//! The shared subscription: each message goes to one member, whichever it is, and to another one if
//! that member's session ends before it has it.

use shards::ids::QoS;

use crate::client::Message;

use super::{Oracle, Published, Rest, Session};

impl Oracle {
    pub(super) fn receive_shared(&mut self, client: usize, number: usize, message: &Message) {
        let published = &mut self.published[number];
        let session = &mut self.sessions[client];
        let since = published.tick.min(published.rest_tick);
        let member = session.subscriptions.iter().filter(|s| s.is_shared());
        let may = member.clone().any(|s| s.is_possible(since) || published.is_blurred);
        assert!(may, "message {number} came to client {client}, which is no member");
        assert!(
            message.qos <= published.qos && member.clone().any(|s| message.qos <= s.options.qos),
            "message {number} came to client {client} at {:?}",
            message.qos
        );
        assert!(!message.retain, "message {number} came with RETAIN, which was not asked for");
        let came = session.came.entry(number).or_default();
        came.is_refused |= message.is_refused;
        came.all += 1;
        came.firsts += u32::from(!message.dup);
        let sent = published.sent_count();
        assert!(
            came.firsts <= sent || published.is_blurred || came.is_refused,
            "message {number} was sent {} times to client {client}",
            came.firsts
        );
        if !published.members.contains(&client) {
            published.members.push(client);
        }
        let is_once = published.sent_count() == 1;
        // It was published when the end of a member's session was already on its way.
        let sessions = &self.sessions;
        let is_ending = |&member: &usize| {
            let mut shared = sessions[member].subscriptions.iter().filter(|s| s.is_shared());
            shared.any(|s| s.ending.is_some())
        };
        let is_passed_on = published.members.iter().any(is_ending);
        assert!(
            published.members.len() == 1 || published.is_blurred || !is_once || is_passed_on,
            "message {number} came to {} members",
            published.members.len()
        );
    }

    /// A session is over; what it had not acknowledged may have gone to other members.
    pub(super) fn note_share_end(&mut self, client: usize) {
        let ended = &self.sessions[client];
        let granted = ended.subscriptions.iter().filter(|s| s.is_shared()).map(|s| s.options.qos);
        let Some(granted) = granted.max() else { return };
        self.blur_share();
        // A QoS 2 delivery that has begun goes to nobody else [MQTT-4.8.2-5].
        let may_have_begun = |m: &&mut Published| {
            !m.is_settled && m.is_shared() && m.qos.min(granted) == QoS::ExactlyOnce
        };
        self.published.iter_mut().filter(may_have_begun).for_each(|m| m.is_settled = true);
    }

    /// The group changes: who gets what is on its way cannot be told any more.
    pub fn blur_share(&mut self) {
        for message in self.published.iter_mut().filter(|m| !m.is_settled && m.is_shared()) {
            message.is_blurred = true;
        }
    }

    pub(super) fn check_shared(&mut self, rest: &Rest<'_>) {
        for number in 0..self.published.len() {
            let message = &self.published[number];
            if message.is_settled || !message.is_shared() {
                continue;
            }
            if message.qos == QoS::AtMostOnce || !message.is_accepted || message.bytes == 0 {
                let is_over = message.qos == QoS::AtMostOnce && !message.is_will;
                self.published[number].is_settled =
                    is_over || message.is_refused || message.bytes == 0;
                continue;
            }
            let is_member = |session: &Session| session.subscriptions.iter().any(|s| s.is_shared());
            let mut sessions = (0..).zip(&self.sessions).filter(|(_, session)| is_member(session));
            if sessions.clone().any(|(client, _)| !rest.is_online(client)) {
                continue;
            }
            // Somebody was a member all the time, so somebody has it.
            let is_owed = sessions.any(|(client, session)| {
                self.is_surely_let(client, message)
                    && session.subscriptions.iter().any(|s| {
                        s.is_shared()
                            && s.is_certain(message.tick)
                            && s.options.qos > QoS::AtMostOnce
                    })
            });
            let is_missing = is_owed && message.members.is_empty();
            let qos = message.qos;
            self.published[number].is_settled = true;
            if is_missing {
                self.note_missing(qos, number, usize::MAX);
            }
        }
    }
}
