//! Mail from other shards, and mail to them.

use bytes::Bytes;

use crate::ids::ShardId;
use crate::mail::{Mail, topic_of};
use crate::mark;
use crate::reject::ReasonCode;
use crate::time::Now;

use super::Shard;
use super::effect::{Adopt, Outbox};
use super::filing::filter_units;
use super::local::units;

/// How much for this shard's clients is in it.
fn brought_units(mail: &Mail<'_>) -> u32 {
    match mail {
        Mail::Publish(publish) => units(publish.message.payload.bytes().len()),
        Mail::Run(run) => units(run.packets.len()),
        _ => 0,
    }
}

/// How much of a turn the filters of other shards take: as much as those of this one's clients.
fn filing_units(mail: &Mail<'_>) -> u32 {
    match mail {
        Mail::Interest { filter, .. } | Mail::Share { filter, .. } => filter_units(filter),
        _ => 0,
    }
}

impl Shard {
    /// Posts one record; it leaves with the next flush.
    pub(super) fn post(&mut self, to: ShardId, mail: &Mail<'_>) {
        self.mail.post(to, mail.parcel(), |out| mail.write(out));
        self.posted |= 1 << to.0;
        self.local.counters.mail_posted += 1;
    }

    /// Works on a bounded batch of what has come from one shard.
    pub(super) fn on_mail(&mut self, now: Now, from: ShardId, out: &mut Outbox) {
        let Some(mut batch) = self.mail.drain(from) else { return };
        let mut left = self.local.settings.turn_packets_max;
        let handled = self.mail.handled(from);
        let mut brought = 0_u32;
        while left > 0 {
            if !self.is_index_ready_for(batch.record()) {
                mark!(MailWaited);
                break;
            }
            self.record = (from, handled + batch.handled() + 1);
            let Some(record) = batch.next_record() else { break };
            let mut parcel: Option<Bytes> = None;
            let own = &mut self.mail;
            match Mail::read(record, &mut parcel, || own.take_parcel(from)) {
                Some(mail) => {
                    self.local.counters.mail_handled += 1;
                    left = left.saturating_sub(filing_units(&mail));
                    brought = brought.saturating_add(brought_units(&mail));
                    self.on_record(now, from, mail, out);
                }
                None => {
                    debug_assert!(false, "mail that cannot be read: {record:?}");
                    self.local.counters.mail_unreadable += 1;
                }
            }
        }
        mark!(MailLeft if left == 0);
        self.local.weigh_mail(brought);
        self.mail.finish(batch);
    }

    /// Whether the index can tell in this turn where a message from another shard goes. What comes behind
    /// it waits as well: mail is worked on in order.
    fn is_index_ready_for(&mut self, record: Option<&[u8]>) -> bool {
        self.is_index_small()
            || record.and_then(topic_of).is_none_or(|topic| self.is_index_ready(topic))
    }

    fn on_record(&mut self, now: Now, from: ShardId, mail: Mail<'_>, out: &mut Outbox) {
        match mail {
            Mail::Publish(publish) => self.fan_in(now, from, &publish, out),
            Mail::Run(run) => self.on_run_mail(now, from, &run, out),
            Mail::Outcome { completion, reason } => {
                let reason = ReasonCode::from_byte(reason).unwrap_or(ReasonCode::UnspecifiedError);
                self.complete(completion, reason, out);
            }
            Mail::Interest { filter, is_added } => self.on_interest(from, filter, is_added),
            Mail::Share { filter, name, group, online, total } => {
                self.on_share(from, (filter, name), group, (online, total));
            }
            Mail::Barrier { barrier } => self.on_barrier(from, barrier),
            Mail::Passed { barrier, posted } => self.on_passed(now, from, barrier, posted, out),
            Mail::RetainedAsk { question, filter, cursor, barrier } => {
                self.on_retained_ask(now, from, question, (filter, cursor), barrier);
            }
            Mail::RetainedItem { question, message } => {
                self.on_retained_item(now, question, &message);
            }
            Mail::RetainedEnd { question, cursor } => {
                self.on_retained_end(now, question, cursor, out);
            }
            Mail::HandOver { origin, bytes } => {
                self.local.counters.connections_adopted += 1;
                out.adopts.push(Adopt { origin, bytes: bytes.bytes().to_vec() });
            }
            Mail::Counters { values } => self.on_counters(from, values),
            Mail::StopFence => self.fences |= 1 << from.0,
            Mail::RestoreFence => self.restore_fences |= 1 << from.0,
        }
    }
}
