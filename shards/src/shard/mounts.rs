//! Mount points: the clients of a listener live in a part of the topics that they take for the whole.
//!
//! What a client names gets the mount point in front where it comes in, before anything else looks at
//! it: the topics of PUBLISH and will, the filters of SUBSCRIBE and UNSUBSCRIBE (of a shared one behind
//! its share name). What is delivered to it loses it where the packet is written. In between there are
//! only whole topics: index, retained messages, questions about rights, the log.
//!
//! The mount point belongs to the session: a client that comes through a listener with another one begins
//! anew. Response topics are passed on as they are, as payloads are: requester and responder must be below
//! the same mount point, or agree on more than one name.
//!
//! A client sees its topics as if they were all there is. A wildcard in front reaches no topic that
//! begins with `$` as the client names it, and the broker's `$SYS` is out of its reach.

use std::borrow::Cow;

use crate::auth::Identity;
use crate::conn::Conn;
use crate::ids::{ConnId, SessionId};
use crate::mark;
use crate::reject::{ReasonCode, Reject};
use crate::topic::{TopicFilter, levels};

use super::Shard;

/// What the protocol has room for.
const TOPIC_BYTES_MAX: usize = u16::MAX as usize;

impl Shard {
    /// The mount point of a connection's client; empty if it has none.
    pub(super) fn mount_of(&self, id: ConnId) -> &str {
        self.local.settings.mount(self.local.conns.get(id).map_or(0, Conn::listener))
    }

    /// The mount point of a session's client; empty if it has none.
    pub(super) fn mount(&self, identity: Option<&Identity>) -> &str {
        self.local.settings.mount(listener_of(identity))
    }

    /// What a client calls `topic`, as everybody else knows it.
    pub(super) fn mounted_topic<'a>(&self, id: ConnId, topic: &'a str) -> Cow<'a, str> {
        match self.mount_of(id) {
            "" => Cow::Borrowed(topic),
            mount => Cow::Owned([mount, topic].concat()),
        }
    }

    /// Whether a topic is still one with the mount point in front.
    pub(super) fn check_mounted(&self, topic: &str) -> Result<(), Reject> {
        let reject = |why| Err(Reject { reason: ReasonCode::TopicNameInvalid, why });
        if topic.len() > TOPIC_BYTES_MAX {
            return reject("the topic is too long behind the mount point of this listener");
        }
        let levels_max = usize::from(self.local.settings.topic_levels_max);
        if topic.len() >= levels_max && levels(topic).count() > levels_max {
            return reject("the topic has too many levels behind the mount point of this listener");
        }
        Ok(())
    }

    /// The filter that a client means. One that is none stays as it is, for whoever says so.
    pub(super) fn mounted_filter<'a>(
        &self,
        id: ConnId,
        text: &'a str,
    ) -> Result<Cow<'a, str>, ReasonCode> {
        let mount = self.mount_of(id);
        if mount.is_empty() {
            return Ok(Cow::Borrowed(text));
        }
        let Ok(filter) = TopicFilter::parse(text, u16::MAX) else {
            return Ok(Cow::Borrowed(text));
        };
        let share = &text[..text.len() - filter.filter().len()];
        let full = [share, mount, filter.filter()].concat();
        if full.len() > TOPIC_BYTES_MAX {
            return Err(ReasonCode::TopicFilterInvalid);
        }
        Ok(Cow::Owned(full))
    }

    /// Whether deliveries to a subscription must be looked at: its client's filter is wider with the mount
    /// point in front than without. If so, the index knows from here on where the client's topics begin.
    pub(super) fn guards(&mut self, id: SessionId, filter: &str) -> bool {
        let Some(session) = self.local.sessions.get(id) else { return false };
        let mount = self.local.settings.mount(listener_of(session.identity.as_deref()));
        let Some(seen) = filter.strip_prefix(mount).filter(|_| !mount.is_empty()) else {
            return false;
        };
        // The last one matches its parent, and that would be a topic without a name.
        let is_guarded = seen.starts_with(['+', '#']) || seen == "/#";
        if is_guarded {
            mark!(WildcardGuarded);
            self.index.trie.guard(id, u16::try_from(mount.len()).unwrap_or(0));
        }
        is_guarded
    }
}

/// The listener that a session's client came through.
pub(super) fn listener_of(identity: Option<&Identity>) -> u16 {
    identity.map_or(0, |identity| identity.listener)
}
