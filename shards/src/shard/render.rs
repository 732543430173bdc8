//! Outgoing PUBLISH packets: rendered once per layout and publish, then copied.

use crate::codec::{Layout, patch_packet_id};
use crate::conn::{self, Conn, Pool};
use crate::ids::{PacketId, QoS, SubscriptionId, Version};
use crate::limits::SCRATCH_BYTES_MAX;
use crate::mark;
use crate::planted::planted;
use crate::session::alias::AliasOut;
use crate::session::messages::{Message, MessageRef, Messages, Payload};
use crate::time::Now;

/// A message on its way to any number of sessions of this shard. Kept only if one of them must wait.
#[derive(Debug)]
pub(super) struct Fan<'a> {
    pub(super) message: Message<'a>,
    /// The packet in which it came, if it can go out as it is.
    pub(super) verbatim: Option<Verbatim<'a>>,
    /// Tells this message's renderings from those of the one before.
    serial: u64,
    kept: Option<MessageRef>,
}

/// A QoS 0 PUBLISH of which nothing has to be left out: at QoS 0, to a client of the same protocol, it
/// goes out byte for byte as it came in.
#[derive(Clone, Copy, Debug)]
pub(super) struct Verbatim<'a> {
    pub(super) packet: &'a [u8],
    pub(super) is_v5: bool,
}

/// How one session gets a message.
#[derive(Clone, Copy, Debug)]
pub(super) struct How<'a> {
    pub(super) qos: QoS,
    pub(super) retain: bool,
    pub(super) ids: &'a [SubscriptionId],
}

/// A PUBLISH could not be sent because the client takes no packets that large.
#[derive(Debug)]
pub(super) struct TooLarge;

#[derive(Debug, Default)]
struct Rendering {
    serial: u64,
    /// The whole packet; without the payload if that is shared.
    bytes: Vec<u8>,
    packet_id_offset: Option<usize>,
    packet_len: usize,
}

/// The latest rendering of each layout: version, QoS, RETAIN.
#[derive(Debug, Default)]
pub(super) struct Rendered {
    layouts: [Rendering; 12],
    serial: u64,
}

impl<'a> Fan<'a> {
    pub(super) fn new(message: Message<'a>, rendered: &mut Rendered) -> Self {
        rendered.serial += 1;
        Self { message, verbatim: None, serial: rendered.serial, kept: None }
    }

    /// A use of the message for somebody who must wait.
    pub(super) fn keep(&mut self, messages: &mut Messages) -> MessageRef {
        let kept = match self.kept.take() {
            Some(kept) => kept,
            None => messages.keep(&self.message),
        };
        let other = messages.share(&kept);
        self.kept = Some(kept);
        other
    }

    pub(super) fn end(self, messages: &mut Messages) {
        if let Some(kept) = self.kept {
            messages.release(kept);
        }
    }
}

impl Rendered {
    /// Lets go of what a rare large message has left.
    pub(super) fn trim(&mut self) {
        for rendering in &mut self.layouts {
            if rendering.bytes.capacity() > SCRATCH_BYTES_MAX {
                *rendering = Rendering::default();
            }
        }
    }

    /// Appends the PUBLISH for one of many subscribers. The common layouts are copied from a rendering
    /// that all share; subscription identifiers, topic aliases and what is left of the topic below a
    /// mount point are the subscriber's own.
    pub(super) fn write_shared(
        &mut self,
        now: Now,
        conn: &mut Conn,
        pool: &mut Pool,
        fan: &Fan<'_>,
        how: How<'_>,
        packet_id: Option<PacketId>,
    ) -> Result<(), TooLarge> {
        if !how.ids.is_empty() || conn.alias_out_max > 0 || conn.mount_bytes > 0 {
            return write_single(now, conn, pool, &fan.message, how, packet_id, false);
        }
        if let Some(Verbatim { packet, is_v5 }) = fan.verbatim
            && how.qos == QoS::AtMostOnce
            && !how.retain
            && is_v5 == conn.version.is_v5()
        {
            if packet.len() > conn.packet_bytes_max as usize {
                return Err(TooLarge);
            }
            conn::append(&mut conn.output, pool, packet);
            return Ok(());
        }
        let version = usize::from(conn.version.is_v5());
        let at = (version * 3 + usize::from(how.qos.bits())) * 2 + usize::from(how.retain);
        let rendering = &mut self.layouts[at];
        if rendering.serial != fan.serial {
            rendering.render(now, conn.version, fan, how);
        }
        if rendering.packet_len > conn.packet_bytes_max as usize {
            return Err(TooLarge);
        }
        let start = conn.output.bytes.len();
        conn::append(&mut conn.output, pool, &rendering.bytes);
        if let (Some(id), Some(offset)) = (packet_id, rendering.packet_id_offset) {
            patch_packet_id(&mut conn.output.bytes[start..], offset, id);
        }
        if let Payload::Shared(payload) = fan.message.payload {
            conn::splice(&mut conn.output, payload);
        }
        Ok(())
    }
}

impl Rendering {
    fn render(&mut self, now: Now, version: Version, fan: &Fan<'_>, how: How<'_>) {
        let message = &fan.message;
        let layout = layout(now, version, message, how, false);
        self.serial = fan.serial;
        self.bytes.clear();
        self.packet_len = layout.packet_len().unwrap_or(usize::MAX);
        let any = (how.qos != QoS::AtMostOnce).then_some(PacketId::MIN);
        self.packet_id_offset = layout.head_into(any, &mut self.bytes);
        if let Payload::Inline(payload) = message.payload {
            self.bytes.extend_from_slice(payload);
        }
    }
}

/// Appends one PUBLISH for one subscriber alone.
pub(super) fn write_single(
    now: Now,
    conn: &mut Conn,
    pool: &mut Pool,
    message: &Message<'_>,
    how: How<'_>,
    packet_id: Option<PacketId>,
    is_repeated: bool,
) -> Result<(), TooLarge> {
    let mut layout = layout(now, conn.version, message, how, is_repeated);
    // A client below a mount point is not given what lies beside it.
    let is_kept = planted!(MountKept) && how.retain;
    let mount_bytes = if is_kept { 0 } else { usize::from(conn.mount_bytes) };
    layout.topic = message.topic.get(mount_bytes..).ok_or(TooLarge)?;
    let topic = layout.topic;
    let limit = conn.packet_bytes_max as usize;
    let is_too_large = |layout: &Layout<'_>| layout.packet_len().is_none_or(|len| len > limit);
    let mut is_new_alias = false;
    if conn.alias_out_max > 0 && conn.version.is_v5() {
        let (maximum, bytes_max) = (conn.alias_out_max, conn.alias_bytes_max);
        match conn.extras_mut().aliases_out.find(topic, maximum, bytes_max) {
            AliasOut::None => mark!(AliasOutFull),
            AliasOut::New(alias) => {
                // The topic goes along, so an alias must not be what makes the packet too large.
                let plain = layout;
                layout.alias = Some(alias);
                is_new_alias = !is_too_large(&layout);
                if !is_new_alias {
                    layout = plain;
                }
            }
            AliasOut::Known(alias) => {
                mark!(AliasOutKnown);
                layout.alias = Some(alias);
                layout.alias_known = true;
            }
        }
    }
    if is_too_large(&layout) {
        return Err(TooLarge);
    }
    if is_new_alias {
        conn.extras_mut().aliases_out.announce(topic);
    }
    if conn.output.bytes.capacity() == 0 {
        conn.output.bytes = pool.take();
    }
    layout.head_into(packet_id, &mut conn.output.bytes);
    match message.payload {
        Payload::Inline(payload) => conn.output.bytes.extend_from_slice(payload),
        Payload::Shared(payload) => conn::splice(&mut conn.output, payload),
    }
    Ok(())
}

fn layout<'a>(
    now: Now,
    version: Version,
    message: &Message<'a>,
    how: How<'a>,
    is_repeated: bool,
) -> Layout<'a> {
    // What is left of the interval, counted in whole seconds that were spent waiting here.
    let message_expiry_s = message.expires.map(|expires| {
        let left = expires.since(now.time).as_micros().div_ceil(1_000_000);
        u32::try_from(left).unwrap_or(u32::MAX)
    });
    Layout {
        version,
        dup: is_repeated,
        qos: how.qos,
        retain: how.retain,
        topic: message.topic,
        properties: message.properties,
        message_expiry_s,
        subscription_ids: how.ids,
        alias: None,
        alias_known: false,
        payload_len: message.payload.bytes().len(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::ConnId;
    use crate::shard::Origin;
    use crate::time::Time;

    #[test]
    fn an_alias_does_not_make_a_packet_too_large() {
        let peer = "127.0.0.1:1".parse().expect("an address");
        let origin = Origin { handle: 0, listener: 0, peer };
        let mut conn = Conn::new(ConnId { index: 0, generation: 0 }, origin, Time::ZERO);
        conn.version = Version::V5;
        conn.alias_out_max = 9;
        conn.alias_bytes_max = 9;
        let message = Message {
            topic: "a",
            properties: &[],
            payload: Payload::Inline(b"x"),
            qos: QoS::AtMostOnce,
            retain: false,
            expires: None,
        };
        let how = How { qos: QoS::AtMostOnce, retain: false, ids: &[] };
        let mut pool = Pool::default();
        let mut send = |conn: &mut Conn| {
            conn.output.clear();
            let written = write_single(Now::default(), conn, &mut pool, &message, how, None, false);
            written.map(|()| conn.output.bytes.clone()).ok()
        };
        conn.packet_bytes_max = 6;
        assert_eq!(send(&mut conn), None);
        conn.packet_bytes_max = 7;
        let plain = vec![0x30, 5, 0, 1, b'a', 0, b'x'];
        assert_eq!(send(&mut conn), Some(plain));
        conn.packet_bytes_max = 10;
        let announced = vec![0x30, 8, 0, 1, b'a', 3, 0x23, 0, 1, b'x'];
        assert_eq!(send(&mut conn), Some(announced));
        let short = vec![0x30, 7, 0, 0, 3, 0x23, 0, 1, b'x'];
        assert_eq!(send(&mut conn), Some(short));
    }
}
