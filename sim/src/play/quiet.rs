//! What is arranged while nothing is on its way, so that more can be told of it.

use shards::codec::{Connect, RetainHandling, SubscribeOptions};
use shards::ids::{QoS, Version};

use crate::drive::{QOS, seconds};
use crate::oracle::SHARED;
use crate::rules::Rules;

use super::{FILTERS, NAMES, Play};

impl Play {
    /// While nothing is on its way: other subscriptions, ends of sessions, time.
    pub(super) fn rearrange(&mut self) {
        for _ in 0..3 {
            if !self.begin_act() {
                continue;
            }
            if self.options.has_rights && self.one_in(3) {
                self.change_rules();
                continue;
            }
            let client = self.below(self.roles.len());
            let is_in = self.is_in(client);
            match self.below(11) {
                0 => self.begin_anew(client),
                1 | 10 => self.pass_time(),
                2 if is_in => {
                    self.say_goodbye(client);
                    self.rest();
                }
                3 | 4 if is_in => self.join(client),
                5 if is_in => {
                    let filter = FILTERS[self.below(FILTERS.len())];
                    if filter == SHARED {
                        self.oracle.blur_share();
                    }
                    self.unsubscribe(client, vec![filter]);
                    self.rest();
                }
                _ if is_in => self.subscribe_and_watch(client),
                _ => {
                    self.connect(client, false);
                    self.rest();
                }
            }
        }
    }

    /// Other rules, which apply to subscriptions that are there, their clients connected or not.
    fn change_rules(&mut self) {
        let rules = Rules { is_narrow: !self.world.rules.is_narrow, ..self.world.rules };
        self.world.rule(rules);
        self.oracle.rule(rules);
        self.rest();
    }

    /// A clean start ends the session that is there.
    fn begin_anew(&mut self, client: usize) {
        self.connect(client, true);
        self.rest();
    }

    /// One more member of the shared subscription. Its QoS is never 0, so that no message gets lost
    /// with a connection.
    fn join(&mut self, client: usize) {
        let qos = QOS[1 + self.below(2)];
        self.oracle.blur_share();
        self.subscribe(client, &[(SHARED, SubscribeOptions::new(qos))]);
        self.rest();
    }

    /// A SUBSCRIBE of which everything is known: exactly its retained messages come.
    fn subscribe_and_watch(&mut self, client: usize) {
        let filter = FILTERS[self.below(FILTERS.len() - 1)];
        let options = self.draw_options(client);
        let was_there = self.oracle.has_subscription(client, filter);
        let wants = match options.retain_handling {
            RetainHandling::Always => Some(true),
            RetainHandling::Never => Some(false),
            RetainHandling::IfNew => was_there.map(|was_there| !was_there),
        };
        let now = self.world.now.time;
        self.watched = Some((client, Vec::new()));
        self.subscribe(client, &[(filter, options)]);
        self.rest();
        let Some((_, came)) = self.watched.take() else { return };
        // It may be told less than there is.
        let is_whole = self.roles[client].packet_bytes_max.is_none() && self.is_in(client);
        match wants {
            Some(true) if is_whole => {
                self.oracle.check_retained(NAMES[client], &[filter], &came, now, false);
            }
            Some(false) => {
                assert!(came.is_empty(), "client {client} got retained messages: {came:?}");
            }
            _ => {}
        }
    }

    /// Long enough for some sessions to expire, also of clients whose silence has to be noticed
    /// first.
    fn pass_time(&mut self) {
        for _ in 0..16 {
            self.since = self.world.now.time;
            self.world.advance(seconds(5));
            self.look();
            let attached = self.attached();
            self.oracle.quiet(self.world.now.time, &attached);
        }
        self.rest();
    }

    /// Somebody new on any shard is given the last retained message of each topic and nothing else.
    pub(super) fn probe(&mut self) {
        let probe = self.roles.len();
        let connect = Connect::new(Version::V5, "probe");
        self.world.reconnect(probe, &connect);
        let filters = ["#", "$x/#"];
        let options = SubscribeOptions::new(QoS::ExactlyOnce);
        let asked = filters.map(|filter| (filter, options));
        let codes = self.world.subscribe_with(probe, None, &asked);
        assert_eq!(codes, [2, 2]);
        let came = self.world.take_messages(probe);
        assert!(came.iter().all(|message| message.retain), "a live message came to the probe");
        let now = self.world.now.time;
        self.oracle.check_retained("the probe", &filters, &came, now, true);
        let gauges = self.world.snapshot().gauges;
        assert_eq!(gauges.retained_messages, self.oracle.retained_count() as u64, "retained");
        self.tally.probed(came.len());
        self.world.disconnect(probe);
        self.look();
    }
}
