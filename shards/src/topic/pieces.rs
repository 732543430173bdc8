//! A match that takes longer than a turn may, in pieces.
//!
//! A topic of many levels can match filters with so many nodes between them that a walk takes a good part
//! of a millisecond, and everybody else would wait for its end. So whoever is to look such a topic up
//! asks for it before ([`Pieces::is_ready`]), and again in the next turn, until the answer
//! is there. One walk at a time; if the index changes below it, it begins anew, and after some of those
//! it is done in one go, so that each comes to an end.

use super::epochs::Stamp;
use super::subscriber::{Hits, Walk};
use super::trie::Trie;

/// Whoever has not asked for so many turns does not want it any more.
const TURNS_KEPT: u32 = 64;

/// How often a walk may have been begun and not ended. The next one is done in one go.
const IN_VAIN_MAX: u32 = 4;

/// The one match that is under way, or done and not fetched.
#[derive(Debug, Default)]
pub(super) struct Pieces {
    job: Option<Job>,
    /// What the walk needs and has found.
    hits: Hits,
    topic: Vec<u8>,
    /// How many walks were begun since the last that ended.
    pub(super) in_vain: u32,
    /// Nodes that were looked at, so far.
    pub(super) work: u64,
}

#[derive(Debug)]
struct Job {
    stamp: Stamp,
    walk: Walk,
    is_done: bool,
    /// When it was asked for last.
    turn: u32,
}

impl Pieces {
    /// Whether a lookup of `topic` may follow at once. If not, this turn's part of it is done, or that of
    /// another topic.
    pub(super) fn is_ready(
        &mut self,
        trie: &Trie,
        topic: &str,
        turn: u32,
        nodes_max: usize,
    ) -> bool {
        let is_same = self.topic == topic.as_bytes();
        if let Some(job) = &mut self.job {
            if !is_same && turn.wrapping_sub(job.turn) <= TURNS_KEPT {
                return false;
            }
            if is_same && trie.is_fresh(job.stamp) {
                if job.turn == turn && !job.is_done {
                    return false;
                }
                job.turn = turn;
                return self.go_on(trie, nodes_max);
            }
            self.in_vain += 1;
        }
        if self.in_vain > IN_VAIN_MAX {
            self.forget();
            return true;
        }
        self.topic.clear();
        self.topic.extend_from_slice(topic.as_bytes());
        let walk = trie.begin_matching(topic, &mut self.hits);
        self.job = Some(Job { stamp: trie.stamp(topic), walk, is_done: false, turn });
        self.go_on(trie, nodes_max)
    }

    fn go_on(&mut self, trie: &Trie, nodes_max: usize) -> bool {
        let Some(job) = &mut self.job else { return true };
        if !job.is_done {
            let before = job.walk.at;
            job.is_done = trie.go_on_matching(&mut job.walk, nodes_max, &mut self.hits);
            self.work += (job.walk.at - before) as u64;
        }
        job.is_done
    }

    /// Puts the answer for `topic` into `hits`, if it is here.
    pub(super) fn fetch(&mut self, trie: &Trie, topic: &str, hits: &mut Hits) -> bool {
        let is_here = self.job.as_ref().is_some_and(|job| job.is_done && trie.is_fresh(job.stamp))
            && self.topic == topic.as_bytes();
        if is_here {
            std::mem::swap(&mut self.hits, hits);
            self.forget();
        }
        is_here
    }

    /// Nothing is under way, and memory of a rare large walk goes back.
    fn forget(&mut self) {
        self.job = None;
        self.in_vain = 0;
        self.hits = Hits::new();
        self.topic = Vec::new();
    }

    /// Heap memory, without what the allocator adds.
    pub(super) fn bytes(&self) -> usize {
        self.topic.capacity() + self.hits.bytes()
    }
}
