//! What the reactor drives: [`Shard`], or something simpler in a test.

use shards::Shard;
use shards::ids::{ConnId, ShardId};
use shards::shard::{Input, Outbox, Output};
use shards::time::{Now, Time};

/// A state machine over network connections; the contract is that of [`Shard`].
pub trait Core {
    fn handle(&mut self, now: Now, input: Input<'_>, out: &mut Outbox);
    fn flush(&mut self, now: Now, out: &mut Outbox);
    fn take_output(&mut self, conn: ConnId) -> Output;
    fn reuse(&mut self, output: Output);
    fn next_deadline(&self) -> Option<Time>;
    fn has_work(&self) -> bool;
    fn has_mail(&self) -> bool;

    /// See [`Shard::has_mail_from`].
    fn has_mail_from(&self, _from: ShardId) -> bool {
        true
    }

    /// See [`Shard::has_backlog`].
    fn has_backlog(&self) -> bool {
        false
    }

    /// See [`Shard::is_behind`].
    fn is_behind(&self, _conn: ConnId) -> bool {
        false
    }

    /// See [`Shard::is_late`].
    fn is_late(&self, _conn: ConnId) -> bool {
        false
    }
}

impl Core for Shard {
    fn handle(&mut self, now: Now, input: Input<'_>, out: &mut Outbox) {
        Self::handle(self, now, input, out);
    }

    fn flush(&mut self, now: Now, out: &mut Outbox) {
        Self::flush(self, now, out);
    }

    fn take_output(&mut self, conn: ConnId) -> Output {
        Self::take_output(self, conn)
    }

    fn reuse(&mut self, output: Output) {
        Self::reuse(self, output);
    }

    fn next_deadline(&self) -> Option<Time> {
        Self::next_deadline(self)
    }

    fn has_work(&self) -> bool {
        Self::has_work(self)
    }

    fn has_mail(&self) -> bool {
        Self::has_mail(self)
    }

    fn has_mail_from(&self, from: ShardId) -> bool {
        Self::has_mail_from(self, from)
    }

    fn has_backlog(&self) -> bool {
        Self::has_backlog(self)
    }

    fn is_behind(&self, conn: ConnId) -> bool {
        Self::is_behind(self, conn)
    }

    fn is_late(&self, conn: ConnId) -> bool {
        Self::is_late(self, conn)
    }
}
