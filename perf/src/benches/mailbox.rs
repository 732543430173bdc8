//! Mail from one shard to another, both ends on one thread: the cost of the queue, not of the wire
//! between two cores.

use std::hint::black_box;

use shards::ids::ShardId;
use shards::limits::MAILBOX_BYTES;
use shards::mailbox::mesh;

use super::{Bench, Loop, Size};

const RECORD: [u8; 100] = [b'm'; 100];
const BATCH: u64 = 16;

pub(super) const HOP: Bench = Bench {
    name: "mailbox/hop",
    operation: "post one record of 100 bytes, flush, drain and read it",
    budget_operations: 10_000,
    achieves: 100,
    make: |_: Size| hops(1),
};

pub(super) const HOP_BATCH: Bench = Bench {
    name: "mailbox/hop-batch-16",
    operation: "post 16 records of 100 bytes, flush once, drain and read them",
    budget_operations: 1_000,
    achieves: BATCH * 100,
    make: |_: Size| hops(BATCH),
};

fn hops(batch: u64) -> Loop {
    let (from, to) = (ShardId(0), ShardId(1));
    let mut ends = mesh(2, MAILBOX_BYTES);
    Loop::new(move || {
        let [sender, receiver] = ends.as_mut_slice() else { return 0 };
        for _ in 0..batch {
            sender.post(to, None, |out| out.extend_from_slice(black_box(&RECORD)));
        }
        sender.flush(to);
        let mut read = 0;
        while let Some(mut batch) = receiver.drain(from) {
            while let Some(record) = batch.next_record() {
                read += black_box(record).len() as u64;
            }
            receiver.finish(batch);
        }
        read
    })
}
