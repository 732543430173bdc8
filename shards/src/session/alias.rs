//! Topic aliases of one network connection, both directions (MQTT 5.0 section 3.3.2.3.4).

/// What the client's aliases stand for.
#[derive(Debug, Default)]
pub struct AliasesIn {
    topics: Vec<Option<Box<str>>>,
    /// Of all topics together.
    bytes: usize,
}

impl AliasesIn {
    /// Sets alias `alias`, 1 or more and checked against the maximum by the caller. False if its topic
    /// is too much beside the others; then nothing has changed.
    #[must_use]
    pub fn set(&mut self, alias: u16, topic: &str, bytes_max: u32) -> bool {
        let at = usize::from(alias);
        let before = self.topic(alias).map_or(0, str::len);
        let bytes = self.bytes - before + topic.len();
        if bytes > bytes_max as usize {
            return false;
        }
        self.bytes = bytes;
        if self.topics.len() <= at {
            self.topics.resize_with(at + 1, || None);
        }
        // Clients that alias every message send the same topic again and again.
        if self.topics[at].as_deref() != Some(topic) {
            self.topics[at] = Some(topic.into());
        }
        true
    }

    #[must_use]
    pub fn topic(&self, alias: u16) -> Option<&str> {
        self.topics.get(usize::from(alias))?.as_deref()
    }
}

/// Which topics have an alias towards the client. First come, first served: an alias stays with its
/// topic for the life of the connection.
#[derive(Debug, Default)]
pub struct AliasesOut {
    topics: Vec<Box<str>>,
    /// Of all topics together.
    bytes: usize,
}

/// How a topic goes out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AliasOut {
    /// No alias is left: the topic goes out in full.
    None,
    /// The alias is new: it goes out with the topic.
    New(u16),
    /// The client knows it: it goes out alone.
    Known(u16),
}

impl AliasesOut {
    /// What to do about `topic`, with `maximum` aliases for `bytes_max` bytes of topics in all.
    #[must_use]
    pub fn find(&self, topic: &str, maximum: u16, bytes_max: u32) -> AliasOut {
        // A handful of entries: the bound is the broker's own, so a scan beats a table.
        for (at, known) in self.topics.iter().zip(1u16..) {
            if **at == *topic {
                return AliasOut::Known(known);
            }
        }
        match u16::try_from(self.topics.len() + 1) {
            Ok(next) if next <= maximum && self.bytes + topic.len() <= bytes_max as usize => {
                AliasOut::New(next)
            }
            _ => AliasOut::None,
        }
    }

    /// The packet that announces the alias is on its way.
    pub fn announce(&mut self, topic: &str) {
        self.bytes += topic.len();
        self.topics.push(topic.into());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn aliases_out_are_announced_once_and_bounded() {
        let mut out = AliasesOut::default();
        assert_eq!(out.find("a", 0, 2), AliasOut::None);
        assert_eq!(out.find("a", 1, 2), AliasOut::New(1));
        out.announce("a");
        assert_eq!(out.find("a", 1, 2), AliasOut::Known(1));
        assert_eq!(out.find("b", 1, 2), AliasOut::None);
        assert_eq!(out.find("b", 2, 2), AliasOut::New(2));
        assert_eq!(out.find("bc", 2, 2), AliasOut::None, "three bytes");
    }

    #[test]
    fn aliases_in_can_be_moved() {
        let mut aliases = AliasesIn::default();
        assert_eq!(aliases.topic(3), None);
        assert!(aliases.set(3, "a", 3));
        assert!(aliases.set(1, "b", 3));
        assert!(aliases.set(3, "c", 3));
        assert!(!aliases.set(2, "de", 3), "four bytes");
        assert!(aliases.set(3, "c", 3));
        assert_eq!(
            (aliases.topic(3), aliases.topic(1), aliases.topic(2)),
            (Some("c"), Some("b"), None)
        );
    }
}
