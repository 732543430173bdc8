//! rumqttc, MQTT 3.1.1, through its blocking client.

use std::time::{Duration, Instant};

use rumqttc::{
    Client, ConnAck, Connection, Event, LastWill, MqttOptions, Outgoing, Packet, Publish, QoS,
};

use crate::harness::broker::Broker;
use crate::harness::client::DEADLINE;
use crate::harness::on_shards;

on_shards!(
    every_qos_to_every_qos,
    retained_and_cleared,
    a_will_is_published,
    a_session_waits,
    a_take_over_ends_the_first,
    a_shared_message_goes_to_one,
);

const ALL: [QoS; 3] = [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce];

struct Peer {
    client: Client,
    connection: Connection,
    messages: Vec<Publish>,
    present: bool,
}

impl Peer {
    fn options(broker: &Broker, id: &str) -> MqttOptions {
        let mut options = MqttOptions::new(id, "127.0.0.1", broker.addr.port());
        options.set_max_packet_size(1 << 20, 1 << 20);
        options
    }

    fn plain(broker: &Broker, id: &str) -> Self {
        Self::connect(Self::options(broker, id))
    }

    fn connect(options: MqttOptions) -> Self {
        let (client, connection) = Client::new(options, 100);
        let mut peer = Self { client, connection, messages: Vec::new(), present: false };
        let ConnAck { session_present, .. } = peer.until(|event| match event {
            Event::Incoming(Packet::ConnAck(ack)) => Some(ack.clone()),
            _ => None,
        });
        peer.present = session_present;
        peer
    }

    /// Drives the connection until an event is the wanted one; messages meanwhile are kept.
    #[track_caller]
    fn until<T>(&mut self, wanted: impl Fn(&Event) -> Option<T>) -> T {
        let end = Instant::now() + DEADLINE;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            let event = self.connection.recv_timeout(left).expect("an event in time");
            let event = event.expect("the connection lives");
            if let Event::Incoming(Packet::Publish(publish)) = &event {
                self.messages.push(publish.clone());
            }
            if let Some(found) = wanted(&event) {
                return found;
            }
        }
    }

    fn subscribe(&mut self, filter: &str, qos: QoS) {
        self.client.subscribe(filter, qos).expect("the client lives");
        self.until(|event| matches!(event, Event::Incoming(Packet::SubAck(_))).then_some(()));
    }

    fn publish(&mut self, topic: &str, qos: QoS, retain: bool, text: &str) {
        self.client.publish(topic, qos, retain, text).expect("the client lives");
        self.until(|event| match (qos, event) {
            (QoS::AtMostOnce, Event::Outgoing(Outgoing::Publish(_)))
            | (QoS::AtLeastOnce, Event::Incoming(Packet::PubAck(_)))
            | (QoS::ExactlyOnce, Event::Incoming(Packet::PubComp(_))) => Some(()),
            _ => None,
        });
    }

    #[track_caller]
    fn message(&mut self) -> Publish {
        if self.messages.is_empty() {
            self.until(|event| matches!(event, Event::Incoming(Packet::Publish(_))).then_some(()));
        }
        self.messages.remove(0)
    }

    fn disconnect(mut self) {
        self.client.disconnect().expect("the client lives");
        self.until(|event| matches!(event, Event::Outgoing(Outgoing::Disconnect)).then_some(()));
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

fn a_will_is_published(broker: &Broker) {
    let mut watcher = Peer::plain(broker, "will-watcher");
    watcher.subscribe("will/+", QoS::ExactlyOnce);
    for qos in ALL {
        let topic = format!("will/{}", qos as u8);
        // Another identifier: the end of one connection and the begin of the next have no order.
        let mut options = Peer::options(broker, &topic.replace('/', "-clean-"));
        options.set_last_will(LastWill::new("will/never", "gone", qos, false));
        Peer::connect(options).disconnect();
        let mut options = Peer::options(broker, &topic.replace('/', "-"));
        options.set_last_will(LastWill::new(&topic, "gone", qos, false));
        drop(Peer::connect(options));
        let message = watcher.message();
        assert_eq!((message.topic.as_str(), message.qos), (topic.as_str(), qos));
    }
}

fn a_session_waits(broker: &Broker) {
    let mut publisher = Peer::plain(broker, "session-from");
    for number in 0..4 {
        let topic = format!("session/{number}");
        let mut options = Peer::options(broker, &format!("session-{number}"));
        options.set_clean_session(false);
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

fn a_take_over_ends_the_first(broker: &Broker) {
    for number in 0..4 {
        let id = format!("taken-{number}");
        let mut first = Peer::plain(broker, &id);
        let mut second = Peer::plain(broker, &id);
        let end = Instant::now() + DEADLINE;
        loop {
            let left = end.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
            if first.connection.recv_timeout(left).expect("an event in time").is_err() {
                break;
            }
        }
        second.subscribe(&id, QoS::AtLeastOnce);
        second.publish(&id, QoS::AtLeastOnce, false, "here");
        assert_eq!(second.message().payload, "here");
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
