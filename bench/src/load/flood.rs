//! A disturbance: one topic is published to as fast as the broker takes it, one of its two
//! subscribers reads and the other does not. What of it arrives is counted by its bytes, so that the
//! load loop has as much time as it can for those whose latency is measured.

use shards::codec::Publish;

use crate::net::{Key, Outs};
use crate::plan::{Disturbance, Plan};

/// Bytes that are given to the kernel at once. More would keep the load loop from the others for
/// longer; with a block in every turn no broker runs dry.
const BLOCK_BYTES: usize = 16 * 1024;

/// Lives on the load thread, in the engine.
#[derive(Debug)]
pub(super) struct Flood {
    pub(super) clients: Disturbance,
    /// Whole packets, all alike.
    block: Vec<u8>,
    record_bytes: usize,
    phase: Phase,
    sent_bytes: u64,
    received_bytes: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Its clients connect.
    Before,
    Sending,
    /// What was sent may still arrive.
    After,
}

impl Flood {
    pub(super) fn new(clients: Disturbance, plan: &Plan) -> Self {
        let payload = vec![0; plan.payload_bytes];
        let mut block = Vec::new();
        Publish::new(&clients.topic, &payload).encode(plan.version(), &mut block);
        let record_bytes = block.len();
        let block = block.repeat((BLOCK_BYTES / record_bytes).max(1));
        Self {
            clients,
            block,
            record_bytes,
            phase: Phase::Before,
            sent_bytes: 0,
            received_bytes: 0,
        }
    }

    pub(super) fn start(&mut self) {
        self.phase = Phase::Sending;
    }

    pub(super) fn stop(&mut self) {
        self.phase = Phase::After;
    }

    /// One block, unless most of the last one still waits.
    pub(super) fn pump(&mut self, publisher: Key, outs: &mut Outs) {
        if self.phase == Phase::Sending && outs.waiting(publisher) < self.block.len() / 2 {
            outs.buffer(publisher).extend_from_slice(&self.block);
            self.sent_bytes += self.block.len() as u64;
        }
    }

    /// True if `client` is the one whose messages are only counted.
    pub(super) fn take(&mut self, client: usize, bytes: &[u8]) -> bool {
        let is_own = self.phase != Phase::Before && client == self.clients.subscriber;
        if is_own {
            self.received_bytes += bytes.len() as u64;
        }
        is_own
    }

    pub(super) fn record_bytes(&self) -> usize {
        self.record_bytes
    }

    /// Messages so far: sent, and delivered to the subscriber that reads.
    pub(super) fn counts(&self) -> (u64, u64) {
        let record_bytes = self.record_bytes as u64;
        (self.sent_bytes / record_bytes, self.received_bytes / record_bytes)
    }
}
