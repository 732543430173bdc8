//! One line that says everything about a packet, for the last column of the vectors.

use std::fmt::{Display, Write};

use shards::codec::{
    Ack, Auth, Connack, Connect, Disconnect, MessageProperties, Packet, Property, Publish,
    RetainHandling, Subscribe, SubscribeOptions, UserProperties, Will,
};
use shards::ids::{PacketId, QoS, SubscriptionId};
use shards::reject::ReasonCode;

/// Values that say nothing (no will, QoS 0, reason 0) are left out.
pub(crate) fn of(packet: &Packet<'_>) -> String {
    let mut line = Line::default();
    match packet {
        Packet::Connect(connect) => line.connect(connect),
        Packet::Connack(connack) => line.connack(connack),
        Packet::Publish(publish) => line.publish(publish),
        Packet::Puback(ack) => line.ack("PUBACK", ack),
        Packet::Pubrec(ack) => line.ack("PUBREC", ack),
        Packet::Pubrel(ack) => line.ack("PUBREL", ack),
        Packet::Pubcomp(ack) => line.ack("PUBCOMP", ack),
        Packet::Subscribe(subscribe) => line.subscribe(subscribe),
        Packet::Suback(suback) => {
            line.head("SUBACK", suback.packet_id);
            line.bytes("reasons", Some(suback.reasons));
            line.text("why", suback.reason_string);
            line.users(&suback.user_properties);
        }
        Packet::Unsubscribe(unsubscribe) => {
            line.head("UNSUBSCRIBE", unsubscribe.packet_id);
            unsubscribe.filters().for_each(|filter| line.text("filter", Some(filter)));
            line.users(&unsubscribe.user_properties);
        }
        Packet::Unsuback(unsuback) => {
            line.head("UNSUBACK", unsuback.packet_id);
            line.bytes("reasons", Some(unsuback.reasons).filter(|reasons| !reasons.is_empty()));
            line.text("why", unsuback.reason_string);
            line.users(&unsuback.user_properties);
        }
        Packet::Pingreq => line.word("PINGREQ"),
        Packet::Pingresp => line.word("PINGRESP"),
        Packet::Disconnect(disconnect) => line.disconnect(disconnect),
        Packet::Auth(auth) => line.auth(auth),
    }
    line.0
}

#[derive(Default)]
struct Line(String);

impl Line {
    fn connect(&mut self, connect: &Connect<'_>) {
        self.word(&format!("CONNECT {:?}", connect.version));
        self.flag("clean", connect.clean_start);
        self.value("keep", Some(connect.keep_alive_s).filter(|&seconds| seconds != 0));
        self.text("id", Some(connect.client_id));
        if let Some(will) = &connect.will {
            self.will(will);
        }
        self.text("name", connect.user_name);
        self.bytes("password", connect.password);
        self.value("expiry", connect.session_expiry_s);
        self.value("receive", connect.receive_maximum);
        self.value("largest", connect.packet_bytes_max);
        self.value("aliases", Some(connect.topic_alias_max).filter(|&count| count != 0));
        self.flag("wants-response", connect.request_response_information);
        self.flag("no-problem", !connect.request_problem_information);
        self.text("method", connect.authentication_method);
        self.bytes("data", connect.authentication_data);
        self.users(&connect.user_properties);
    }

    fn will(&mut self, will: &Will<'_>) {
        self.word("will(");
        self.qos(will.qos);
        self.flag("retain", will.retain);
        self.text("topic", Some(will.topic));
        self.bytes("payload", Some(will.payload));
        self.value("delay-s", Some(will.delay_s).filter(|&seconds| seconds != 0));
        self.message(&will.properties);
        self.word(")");
    }

    fn connack(&mut self, connack: &Connack<'_>) {
        self.word("CONNACK");
        self.flag("present", connack.session_present);
        self.reason(connack.reason);
        self.value("expiry", connack.session_expiry_s);
        self.value("receive", connack.receive_maximum);
        self.value("qos", connack.maximum_qos.map(QoS::bits));
        self.value("retain", connack.retain_available.map(u8::from));
        self.value("largest", connack.packet_bytes_max);
        self.text("assigned", connack.assigned_client_id);
        self.value("aliases", connack.topic_alias_max);
        self.text("why", connack.reason_string);
        self.users(&connack.user_properties);
        self.value("wildcards", connack.wildcard_available.map(u8::from));
        self.value("sids", connack.subscription_ids_available.map(u8::from));
        self.value("shared", connack.shared_available.map(u8::from));
        self.value("keep", connack.server_keep_alive_s);
        self.text("response", connack.response_information);
        self.text("server", connack.server_reference);
        self.text("method", connack.authentication_method);
        self.bytes("data", connack.authentication_data);
    }

    fn publish(&mut self, publish: &Publish<'_>) {
        self.word("PUBLISH");
        self.flag("dup", publish.dup);
        self.qos(publish.qos);
        self.flag("retain", publish.retain);
        self.text("topic", Some(publish.topic));
        self.value("id", publish.packet_id.map(PacketId::value));
        self.message(&publish.properties);
        self.bytes("payload", Some(publish.payload));
    }

    fn message(&mut self, message: &MessageProperties<'_>) {
        for property in message.iter() {
            match property {
                Property::PayloadFormat(utf8) => self.value("utf8", Some(u8::from(utf8))),
                Property::MessageExpiry(seconds) => self.value("expiry", Some(seconds)),
                Property::ContentType(text) => self.text("content", Some(text)),
                Property::ResponseTopic(text) => self.text("response", Some(text)),
                Property::CorrelationData(bytes) => self.bytes("correlation", Some(bytes)),
                Property::SubscriptionId(id) => self.value("sid", Some(id.value())),
                Property::TopicAlias(alias) => self.value("alias", Some(alias)),
                Property::WillDelay(seconds) => self.value("delay", Some(seconds)),
                Property::User(name, value) => self.user(name, value),
                other => panic!("{other:?} is no property of a message"),
            }
        }
    }

    fn ack(&mut self, kind: &str, ack: &Ack<'_>) {
        self.head(kind, ack.packet_id);
        self.reason(ack.reason);
        self.text("why", ack.reason_string);
        self.users(&ack.user_properties);
    }

    fn subscribe(&mut self, subscribe: &Subscribe<'_>) {
        self.head("SUBSCRIBE", subscribe.packet_id);
        self.value("sid", subscribe.subscription_id.map(SubscriptionId::value));
        for (filter, options) in subscribe.filters() {
            self.text("filter", Some(filter));
            self.options(options);
        }
        self.users(&subscribe.user_properties);
    }

    fn options(&mut self, options: SubscribeOptions) {
        self.qos(options.qos);
        self.flag("no-local", options.no_local);
        self.flag("as-published", options.retain_as_published);
        match options.retain_handling {
            RetainHandling::Always => {}
            RetainHandling::IfNew => self.word("if-new"),
            RetainHandling::Never => self.word("never"),
        }
    }

    fn disconnect(&mut self, disconnect: &Disconnect<'_>) {
        self.word("DISCONNECT");
        self.reason(disconnect.reason);
        self.value("expiry", disconnect.session_expiry_s);
        self.text("why", disconnect.reason_string);
        self.text("server", disconnect.server_reference);
        self.users(&disconnect.user_properties);
    }

    fn auth(&mut self, auth: &Auth<'_>) {
        self.word("AUTH");
        self.reason(auth.reason);
        self.text("method", auth.method);
        self.bytes("data", auth.data);
        self.text("why", auth.reason_string);
        self.users(&auth.user_properties);
    }

    fn head(&mut self, kind: &str, id: PacketId) {
        self.word(kind);
        self.value("id", Some(id.value()));
    }

    fn qos(&mut self, qos: QoS) {
        match qos {
            QoS::AtMostOnce => {}
            QoS::AtLeastOnce => self.word("qos1"),
            QoS::ExactlyOnce => self.word("qos2"),
        }
    }

    fn reason(&mut self, reason: ReasonCode) {
        if reason != ReasonCode::Success {
            self.word(&format!("{:02x}", reason.byte()));
        }
    }

    fn users(&mut self, users: &UserProperties<'_>) {
        assert_eq!(users.is_empty(), users.iter().next().is_none());
        users.iter().for_each(|(name, value)| self.user(name, value));
    }

    fn user(&mut self, name: &str, value: &str) {
        self.word(&format!("{name:?}:{value:?}"));
    }

    fn flag(&mut self, word: &str, is_set: bool) {
        if is_set {
            self.word(word);
        }
    }

    fn value(&mut self, key: &str, value: Option<impl Display>) {
        if let Some(value) = value {
            self.word(&format!("{key}={value}"));
        }
    }

    fn text(&mut self, key: &str, text: Option<&str>) {
        self.value(key, text.map(|text| format!("{text:?}")));
    }

    fn bytes(&mut self, key: &str, bytes: Option<&[u8]>) {
        let Some(bytes) = bytes else { return };
        let mut hex = String::new();
        for byte in bytes {
            write!(hex, "{byte:02x}").expect("a String takes everything");
        }
        self.value(key, Some(hex));
    }

    fn word(&mut self, word: &str) {
        if !self.0.is_empty() {
            self.0.push(' ');
        }
        self.0.push_str(word);
    }
}
