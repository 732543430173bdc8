//! What the reactor drives: [`Shard`], or something simpler in a test.

use shards::Shard;
use shards::ids::ConnId;
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
}
