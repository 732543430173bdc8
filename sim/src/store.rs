//! The simulated store: keeps what shards ask for as `shards::store` promises, answers when the world
//! says so, and loses at a crash what it may lose.

use std::collections::{BTreeMap, VecDeque};

use shards::ids::StoreTicket;
use shards::store::{StoreKey, StoreOp, StoreOutcome};

/// The stores of all shards. Keys of different shards differ, so what is kept is one map.
#[derive(Debug)]
pub struct Store {
    kept: BTreeMap<StoreKey, Vec<u8>>,
    /// By shard: what was asked for and not answered.
    pending: Vec<VecDeque<(StoreTicket, StoreOp)>>,
}

impl Store {
    pub fn new(shards: u8) -> Self {
        let pending = (0..shards).map(|_| VecDeque::new()).collect();
        Self { kept: BTreeMap::new(), pending }
    }

    pub fn ask(&mut self, at: usize, ticket: StoreTicket, op: StoreOp) {
        let last = self.pending[at].back();
        assert!(last.is_none_or(|(last, _)| *last < ticket), "tickets ascend");
        self.pending[at].push_back((ticket, op));
    }

    pub fn is_busy(&self, at: usize) -> bool {
        !self.pending[at].is_empty()
    }

    pub fn pending_count(&self) -> usize {
        self.pending.iter().map(VecDeque::len).sum()
    }

    pub fn pending_count_of(&self, at: usize) -> usize {
        self.pending[at].len()
    }

    /// Ends the oldest `count` operations of a shard; the ticket that stands for all of them.
    pub fn answer(
        &mut self,
        at: usize,
        count: usize,
        outcome: StoreOutcome,
    ) -> Option<StoreTicket> {
        let mut last = None;
        for _ in 0..count {
            let (ticket, op) = self.pending[at].pop_front()?;
            if outcome == StoreOutcome::Durable {
                self.apply(op);
            }
            last = Some(ticket);
        }
        last
    }

    /// Of what is under way, so many operations of each shard were done, the others not.
    pub fn crash(&mut self, done: &[usize], shards: u8) {
        for (at, &count) in done.iter().enumerate() {
            self.answer(at, count, StoreOutcome::Durable);
        }
        self.pending = (0..shards).map(|_| VecDeque::new()).collect();
    }

    /// What a crash leaves, in the order in which it is given back.
    pub fn kept(&self) -> impl Iterator<Item = (&StoreKey, &[u8])> {
        self.kept.iter().map(|(key, record)| (key, record.as_slice()))
    }

    pub fn is_empty(&self) -> bool {
        self.kept.is_empty()
    }

    fn apply(&mut self, op: StoreOp) {
        match op {
            StoreOp::Put { key, record } => {
                self.kept.insert(key, record);
            }
            StoreOp::Delete { key } => {
                self.kept.remove(&key);
            }
            StoreOp::Replace { client_id, records } => {
                self.kept.retain(|key, _| key.client_id() != Some(&*client_id));
                self.kept.extend(records);
            }
        }
    }
}
