//! CONNECT as it is on the wire, to be wrong in one place at a time.

use crate::harness::wire::{self, Prop, packet};

pub(super) const CLEAN: u8 = 0x02;
pub(super) const WILL: u8 = 0x04;
pub(super) const WILL_RETAIN: u8 = 0x20;
pub(super) const PASSWORD: u8 = 0x40;
pub(super) const USER_NAME: u8 = 0x80;

/// The variable header, and the payload field by field.
#[derive(Clone, Debug)]
pub(super) struct RawConnect {
    name: Vec<u8>,
    pub(super) level: u8,
    pub(super) flags: u8,
    props: Vec<Prop>,
    payload: Vec<u8>,
}

impl RawConnect {
    /// Nothing but the variable header: clean, no keep alive.
    pub(super) fn bare(version: u8) -> Self {
        let (props, payload) = (Vec::new(), Vec::new());
        Self { name: b"MQTT".to_vec(), level: version, flags: CLEAN, props, payload }
    }

    /// What every server takes.
    pub(super) fn new(version: u8, client_id: &str) -> Self {
        Self::bare(version).field(client_id)
    }

    pub(super) fn name(mut self, name: &[u8]) -> Self {
        self.name = name.to_vec();
        self
    }

    pub(super) fn level(mut self, level: u8) -> Self {
        self.level = level;
        self
    }

    /// Adds to the flags.
    pub(super) fn flags(mut self, flags: u8) -> Self {
        self.flags |= flags;
        self
    }

    pub(super) fn prop(mut self, property: Prop) -> Self {
        self.props.push(property);
        self
    }

    /// A field of the payload, behind its length.
    pub(super) fn field(mut self, bytes: impl AsRef<[u8]>) -> Self {
        wire::put_binary(&mut self.payload, bytes.as_ref());
        self
    }

    /// Properties of the will, in 5.0.
    pub(super) fn will_props(mut self, props: &[Prop]) -> Self {
        wire::put_props(&mut self.payload, self.level, props);
        self
    }

    /// The flags and fields of a will, empty properties included.
    pub(super) fn will(self, topic: impl AsRef<[u8]>, payload: &str) -> Self {
        self.flags(WILL).will_props(&[]).field(topic).field(payload)
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        let mut body = Vec::new();
        wire::put_binary(&mut body, &self.name);
        body.extend([self.level, self.flags, 0, 0]);
        wire::put_props(&mut body, self.level, &self.props);
        body.extend_from_slice(&self.payload);
        packet(0x10, &body)
    }
}
