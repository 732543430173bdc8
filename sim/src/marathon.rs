//! The few things that take many messages: identifiers that come round while one is still in use, more
//! retained messages than one turn may give, and more filters to a topic than one turn should look at.
//!
//! Nothing goes wrong here: the way is long enough.

use shards::codec::{AckKind, Connect};
use shards::ids::{PacketId, QoS, Version};
use shards::reject::ReasonCode;

use crate::client::{Answers, Got, Message};
use crate::drive::{Post, keeping};
use crate::swarm::Options;
use crate::world::World;

/// More than a session is given in one turn.
const RETAINED: usize = 1_200;
/// So that twice as many nodes as two to this power match.
const MATCHED_LEVELS: u32 = 7;
/// More than there are identifiers.
const MESSAGES: usize = 66_000;
/// Messages between two rests: fewer than any window or queue holds.
const LAP: usize = 300;

#[derive(Debug)]
pub struct Marathon {
    pub world: World,
}

impl Marathon {
    #[must_use]
    pub fn with(options: &Options) -> Self {
        Self { world: World::drawn(options) }
    }

    /// Plays to the end.
    pub fn run(&mut self) {
        self.retain_many();
        self.match_many();
        self.acknowledge_ahead();
        self.answer_oddly();
        self.go_round();
        self.world.end();
    }

    /// Every retained message comes once, whatever the number of turns.
    fn retain_many(&mut self) {
        let publisher = self.world.connect("r0", Version::V5);
        for at in 0..RETAINED {
            let topic = format!("r/{at}");
            self.world.say(publisher, &Post::retained(&topic, "x", QoS::AtMostOnce));
        }
        self.world.settle();
        let subscriber = self.world.connect("r1", Version::V5);
        self.world.subscribe(subscriber, "r/#", QoS::AtMostOnce);
        let mut topics: Vec<_> =
            self.world.take_messages(subscriber).into_iter().map(|got| got.topic).collect();
        topics.sort_unstable();
        topics.dedup();
        assert_eq!(topics.len(), RETAINED);
        self.world.disconnect(publisher);
        self.world.disconnect(subscriber);
    }

    /// However many of a client's filters match, it gets a message once, and in order.
    fn match_many(&mut self) {
        let publisher = self.world.connect("w0", Version::V5);
        let subscriber = self.world.connect("w1", Version::V5);
        for number in 0..1 << MATCHED_LEVELS {
            let level = |at: u32| if number >> at & 1 == 0 { "w" } else { "+" };
            let filter = (0..MATCHED_LEVELS).map(level).collect::<Vec<_>>().join("/");
            self.world.subscribe(subscriber, &filter, QoS::AtMostOnce);
        }
        let topic = ["w"; MATCHED_LEVELS as usize].join("/");
        for payload in ["1", "2", "3"] {
            self.world.say(publisher, &Post::new(&topic, payload, QoS::AtMostOnce));
        }
        self.world.settle();
        let got = self.world.take_messages(subscriber);
        assert_eq!(got.iter().map(Message::text).collect::<Vec<_>>(), ["1", "2", "3"]);
        self.world.disconnect(publisher);
        self.world.disconnect(subscriber);
    }

    /// A client that acknowledges what is still to be repeated to it does not get it again.
    fn acknowledge_ahead(&mut self) {
        let publisher = self.world.connect("p0", Version::V5);
        let connect = keeping(Version::V5, "p1", 100);
        let (subscriber, _) = self.world.connect_with(&connect);
        self.world.subscribe(subscriber, "p", QoS::AtLeastOnce);
        self.world.answer(subscriber, Answers::None);
        for payload in ["1", "2", "3"] {
            self.world.publish(publisher, "p", payload, QoS::AtLeastOnce);
        }
        let ids: Vec<_> =
            self.world.take_messages(subscriber).iter().map(|got| got.packet_id).collect();
        let narrow = Connect { receive_maximum: Some(1), ..connect };
        self.world.reconnect(subscriber, &narrow);
        for (at, left) in [(1, &["1"][..]), (0, &["3"][..]), (2, &[][..])] {
            let id = ids[at].and_then(PacketId::new).expect("QoS 1 has an identifier");
            let mut reply = Vec::new();
            self.world.clients[subscriber].acknowledge(id, &mut reply);
            self.world.write(subscriber, |out| out.extend_from_slice(&reply));
            self.world.settle();
            let got = self.world.take_messages(subscriber);
            assert_eq!(got.iter().map(Message::text).collect::<Vec<_>>(), left);
        }
        self.world.disconnect(publisher);
        self.world.disconnect(subscriber);
    }

    /// A repeated PUBREC has its PUBREL repeated; one with an error ends the exchange.
    fn answer_oddly(&mut self) {
        let publisher = self.world.connect("q0", Version::V5);
        let subscriber = self.world.connect("q1", Version::V5);
        self.world.subscribe(subscriber, "q", QoS::ExactlyOnce);
        for (answers, reason, pubrels) in [
            (Answers::ToPubrec, ReasonCode::Success, 2),
            (Answers::None, ReasonCode::QuotaExceeded, 0),
        ] {
            self.world.answer(subscriber, answers);
            self.world.publish(publisher, "q", "x", QoS::ExactlyOnce);
            let id = self.world.clients[subscriber].window_ids().last();
            let id = id.and_then(PacketId::new).expect("it is in flight");
            self.answer(subscriber, AckKind::Pubrec, id, reason);
            let got = std::mem::take(&mut self.world.clients[subscriber].got);
            let is_pubrel = |got: &&Got| matches!(got, Got::Ack(AckKind::Pubrel, ..));
            assert_eq!(got.iter().filter(is_pubrel).count(), pubrels);
            if pubrels > 0 {
                self.answer(subscriber, AckKind::Pubcomp, id, ReasonCode::Success);
            }
        }
        self.world.expect_quiet();
        self.world.disconnect(publisher);
        self.world.disconnect(subscriber);
    }

    fn answer(&mut self, client: usize, kind: AckKind, id: PacketId, reason: ReasonCode) {
        let mut bytes = Vec::new();
        self.world.clients[client].settle(kind, id, reason);
        self.world.clients[client].ack(kind, id, reason, &mut bytes);
        self.world.write(client, |out| out.extend_from_slice(&bytes));
        self.world.settle();
    }

    /// One message stays unacknowledged while the identifiers of all others come round. The model
    /// client sees to it that none is used twice.
    fn go_round(&mut self) {
        let publisher = self.world.connect("m0", Version::V311);
        let connect = keeping(Version::V311, "m1", 0);
        let (subscriber, _) = self.world.connect_with(&connect);
        self.world.subscribe(subscriber, "m", QoS::AtLeastOnce);
        self.world.answer(subscriber, Answers::None);
        self.world.publish(publisher, "m", "first", QoS::AtLeastOnce);
        let first = self.world.expect_publish(subscriber, "m", "first").packet_id;
        self.world.answer(subscriber, Answers::All);
        for _ in 0..MESSAGES / LAP {
            for _ in 0..LAP {
                self.world.say(publisher, &Post::new("m", "x", QoS::AtLeastOnce));
            }
            self.world.settle();
            assert_eq!(self.world.take_messages(subscriber).len(), LAP);
            self.world.clients[publisher].got.clear();
        }
        // It is repeated on the next connection and acknowledged there, twice.
        self.world.reconnect(subscriber, &connect);
        let again: Vec<_> = self.world.take_messages(subscriber);
        assert!(again.iter().all(|message| message.packet_id == first && message.dup));
        let id = first.and_then(PacketId::new).expect("QoS 1 has an identifier");
        let mut reply = Vec::new();
        self.world.clients[subscriber].acknowledge(id, &mut reply);
        self.world.write(subscriber, |out| out.extend_from_slice(&reply));
        self.world.settle();
        let got = &self.world.clients[subscriber].got;
        assert!(!got.iter().any(|got| matches!(got, Got::Disconnect(_))), "{got:?}");
    }
}
