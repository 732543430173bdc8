//! rumqttc, MQTT 5.0, through its blocking client.

use std::time::Instant;

use rumqttc::Outgoing;
use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::{
    ConnAckProperties, ConnectProperties, Filter, LastWill, LastWillProperties, Packet, Publish,
    PublishProperties, SubscribeProperties,
};
use rumqttc::v5::{Client, Connection, Event, MqttOptions};

use crate::harness::broker::Broker;
use crate::harness::client::DEADLINE;
use crate::harness::on_shards;

on_shards!(
    every_qos_to_every_qos,
    retained_and_cleared,
    a_delayed_will_is_published,
    a_session_waits,
    a_shared_message_goes_to_one,
    properties_pass,
    a_topic_alias_is_resolved,
    options_of_a_subscription,
    an_identifier_is_assigned,
    limits_of_a_client,
);

const ALL: [QoS; 3] = [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce];

struct Peer {
    client: Client,
    connection: Connection,
    messages: Vec<Publish>,
    present: bool,
    connack: ConnAckProperties,
}

impl Peer {
    fn options(broker: &Broker, id: &str) -> MqttOptions {
        let mut options = MqttOptions::new(id, "127.0.0.1", broker.addr.port());
        options.set_connect_properties(ConnectProperties::new());
        options
    }

    fn plain(broker: &Broker, id: &str) -> Self {
        Self::connect(Self::options(broker, id))
    }

    fn connect(options: MqttOptions) -> Self {
        let (client, mut connection) = Client::new(options, 100);
        let event = connection.recv_timeout(DEADLINE).expect("an event in time");
        let Ok(Event::Incoming(Packet::ConnAck(ack))) = event else {
            panic!("not connected: {event:?}");
        };
        let connack = ack.properties.expect("a 5.0 broker announces something");
        Self { client, connection, messages: Vec::new(), present: ack.session_present, connack }
    }

    /// Drives the connection until an event is the wanted one; messages meanwhile are kept.
    #[track_caller]
    fn until(&mut self, wanted: impl Fn(&Event) -> bool) {
        let end = Instant::now() + DEADLINE;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            let event = self.connection.recv_timeout(left).expect("an event in time");
            let event = event.expect("the connection lives");
            if let Event::Incoming(Packet::Publish(publish)) = &event {
                self.messages.push(publish.clone());
            }
            if wanted(&event) {
                return;
            }
        }
    }

    fn subscribe(&mut self, filter: &str, qos: QoS) {
        self.client.subscribe(filter, qos).expect("the client lives");
        self.until(|event| matches!(event, Event::Incoming(Packet::SubAck(_))));
    }

    fn publish(&mut self, topic: &str, qos: QoS, retain: bool, text: &str) {
        let properties = PublishProperties::default();
        self.publish_with(topic, qos, retain, text, properties);
    }

    #[track_caller]
    fn publish_with(
        &mut self,
        topic: &str,
        qos: QoS,
        retain: bool,
        text: &str,
        properties: PublishProperties,
    ) {
        let payload = text.to_owned();
        self.client
            .publish_with_properties(topic, qos, retain, payload, properties)
            .expect("the client lives");
        self.until(|event| match qos {
            QoS::AtMostOnce => matches!(event, Event::Outgoing(Outgoing::Publish(_))),
            QoS::AtLeastOnce => matches!(event, Event::Incoming(Packet::PubAck(_))),
            QoS::ExactlyOnce => matches!(event, Event::Incoming(Packet::PubComp(_))),
        });
    }

    #[track_caller]
    fn message(&mut self) -> Publish {
        if self.messages.is_empty() {
            self.until(|event| matches!(event, Event::Incoming(Packet::Publish(_))));
        }
        self.messages.remove(0)
    }

    fn disconnect(mut self) {
        self.client.disconnect().expect("the client lives");
        self.until(|event| matches!(event, Event::Outgoing(Outgoing::Disconnect)));
    }
}

fn every_qos_to_every_qos(broker: &Broker) {
    let mut publisher = Peer::plain(broker, "qos-from");
    for wanted in ALL {
        let topic = format!("qos/{}", wanted as u8);
        let mut subscriber = Peer::plain(broker, &topic.replace('/', "-"));
        subscriber.subscribe(&topic, wanted);
        for sent in ALL {
            publisher.publish(&topic, sent, false, "text");
            let message = subscriber.message();
            assert_eq!(message.payload, "text");
            assert_eq!(message.qos as u8, (wanted as u8).min(sent as u8));
            assert!(!message.retain);
        }
        subscriber.disconnect();
    }
}

fn retained_and_cleared(broker: &Broker) {
    let mut publisher = Peer::plain(broker, "retained-from");
    for text in ["one", "two"] {
        publisher.publish("retained", QoS::AtLeastOnce, true, text);
        let mut late = Peer::plain(broker, text);
        late.subscribe("retained", QoS::AtLeastOnce);
        let message = late.message();
        assert!(message.retain);
        assert_eq!(message.payload, text);
    }
    publisher.publish("retained", QoS::AtLeastOnce, true, "");
    let mut none = Peer::plain(broker, "none");
    none.subscribe("retained", QoS::AtLeastOnce);
    publisher.publish("retained", QoS::AtLeastOnce, false, "fence");
    assert_eq!(none.message().payload, "fence");
}

fn a_delayed_will_is_published(broker: &Broker) {
    let mut watcher = Peer::plain(broker, "will-watcher");
    watcher.subscribe("will/+", QoS::ExactlyOnce);
    for delay in [0, 1] {
        let topic = format!("will/{delay}");
        let mut options = Peer::options(broker, &topic.replace('/', "-"));
        options.set_session_expiry_interval(Some(60));
        let properties = LastWillProperties {
            delay_interval: Some(delay),
            payload_format_indicator: None,
            message_expiry_interval: None,
            content_type: Some("text/plain".to_owned()),
            response_topic: None,
            correlation_data: None,
            user_properties: vec![("why".to_owned(), "gone".to_owned())],
        };
        let will = LastWill::new(&topic, "gone", QoS::AtLeastOnce, false, Some(properties));
        options.set_last_will(will);
        let begin = Instant::now();
        drop(Peer::connect(options));
        let message = watcher.message();
        assert!(begin.elapsed().as_secs() >= u64::from(delay));
        assert_eq!(message.topic, topic);
        let properties = message.properties.expect("the will has properties");
        assert_eq!(properties.content_type.as_deref(), Some("text/plain"));
        assert_eq!(properties.user_properties.len(), 1);
    }
}

fn a_session_waits(broker: &Broker) {
    let mut publisher = Peer::plain(broker, "session-from");
    for number in 0..4 {
        let topic = format!("session/{number}");
        let mut options = Peer::options(broker, &format!("session-{number}"));
        options.set_session_expiry_interval(Some(3600)).set_clean_start(false);
        let mut before = Peer::connect(options.clone());
        assert!(!before.present);
        before.subscribe(&topic, QoS::ExactlyOnce);
        before.disconnect();
        for index in 0..20_u8 {
            let qos = ALL[1 + usize::from(index % 2)];
            publisher.publish(&topic, qos, false, &index.to_string());
        }
        let mut after = Peer::connect(options);
        assert!(after.present);
        for index in 0..20_u8 {
            assert_eq!(after.message().payload, index.to_string());
        }
        after.disconnect();
    }
}

fn a_shared_message_goes_to_one(broker: &Broker) {
    let mut members: Vec<Peer> = (0..4)
        .map(|number| {
            let mut member = Peer::plain(broker, &format!("shared-{number}"));
            member.subscribe("$share/g/shared/+", QoS::AtLeastOnce);
            member.subscribe("fence", QoS::AtLeastOnce);
            member
        })
        .collect();
    let mut publisher = Peer::plain(broker, "shared-from");
    for number in 0..80 {
        let topic = format!("shared/{number}");
        publisher.publish(&topic, QoS::AtLeastOnce, false, &number.to_string());
    }
    publisher.publish("fence", QoS::AtLeastOnce, false, "fence");
    let mut got = Vec::new();
    for member in &mut members {
        let before = got.len();
        loop {
            let message = member.message();
            if message.topic == "fence" {
                break;
            }
            got.push(message.topic);
        }
        assert!(got.len() > before, "a member got nothing");
    }
    got.sort();
    got.dedup();
    assert_eq!(got.len(), 80);
}

fn properties_pass(broker: &Broker) {
    let mut subscriber = Peer::plain(broker, "props-to");
    subscriber.subscribe("props", QoS::AtLeastOnce);
    let mut publisher = Peer::plain(broker, "props-from");
    let pair = |a: &str, b: &str| (a.to_owned(), b.to_owned());
    let sent = PublishProperties {
        payload_format_indicator: Some(1),
        message_expiry_interval: Some(100),
        response_topic: Some("answers".to_owned()),
        correlation_data: Some(vec![0, 255].into()),
        user_properties: vec![pair("z", "1"), pair("a", "2"), pair("z", "3")],
        content_type: Some("text/plain".to_owned()),
        ..PublishProperties::default()
    };
    publisher.publish_with("props", QoS::AtLeastOnce, false, "text", sent.clone());
    let mut got = subscriber.message().properties.expect("properties");
    assert!(got.message_expiry_interval.is_some_and(|s| (90..=100).contains(&s)));
    got.message_expiry_interval = sent.message_expiry_interval;
    assert_eq!(got, sent);
}

fn a_topic_alias_is_resolved(broker: &Broker) {
    let mut subscriber = Peer::plain(broker, "alias-to");
    subscriber.subscribe("alias/+", QoS::AtLeastOnce);
    let mut publisher = Peer::plain(broker, "alias-from");
    assert!(publisher.connack.topic_alias_max.is_some_and(|n| n >= 2));
    for (topic, alias) in [("alias/a", 1), ("alias/b", 2), ("", 1), ("", 2)] {
        let properties =
            PublishProperties { topic_alias: Some(alias), ..PublishProperties::default() };
        publisher.publish_with(topic, QoS::AtLeastOnce, false, "x", properties);
    }
    for topic in ["alias/a", "alias/b", "alias/a", "alias/b"] {
        assert_eq!(subscriber.message().topic, topic);
    }
}

fn options_of_a_subscription(broker: &Broker) {
    let mut other = Peer::plain(broker, "options-other");
    let mut client = Peer::plain(broker, "options");
    let mut filter = Filter::new("options", QoS::AtLeastOnce);
    filter.nolocal = true;
    filter.preserve_retain = true;
    let properties = SubscribeProperties { id: Some(77), user_properties: vec![] };
    client.client.subscribe_many_with_properties([filter], properties).expect("the client lives");
    client.until(|event| matches!(event, Event::Incoming(Packet::SubAck(_))));
    client.publish("options", QoS::AtLeastOnce, false, "own");
    other.publish("options", QoS::AtLeastOnce, true, "other");
    let message = client.message();
    assert_eq!(message.payload, "other");
    assert!(message.retain);
    assert_eq!(message.properties.expect("properties").subscription_identifiers, [77]);
}

fn an_identifier_is_assigned(broker: &Broker) {
    let one = Peer::plain(broker, "").connack.assigned_client_identifier;
    let two = Peer::plain(broker, "").connack.assigned_client_identifier;
    assert!(one.as_ref().is_some_and(|id| !id.is_empty()));
    assert_ne!(one, two);
}

fn limits_of_a_client(broker: &Broker) {
    let mut options = Peer::options(broker, "limits");
    options.set_receive_maximum(Some(2)).set_max_packet_size(Some(200));
    let mut client = Peer::connect(options);
    client.subscribe("limits", QoS::ExactlyOnce);
    let mut publisher = Peer::plain(broker, "limits-from");
    for number in 0..20 {
        publisher.publish("limits", QoS::ExactlyOnce, false, &number.to_string());
        publisher.publish("limits", QoS::ExactlyOnce, false, &"x".repeat(1000));
    }
    for number in 0..20 {
        assert_eq!(client.message().payload, number.to_string());
    }
}
