//! Where a message goes: to sessions of this shard, and as one mail to each other shard that has
//! somebody for it (ARCHITECTURE: the way of a PUBLISH).

use crate::ids::{SessionId, ShardId};
use crate::limits::{SCRATCH_BYTES_MAX, ShareStrategy};
use crate::mail::{Mail, PublishMail};
use crate::mark;
use crate::planted::planted;
use crate::reject::ReasonCode;
use crate::session::messages::{Message, Payload};
use crate::session::outgoing::Delivery;
use crate::slots::owner_of;
use crate::time::Now;
use crate::topic::{GroupId, Member, NoLocal, topic_hash};

use super::Shard;
use super::deliver::{Delivered, is_expired};
use super::effect::Outbox;
use super::publish::{Completion, Whose};
use super::render::{Fan, How, Verbatim};
use super::rights::may_receive;

/// Subscribers whose memory is asked for together: as many as the processor can wait for at a time.
const TOUCHED: usize = 16;

/// From so many subscribers on: what fewer need is still in the cache after the message before.
const TOUCHED_FROM: usize = 256;

/// Where a message comes from.
#[derive(Debug)]
pub(super) struct Source {
    /// The publisher's session, if it lives here: for no-local.
    pub(super) session: Option<SessionId>,
    /// Hash of the publisher's client identifier, if it came with the message; else that of `session`.
    pub(super) publisher: Option<u64>,
    /// Who waits for the outcome, on the publisher's shard.
    pub(super) completion: Option<u64>,
    /// Shards none of whose members may receive it: only of a shared subscription that is passed on.
    pub(super) tried: u64,
}

/// Buffers that are used again and again.
#[derive(Debug, Default)]
pub(super) struct Scratch {
    pub(super) topic: String,
    /// A topic with its publisher's mount point.
    pub(super) mounted: String,
    pub(super) properties: Vec<u8>,
    pub(super) packet: Vec<u8>,
    /// Shared groups that another shard was picked for, by shard: its numbers, 8 bytes each.
    groups: Vec<Vec<u8>>,
    /// Bit per shard that has some in `groups`.
    picked: u64,
}

impl Scratch {
    /// Lets go of what a rare large packet has left.
    pub(super) fn trim(&mut self) {
        for buffer in self.groups.iter_mut().chain([&mut self.properties, &mut self.packet]) {
            if buffer.capacity() > SCRATCH_BYTES_MAX {
                *buffer = Vec::new();
            }
        }
    }
}

/// What became of a message.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Outcome {
    /// Somebody, somewhere, has a matching subscription.
    pub(super) is_matched: bool,
    /// A queue was full and the publisher is to be told.
    pub(super) is_refused: bool,
    /// A ring that it went into is full: the publisher should pause.
    pub(super) is_congested: bool,
}

impl Outcome {
    pub(super) fn reason(self) -> ReasonCode {
        match self {
            Self { is_refused: true, .. } => ReasonCode::QuotaExceeded,
            Self { is_matched: true, .. } => ReasonCode::Success,
            Self { .. } => ReasonCode::NoMatchingSubscribers,
        }
    }
}

impl Shard {
    /// Routes a message that came from a client of this shard, a will, or the broker itself.
    pub(super) fn fan_out(
        &mut self,
        now: Now,
        source: &Source,
        message: Message<'_>,
        verbatim: Option<Verbatim<'_>>,
        out: &mut Outbox,
    ) -> Outcome {
        let mut outcome = Outcome::default();
        let retained_owner =
            message.retain.then(|| owner_of(topic_hash(message.topic.as_bytes()), self.shards));
        if retained_owner == Some(self.id) && !self.keep_retained(now, &message, None) {
            outcome.is_refused = true;
        }
        let mut fan = Fan::new(message, &mut self.local.rendered);
        fan.verbatim = verbatim;
        let found = self.index.cache.lookup(&self.index.trie, message.topic);
        let remote = self.index.cache.at(found).remote;
        let group_count = self.index.cache.at(found).groups.len();
        outcome.is_matched = !self.index.cache.at(found).is_empty();
        self.deliver_here(now, source, &mut fan, found, &mut outcome, out);
        for at in 0..group_count {
            let Some(&group) = self.index.cache.at(found).groups.get(at) else { break };
            self.pick(now, group, source, &mut fan, &mut outcome, out);
        }
        fan.end(&mut self.local.messages);
        let owner = retained_owner.filter(|&owner| owner != self.id);
        let targets = remote | self.scratch.picked | owner.map_or(0, |owner| 1 << owner.0);
        if targets != 0 {
            self.post_publish(source, &message, targets, remote, owner, &mut outcome);
        }
        self.flush_stores(now, source.completion, out);
        if !outcome.is_matched {
            self.local.counters.messages_unmatched += 1;
        }
        outcome
    }

    /// One mail to each shard in `targets`.
    fn post_publish(
        &mut self,
        source: &Source,
        message: &Message<'_>,
        targets: u64,
        subscribers: u64,
        owner: Option<ShardId>,
        outcome: &mut Outcome,
    ) {
        let mut groups = std::mem::take(&mut self.scratch.groups);
        let picked = std::mem::take(&mut self.scratch.picked);
        let mut left = targets;
        while left != 0 {
            let to = ShardId(u8::try_from(left.trailing_zeros()).unwrap_or(0));
            left &= left - 1;
            let is_in = |set: u64| set & (1 << to.0) != 0;
            if planted!(MailLost) && self.mail.is_congested(to) {
                continue;
            }
            if let Some(completion) = source.completion
                && let Some(completion) = self.completions.get_mut(completion)
            {
                completion.waiting += 1;
            }
            let mail = Mail::Publish(PublishMail {
                message: *message,
                is_for_subscribers: is_in(subscribers),
                is_for_retained: owner == Some(to),
                completion: source.completion,
                publisher: self.publisher_hash(source),
                groups: if is_in(picked) { &groups[to.index()] } else { &[] },
                tried: 0,
            });
            self.post(to, &mail);
            outcome.is_congested |= self.mail.is_congested(to);
            if is_in(picked) {
                groups[to.index()].clear();
            }
        }
        self.scratch.groups = groups;
    }

    /// A message from another shard, for this one's part of its targets.
    pub(super) fn fan_in(
        &mut self,
        now: Now,
        from: ShardId,
        publish: &PublishMail<'_>,
        out: &mut Outbox,
    ) {
        let completion = publish.completion.map(|completion| {
            let whose = Whose::Shard(from, completion);
            self.completions.insert(Completion { whose, waiting: 1, reason: ReasonCode::Success })
        });
        let (publisher, tried) = (Some(publish.publisher), publish.tried);
        let source = Source { session: None, publisher, completion, tried };
        let mut outcome = Outcome { is_matched: true, ..Outcome::default() };
        if publish.is_for_retained && !self.keep_retained(now, &publish.message, Some(self.record))
        {
            outcome.is_refused = true;
        }
        let mut fan = Fan::new(publish.message, &mut self.local.rendered);
        if publish.is_for_subscribers {
            let found = self.index.cache.lookup(&self.index.trie, publish.message.topic);
            self.deliver_here(now, &source, &mut fan, found, &mut outcome, out);
        }
        for bits in crate::mail::u64s(publish.groups) {
            let group = GroupId::from_bits(bits);
            self.deliver_to_member(now, group, &source, &mut fan, &mut outcome, out);
        }
        fan.end(&mut self.local.messages);
        let picked = self.scratch.picked;
        if picked != 0 {
            mark!(FanInPosted);
            self.post_publish(&source, &publish.message, picked, 0, None, &mut outcome);
        }
        self.flush_stores(now, source.completion, out);
        if let Some(completion) = completion {
            self.complete(completion, outcome.reason(), out);
        }
    }

    /// To this shard's own ordinary subscribers.
    fn deliver_here(
        &mut self,
        now: Now,
        source: &Source,
        fan: &mut Fan<'_>,
        found: crate::topic::Found,
        outcome: &mut Outcome,
        out: &mut Outbox,
    ) {
        let message = fan.message;
        let mut own = None;
        let targets = self.index.cache.at(found);
        let is_wide = targets.targets.len() >= TOUCHED_FROM;
        for (at, target) in targets.targets.iter().enumerate() {
            if is_wide && at % TOUCHED == 0 {
                self.local.touch(targets.targets.get(at..).unwrap_or_default(), TOUCHED);
            }
            let is_own = source.session == Some(target.session) && !planted!(NoLocalIgnored);
            if target.no_local != NoLocal::None && is_own {
                own = Some(*target);
                continue;
            }
            if target.is_checked()
                && !planted!(WildcardUnchecked)
                && !may_receive(self.authorise.as_mut(), &mut self.local, target, message.topic, 1)
            {
                continue;
            }
            let how = How {
                qos: target.qos.min(message.qos),
                retain: (target.retain_as_published() || planted!(RetainFlagKept))
                    && message.retain,
                ids: targets.ids(target),
            };
            let delivered = self.local.deliver(now, target.session, how, None, fan, out);
            outcome.is_refused |= delivered == Delivered::Refused;
            if planted!(OverlapTwice) && how.ids.len() > 1 {
                self.local.deliver(now, target.session, how, None, fan, out);
            }
        }
        let Some(own) = own.filter(|own| own.no_local == NoLocal::Some) else { return };
        if let Some(target) = targets.of_publisher(own.session)
            && (!target.is_checked()
                || may_receive(self.authorise.as_mut(), &mut self.local, target, message.topic, 1))
        {
            let how = How {
                qos: target.qos.min(message.qos),
                retain: target.retain_as_published() && message.retain,
                ids: targets.ids(target),
            };
            let delivered = self.local.deliver(now, own.session, how, None, fan, out);
            outcome.is_refused |= delivered == Delivered::Refused;
        }
    }

    /// Chooses the shard whose member gets the message of a shared subscription.
    fn pick(
        &mut self,
        now: Now,
        asked: GroupId,
        source: &Source,
        fan: &mut Fan<'_>,
        outcome: &mut Outcome,
        out: &mut Outbox,
    ) {
        let random = self.random_for_share();
        let (own, strategy) = (self.id, self.local.settings.share_strategy);
        let topic = topic_hash(fan.message.topic.as_bytes());
        let publisher = self.publisher_hash(source);
        let picked = self
            .index
            .trie
            .group_mut(asked)
            .and_then(|found| found.pick_shard(own, strategy, publisher, topic, random));
        let Some((shard, group)) = picked else {
            mark!(ShareEmpty);
            self.local.counters.messages_unmatched += 1;
            return;
        };
        if shard == own {
            self.deliver_to_member(now, group, source, fan, outcome, out);
            return;
        }
        if planted!(SharedTwice)
            && self.index.trie.group(asked).is_some_and(|group| group.counts().1 > 0)
        {
            self.deliver_to_member(now, asked, source, fan, outcome, out);
        }
        let scratch = &mut self.scratch;
        if scratch.groups.len() <= shard.index() {
            scratch.groups.resize_with(shard.index() + 1, Vec::new);
        }
        scratch.groups[shard.index()].extend_from_slice(&group.to_bits().to_le_bytes());
        scratch.picked |= 1 << shard.0;
    }

    /// To one of this shard's members of a shared subscription.
    fn deliver_to_member(
        &mut self,
        now: Now,
        group: GroupId,
        source: &Source,
        fan: &mut Fan<'_>,
        outcome: &mut Outcome,
        out: &mut Outbox,
    ) {
        let random = self.random_for_share();
        let strategy = self.local.settings.share_strategy;
        let message = fan.message;
        let topic = topic_hash(message.topic.as_bytes());
        let publisher = self.publisher_hash(source);
        let (trie, sessions) = (&mut self.index.trie, &self.local.sessions);
        let inflight = |session| {
            let outgoing = sessions.get(session).and_then(|session| session.outgoing.as_ref());
            outgoing.map_or(0, |outgoing| {
                u32::try_from(outgoing.inflight_count() + outgoing.queue_count())
                    .unwrap_or(u32::MAX)
            })
        };
        let picked = trie.group_mut(group).and_then(|found| {
            found.pick_member(strategy, publisher, topic, random, inflight).copied()
        });
        let Some(member) = picked else {
            mark!(SharePickedAgain);
            // The last member here left while the message was on its way: another shard may have one.
            return self.pick(now, group, source, fan, outcome, out);
        };
        let Some(member) = self.find_receiver(group, member, message.topic) else {
            return self.pass_on(group, source, fan, outcome);
        };
        let how = How {
            qos: member.options.qos().min(message.qos),
            retain: member.options.retain_as_published() && message.retain,
            ids: member.id.as_slice(),
        };
        let delivered = self.local.deliver(now, member.session, how, Some(group), fan, out);
        outcome.is_refused |= delivered == Delivered::Refused;
    }

    /// The member that was picked, or another one of this shard if that may not receive the topic.
    fn find_receiver(&mut self, group: GroupId, picked: Member, topic: &str) -> Option<Member> {
        if !picked.options.is_checked() && !picked.options.is_guarded() {
            return Some(picked);
        }
        let (trie, sessions, authorise) =
            (&self.index.trie, &self.local.sessions, &mut self.authorise);
        let mut may_receive = |member: &Member| {
            let is_hidden = member.options.is_guarded() && trie.hides(member.session, topic);
            let mut may =
                |id| sessions.get(id).is_some_and(|s| authorise.may_receive(&s.who(), topic));
            !is_hidden && (!member.options.is_checked() || may(member.session))
        };
        if may_receive(&picked) {
            return Some(picked);
        }
        mark!(ShareMemberDenied);
        let members = self.index.trie.group(group)?.members_after(picked.session);
        members.copied().find(may_receive)
    }

    /// No member here may receive it: another shard is asked, each one once.
    fn pass_on(&mut self, group: GroupId, source: &Source, fan: &Fan<'_>, outcome: &mut Outcome) {
        let tried = source.tried | 1 << self.id.0;
        let next = self.index.trie.group(group).and_then(|found| found.shard_not_in(tried));
        let Some((to, group)) = next else {
            mark!(ShareDenied);
            self.local.counters.denied_delivery += 1;
            return;
        };
        mark!(SharePassedOn);
        if let Some(completion) = source.completion.and_then(|at| self.completions.get_mut(at)) {
            completion.waiting += 1;
        }
        let mail = Mail::Publish(PublishMail {
            message: fan.message,
            is_for_subscribers: false,
            is_for_retained: false,
            completion: source.completion,
            publisher: self.publisher_hash(source),
            groups: &group.to_bits().to_le_bytes(),
            tried,
        });
        self.post(to, &mail);
        outcome.is_congested |= self.mail.is_congested(to);
    }

    /// A delivery of a shared subscription whose member is gone goes to another one.
    pub(super) fn redeliver(
        &mut self,
        now: Now,
        group: GroupId,
        delivery: Delivery,
        out: &mut Outbox,
    ) {
        let local = &mut self.local;
        let message = local.messages.view(&delivery.message);
        // To the next member its delivery has not begun.
        if is_expired(now, &message) {
            mark!(ExpiredRedelivered);
            local.counters.dropped_expired += 1;
            return local.messages.release(delivery.message);
        }
        // The kept message cannot be lent out while others may be kept: this path is rare.
        let (topic, properties) = (message.topic.to_owned(), message.properties.to_vec());
        let payload = match message.payload {
            Payload::Inline(bytes) => bytes::Bytes::copy_from_slice(bytes),
            Payload::Shared(bytes) => bytes.clone(),
        };
        let copy = Message {
            topic: &topic,
            properties: &properties,
            payload: match message.payload {
                Payload::Inline(_) => Payload::Inline(&payload),
                Payload::Shared(_) => Payload::Shared(&payload),
            },
            ..message
        };
        local.messages.release(delivery.message);
        mark!(ShareRedelivered);
        local.counters.share_redelivered += 1;
        let source = Source { session: None, publisher: None, completion: None, tried: 0 };
        let mut fan = Fan::new(copy, &mut local.rendered);
        let mut outcome = Outcome::default();
        self.pick(now, group, &source, &mut fan, &mut outcome, out);
        fan.end(&mut self.local.messages);
        let picked = self.scratch.picked;
        if picked != 0 {
            self.post_publish(&source, &copy, picked, 0, None, &mut outcome);
        }
        self.flush_stores(now, source.completion, out);
    }

    fn random_for_share(&mut self) -> u64 {
        match self.local.settings.share_strategy {
            ShareStrategy::Random => self.rng.next_u64(),
            ShareStrategy::RoundRobin
            | ShareStrategy::Sticky
            | ShareStrategy::HashClient
            | ShareStrategy::HashTopic
            | ShareStrategy::LeastInflight => 0,
        }
    }
}
