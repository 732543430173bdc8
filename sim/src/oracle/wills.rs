//! Wills: each is published once, or never if it was cancelled, and not before its time.

use std::time::Duration;

use shards::time::Time;

use super::Oracle;

/// How a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leave {
    /// DISCONNECT, with or without the will, and with the expiry interval that it set.
    /// `is_sure`: nothing else can have ended the connection first.
    Disconnect { with_will: bool, expiry_s: Option<u32>, is_sure: bool },
    /// Anything else after CONNACK.
    Lost,
    /// CONNACK has not come.
    Unwelcomed,
}

/// What is known of a will.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// Its CONNECT is on the way.
    Asked,
    /// Its connection is there.
    Armed,
    /// DISCONNECT with 0x00 is on the way.
    Dropping,
    /// The connection ends; since when.
    Leaving(Time),
    /// Due then: not before, and not after.
    Pending(Time, Time),
    /// Published.
    Out,
    /// Cancelled.
    Never,
    /// Nobody can tell; it may still come.
    Open,
    /// Nobody can tell; if it was published, then already.
    Closed,
}

#[derive(Debug)]
struct Will {
    client: usize,
    /// Of its message.
    number: usize,
    delay_s: u32,
    fate: Fate,
    /// It stands in the log of retained messages, for the last time.
    is_logged: bool,
}

#[derive(Debug, Default)]
pub(super) struct Wills {
    all: Vec<Will>,
}

impl Oracle {
    pub(super) fn ask_will(&mut self, client: usize, is_clean: bool, will: Option<(usize, u32)>) {
        let since = self.since;
        for will in self.wills.all.iter_mut().filter(|will| will.client == client && is_clean) {
            // The session ends with it.
            if matches!(will.fate, Fate::Pending(..)) {
                will.fate = Fate::Leaving(since);
            }
        }
        if let Some((number, delay_s)) = will {
            let fate = Fate::Asked;
            self.wills.all.push(Will { client, number, delay_s, fate, is_logged: false });
        }
    }

    /// CONNACK: what becomes of the wills of older connections is decided.
    pub(super) fn arm_will(&mut self, client: usize, is_clean: bool, is_muddled: bool) {
        let (least, most) = self.sessions[client].expiry_s;
        let now = self.now;
        let own = self.wills.all.iter_mut().filter(|will| will.client == client);
        let newest = own.map(|will| will.number).max();
        let has_asked =
            self.wills.all.iter().any(|w| Some(w.number) == newest && w.fate == Fate::Asked);
        for will in self.wills.all.iter_mut().filter(|will| will.client == client) {
            if has_asked && Some(will.number) == newest {
                will.fate = Fate::Armed;
                continue;
            }
            will.fate = match will.fate {
                Fate::Out | Fate::Never | Fate::Closed => will.fate,
                _ if is_muddled => Fate::Open,
                Fate::Asked | Fate::Open => Fate::Closed,
                Fate::Dropping => Fate::Closed,
                Fate::Armed | Fate::Leaving(_) if is_clean || most == 0 || will.delay_s == 0 => {
                    Fate::Out
                }
                Fate::Armed | Fate::Leaving(_) if least > 0 => Fate::Never,
                Fate::Armed | Fate::Leaving(_) => Fate::Closed,
                Fate::Pending(..) if is_clean => Fate::Out,
                Fate::Pending(earliest, _) if now < earliest => Fate::Never,
                Fate::Pending(..) => Fate::Closed,
            };
        }
    }

    pub(super) fn leave_will(&mut self, client: usize, leave: Leave) {
        let since = self.since;
        for will in self.wills.all.iter_mut().filter(|will| will.client == client) {
            will.fate = match (will.fate, leave) {
                (Fate::Armed, Leave::Disconnect { with_will: false, is_sure: false, .. }) => {
                    Fate::Open
                }
                (Fate::Armed, Leave::Disconnect { with_will: false, .. }) => Fate::Dropping,
                (Fate::Armed, _) => Fate::Leaving(since),
                // The new connection may have cancelled or released it, or not.
                (Fate::Asked | Fate::Pending(..) | Fate::Leaving(_), Leave::Unwelcomed) => {
                    Fate::Open
                }
                (fate, _) => fate,
            };
            if matches!(will.fate, Fate::Leaving(_) | Fate::Open) {
                let ticks = (self.look_tick, self.rest_tick);
                self.published[will.number].date_will(ticks);
            }
        }
    }

    /// Several CONNECTs are on their way: no order is known.
    pub fn muddle_wills(&mut self, client: usize) {
        for will in self.wills.all.iter_mut().filter(|will| will.client == client) {
            if !matches!(will.fate, Fate::Out | Fate::Never | Fate::Closed) {
                will.fate = Fate::Open;
                let ticks = (self.look_tick, self.rest_tick);
                self.published[will.number].date_will(ticks);
            }
        }
    }

    pub(super) fn quiet_wills(&mut self, attached: &[bool]) {
        let now = self.now;
        let after = |time: Time, secs: u32| time + Duration::from_secs(secs.into());
        for at in 0..self.wills.all.len() {
            let will = &self.wills.all[at];
            let (least, most) = self.sessions[will.client].expiry_s;
            let fate = match will.fate {
                Fate::Dropping if !attached[will.client] => Fate::Never,
                Fate::Leaving(since) if !attached[will.client] => Fate::Pending(
                    after(since, least.min(will.delay_s)),
                    after(now, most.min(will.delay_s)),
                ),
                fate => fate,
            };
            let fate = match fate {
                Fate::Pending(_, latest) if now >= latest => Fate::Out,
                fate => fate,
            };
            let number = will.number;
            self.wills.all[at].fate = fate;
            let message = &mut self.published[number];
            match fate {
                Fate::Out => message.is_accepted = true,
                Fate::Never => {
                    assert_eq!(message.comings, 0, "will {number} came and was cancelled");
                }
                _ => {}
            }
            self.log_will(at);
        }
    }

    /// Notes a retained will in the log of its topic, once it may have been published.
    fn log_will(&mut self, at: usize) {
        let will = &self.wills.all[at];
        let message = &self.published[will.number];
        let is_final = matches!(will.fate, Fate::Out | Fate::Closed);
        let may_be_out = match will.fate {
            Fate::Out | Fate::Closed => !will.is_logged,
            Fate::Open | Fate::Leaving(_) => true,
            Fate::Pending(earliest, _) => self.now >= earliest,
            Fate::Asked | Fate::Armed | Fate::Dropping | Fate::Never => false,
        };
        if message.retain && may_be_out {
            let (topic, number) = (message.topic, will.number);
            self.wills.all[at].is_logged = is_final;
            self.published[number].is_undated |= !is_final;
            self.retained.log(topic, number, usize::MAX - number);
        }
    }

    /// A will has come: it must be possible.
    pub(super) fn check_will(&self, number: usize, is_evictable: bool) {
        let will = self.wills.all.iter().find(|will| will.number == number).expect("a will");
        let may = match will.fate {
            Fate::Out | Fate::Open | Fate::Closed | Fate::Leaving(_) | Fate::Dropping => true,
            Fate::Pending(earliest, _) => self.now >= earliest,
            // It may have been let in, and taken over by an older CONNECT before its CONNACK came.
            Fate::Asked => true,
            Fate::Armed => is_evictable,
            Fate::Never => false,
        };
        assert!(may, "will {number} came, but it is {:?}", will.fate);
    }

    /// How many wills are published, at least and at most.
    pub(super) fn wills_out(&self) -> (u64, u64) {
        let count = |is: fn(&Fate, Time) -> bool| {
            self.wills.all.iter().filter(|will| is(&will.fate, self.now)).count() as u64
        };
        let out = count(|fate, _| *fate == Fate::Out);
        let may = count(|fate, now| match fate {
            // The client may not know that the connection is long over.
            Fate::Open | Fate::Closed | Fate::Leaving(_) => true,
            Fate::Pending(earliest, _) => now >= *earliest,
            _ => false,
        });
        (out, out + may)
    }
}
