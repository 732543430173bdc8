//! Application messages that sessions of this shard wait to deliver: each kept once, counted by uses.
//!
//! A message that is delivered at once never comes here. The buffers of released messages are used
//! again, so a steady flow of QoS 1 and 2 allocates nothing.

use bytes::Bytes;

use crate::arena::Arena;
use crate::ids::QoS;
use crate::time::Time;

/// The bytes of an application message's payload.
#[derive(Clone, Copy, Debug)]
pub enum Payload<'a> {
    /// Small: copied to where it is needed.
    Inline(&'a [u8]),
    /// Large: shared by reference.
    Shared(&'a Bytes),
}

impl<'a> Payload<'a> {
    #[must_use]
    pub fn bytes(self) -> &'a [u8] {
        match self {
            Self::Inline(bytes) => bytes,
            Self::Shared(bytes) => bytes,
        }
    }
}

/// An application message on its way through this shard.
#[derive(Clone, Copy, Debug)]
pub struct Message<'a> {
    pub topic: &'a str,
    /// Property bytes as they go to MQTT 5.0 subscribers; without message expiry and topic alias.
    pub properties: &'a [u8],
    pub payload: Payload<'a>,
    /// QoS and RETAIN as published.
    pub qos: QoS,
    pub retain: bool,
    /// When it expires, if it does.
    pub expires: Option<Time>,
}

impl Message<'_> {
    /// What it counts for in limits: topic, properties and payload.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.topic.len() + self.properties.len() + self.payload.bytes().len()
    }
}

/// A use of a kept message. Not `Clone`: each is made by [`Messages`] and goes back to it.
#[derive(Debug, PartialEq, Eq)]
#[must_use = "a use that is lost keeps its message for ever"]
pub struct MessageRef(u32);

#[derive(Debug)]
struct Kept {
    uses: u32,
    qos: QoS,
    retain: bool,
    expires: Option<Time>,
    topic: String,
    /// Properties, then the payload unless it is shared.
    bytes: Vec<u8>,
    properties_bytes: usize,
    shared: Option<Bytes>,
}

/// The kept messages of one shard.
#[derive(Debug, Default)]
pub struct Messages {
    kept: Arena<Kept>,
    spare: Vec<(String, Vec<u8>)>,
    /// The fewest spare buffers since the last trim: so many were not needed by anybody.
    unused_count: usize,
    bytes: usize,
}

/// Buffers of released messages kept for the next ones, and the largest worth keeping.
const SPARE_MAX: usize = 4096;
const SPARE_BYTES_MAX: usize = 1024;

impl Messages {
    /// Keeps a message; the answer is its first use.
    pub fn keep(&mut self, message: &Message<'_>) -> MessageRef {
        let (mut topic, mut bytes) = self.spare.pop().unwrap_or_default();
        self.unused_count = self.unused_count.min(self.spare.len());
        topic.push_str(message.topic);
        bytes.extend_from_slice(message.properties);
        let shared = match message.payload {
            Payload::Inline(payload) => {
                bytes.extend_from_slice(payload);
                None
            }
            Payload::Shared(payload) => Some(payload.clone()),
        };
        self.bytes += message.bytes();
        MessageRef(self.kept.insert(Kept {
            uses: 1,
            qos: message.qos,
            retain: message.retain,
            expires: message.expires,
            topic,
            bytes,
            properties_bytes: message.properties.len(),
            shared,
        }))
    }

    /// One more use.
    pub fn share(&mut self, message: &MessageRef) -> MessageRef {
        let kept = self.kept.get_mut(message.0).expect("a use keeps its message");
        kept.uses += 1;
        MessageRef(message.0)
    }

    /// Ends a use; with the last one the message goes.
    pub fn release(&mut self, message: MessageRef) {
        let kept = self.kept.get_mut(message.0).expect("a use keeps its message");
        kept.uses -= 1;
        if kept.uses > 0 {
            return;
        }
        let Some(mut kept) = self.kept.remove(message.0) else { return };
        self.bytes -= view(&kept).bytes();
        let small =
            kept.bytes.capacity() <= SPARE_BYTES_MAX && kept.topic.capacity() <= SPARE_BYTES_MAX;
        if small && self.spare.len() < SPARE_MAX {
            kept.topic.clear();
            kept.bytes.clear();
            self.spare.push((kept.topic, kept.bytes));
        }
    }

    /// The message behind a use.
    #[must_use]
    pub fn view(&self, message: &MessageRef) -> Message<'_> {
        view(self.kept.get(message.0).expect("a use keeps its message"))
    }

    /// How many are kept.
    #[must_use]
    pub fn count(&self) -> usize {
        self.kept.count()
    }

    /// Bytes of the messages kept: topics, properties and payloads.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Gives back what nobody needed since the last time, so that a burst is not held for ever and a
    /// steady flow keeps what it uses.
    pub fn trim(&mut self) {
        let keep = self.spare.len() - self.unused_count.min(self.spare.len());
        self.spare.truncate(keep);
        if self.spare.capacity() > 2 * keep + 64 {
            self.spare.shrink_to(2 * keep);
        }
        self.unused_count = keep;
    }
}

fn view(kept: &Kept) -> Message<'_> {
    let (properties, inline) = kept.bytes.split_at(kept.properties_bytes);
    Message {
        topic: &kept.topic,
        properties,
        payload: kept.shared.as_ref().map_or(Payload::Inline(inline), Payload::Shared),
        qos: kept.qos,
        retain: kept.retain,
        expires: kept.expires,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_lives_as_long_as_its_uses() {
        let mut messages = Messages::default();
        let payload = Bytes::from_static(b"large");
        let message = Message {
            topic: "a/b",
            properties: &[1, 2],
            payload: Payload::Shared(&payload),
            qos: QoS::AtLeastOnce,
            retain: false,
            expires: None,
        };
        let first = messages.keep(&message);
        let inline = messages.keep(&Message { payload: Payload::Inline(b"small"), ..message });
        let second = messages.share(&first);
        messages.release(first);
        assert_eq!(messages.view(&second).payload.bytes(), b"large");
        assert_eq!(messages.view(&inline).payload.bytes(), b"small");
        assert_eq!(messages.view(&inline).properties, [1, 2]);
        assert_eq!(messages.bytes(), 20);
        messages.release(second);
        messages.release(inline);
        assert_eq!((messages.count(), messages.bytes()), (0, 0));
    }
}
