//! The properties of an application message, as they stand in a PUBLISH or with a will.
//!
//! They stay raw: the server hands most of them on as they came [MQTT-3.3.2-4, -15 to -18, -20],
//! so the bytes are checked once and copied, or borrowed, from then on.

use super::properties::{self, Property, PropertyIter, PropertyReader};
use crate::ids::SubscriptionId;
use crate::reject::Reject;

/// A checked property block. What the server must act on is read out; the rest is passed on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MessageProperties<'a> {
    raw: &'a [u8],
    pub message_expiry_s: Option<u32>,
    /// Not 0.
    pub topic_alias: Option<u16>,
    /// The payload claims to be UTF-8. Whether it is, nobody has checked.
    pub payload_format_utf8: bool,
    has_subscription_ids: bool,
    has_will_delay: bool,
}

impl<'a> MessageProperties<'a> {
    pub const EMPTY: Self = Self {
        raw: &[],
        message_expiry_s: None,
        topic_alias: None,
        payload_format_utf8: false,
        has_subscription_ids: false,
        has_will_delay: false,
    };

    /// The properties of a PUBLISH, without the length in front of them.
    ///
    /// # Errors
    /// Malformed, a protocol error, or 0x94 for topic alias 0.
    #[inline]
    pub fn parse(raw: &'a [u8]) -> Result<Self, Reject> {
        if raw.is_empty() {
            return Ok(Self::EMPTY);
        }
        let mut properties = PropertyReader::with_subscription_ids(raw);
        let mut message = Self { raw, ..Self::EMPTY };
        while let Some(property) = properties.next()? {
            match property {
                Property::TopicAlias(alias) => message.topic_alias = Some(alias),
                Property::SubscriptionId(_) => message.has_subscription_ids = true,
                other => message.take(other)?,
            }
        }
        Ok(message)
    }

    /// The properties of a will, without the length in front of them, and its delay in seconds.
    ///
    /// # Errors
    /// Malformed or a protocol error.
    pub fn parse_will(raw: &'a [u8]) -> Result<(Self, u32), Reject> {
        let mut properties = PropertyReader::new(raw);
        let mut message = Self { raw, ..Self::EMPTY };
        let mut delay_s = 0;
        while let Some(property) = properties.next()? {
            match property {
                Property::WillDelay(delay) => {
                    message.has_will_delay = true;
                    delay_s = delay;
                }
                other => message.take(other)?,
            }
        }
        Ok((message, delay_s))
    }

    /// What PUBLISH and will have in common.
    fn take(&mut self, property: Property<'_>) -> Result<(), Reject> {
        match property {
            Property::PayloadFormat(is_utf8) => self.payload_format_utf8 = is_utf8,
            Property::MessageExpiry(seconds) => self.message_expiry_s = Some(seconds),
            Property::ContentType(_)
            | Property::ResponseTopic(_)
            | Property::CorrelationData(_)
            | Property::User(..) => {}
            _ => return Err(properties::misplaced()),
        }
        Ok(())
    }

    /// True if there is a subscription identifier: only a server may send one [MQTT-3.3.4-6].
    #[must_use]
    pub fn has_subscription_ids(&self) -> bool {
        self.has_subscription_ids
    }

    /// All bytes, as they came.
    #[must_use]
    pub fn raw(&self) -> &'a [u8] {
        self.raw
    }

    pub(super) fn has_will_delay(&self) -> bool {
        self.has_will_delay
    }

    /// The bytes to hand on to subscribers, if that is all of them. Otherwise the topic alias, the
    /// message expiry, subscription identifiers or the will delay must be left out: see
    /// [`Self::forward_into`].
    #[must_use]
    #[inline]
    pub fn forwarded(&self) -> Option<&'a [u8]> {
        let leaves_out = self.message_expiry_s.is_some()
            || self.topic_alias.is_some()
            || self.has_subscription_ids
            || self.has_will_delay;
        (!leaves_out).then_some(self.raw)
    }

    /// Appends the bytes to hand on to subscribers, in their order.
    pub fn forward_into(&self, out: &mut Vec<u8>) {
        if let Some(all) = self.forwarded() {
            out.extend_from_slice(all);
            return;
        }
        let mut properties = PropertyIter::new(self.raw);
        while let Some((property, bytes)) = properties.next_with_bytes() {
            let is_left_out = matches!(
                property,
                Property::TopicAlias(_)
                    | Property::MessageExpiry(_)
                    | Property::SubscriptionId(_)
                    | Property::WillDelay(_)
            );
            if !is_left_out {
                out.extend_from_slice(bytes);
            }
        }
    }

    /// All properties, in their order.
    pub fn iter(&self) -> impl Iterator<Item = Property<'a>> + Clone + use<'a> {
        PropertyIter::new(self.raw)
    }

    /// The identifiers of the subscriptions that a received PUBLISH was sent for.
    pub fn subscription_ids(&self) -> impl Iterator<Item = SubscriptionId> + Clone + use<'a> {
        let raw = if self.has_subscription_ids { self.raw } else { &[] };
        PropertyIter::new(raw).filter_map(|property| match property {
            Property::SubscriptionId(id) => Some(id),
            _ => None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(properties: &[Property<'_>]) -> Vec<u8> {
        let mut raw = Vec::new();
        for property in properties {
            property.encode_into(&mut raw);
        }
        raw
    }

    #[track_caller]
    fn check(properties: &[Property<'_>], forwarded: &[Property<'_>]) {
        let raw = block(properties);
        let message = MessageProperties::parse(&raw).unwrap();
        let mut out = Vec::new();
        message.forward_into(&mut out);
        assert_eq!(out, block(forwarded));
        let is_whole = properties == forwarded;
        assert_eq!(message.forwarded(), is_whole.then_some(&raw[..]));
        assert!(message.iter().eq(properties.iter().copied()));
    }

    #[test]
    fn mqtt_5_3_3_2_17_user_properties_are_handed_on_in_their_order() {
        let users = [Property::User("b", "1"), Property::User("a", "2"), Property::User("b", "1")];
        check(&users, &users);
        check(&[], &[]);
        check(&[users[0], Property::TopicAlias(3), users[1]], &users[..2]);
    }

    #[test]
    fn what_belongs_to_one_hop_is_left_out() {
        let id = SubscriptionId::new(200).unwrap();
        check(
            &[
                Property::MessageExpiry(7),
                Property::ContentType("text"),
                Property::SubscriptionId(id),
                Property::CorrelationData(&[1, 2]),
                Property::SubscriptionId(id),
                Property::ResponseTopic("r"),
                Property::PayloadFormat(true),
            ],
            &[
                Property::ContentType("text"),
                Property::CorrelationData(&[1, 2]),
                Property::ResponseTopic("r"),
                Property::PayloadFormat(true),
            ],
        );
    }

    #[test]
    fn will_delay_is_left_out() {
        let raw = block(&[Property::WillDelay(5), Property::ContentType("x")]);
        let (message, delay_s) = MessageProperties::parse_will(&raw).unwrap();
        assert_eq!(delay_s, 5);
        assert_eq!(message.forwarded(), None);
        let mut out = Vec::new();
        message.forward_into(&mut out);
        assert_eq!(out, block(&[Property::ContentType("x")]));
        assert!(MessageProperties::parse(&raw).is_err());
    }

    #[test]
    fn mqtt_5_3_3_4_4_all_subscription_identifiers_are_told() {
        let ids = [1, 268_435_455, 1].map(|value| SubscriptionId::new(value).unwrap());
        let raw = block(&ids.map(Property::SubscriptionId));
        let message = MessageProperties::parse(&raw).unwrap();
        assert!(message.has_subscription_ids());
        assert!(message.subscription_ids().eq(ids));
        assert_eq!(MessageProperties::EMPTY.subscription_ids().count(), 0);
    }
}
