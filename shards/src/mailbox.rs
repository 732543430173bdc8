//! One-way bounded byte streams between every ordered pair of shards.
//!
//! A mail is a record of bytes; small ones are copied into the ring itself, so no memory is freed on
//! a foreign core. A payload too large for that travels beside the bytes as one refcounted `Bytes`.
//! FIFO per pair. What a ring cannot take at once waits in the sender's staging buffer, in order and
//! ahead of everything newer; [`Mailboxes::is_congested`] tells when that has grown so far that those
//! who post must pause. The mailbox knows nothing of MQTT.
//!
//! Lives on its shard; only the rings inside are shared, each by one writer and one reader.

use std::collections::VecDeque;

use bytes::Bytes;
use rtrb::{Consumer, Producer, RingBuffer};

use crate::ids::ShardId;
use crate::mark;

/// Refcounted payloads that may wait in one ring; each is a large one, so this is megabytes at least.
const PARCELS_MAX: usize = 512;

/// Bytes taken from one ring in one go: long enough to batch, short enough that no ring starves others.
const DRAIN_BYTES_MAX: usize = 64 * 1024;

/// Memory that an empty staging buffer may keep.
const STAGED_BYTES_SPARE: usize = 512 * 1024;

/// Bytes of the length that precedes each record.
const LENGTH_BYTES: usize = 4;

#[derive(Debug)]
struct Outgoing {
    ring: Producer<u8>,
    parcels: Producer<Bytes>,
    /// Records not yet in the ring; those before `staged_start` are.
    staged: Vec<u8>,
    staged_start: usize,
    /// Payloads not yet in their ring, each with the stream position of the record that announces it.
    staged_parcels: VecDeque<(u64, Bytes)>,
    /// Bytes that ever went into the ring: the stream position of `staged[staged_start]`.
    position: u64,
    /// Records ever posted.
    posted: u64,
}

#[derive(Debug)]
struct Incoming {
    ring: Consumer<u8>,
    parcels: Consumer<Bytes>,
    /// Taken from the ring and not worked on: a record that is not whole yet, or with `has_rest` whole ones
    /// for which the turn was not long enough.
    cut: Vec<u8>,
    has_rest: bool,
    /// Records ever handled.
    handled: u64,
}

/// One shard's ends of all rings: it writes to and reads from every other shard.
#[derive(Debug)]
pub struct Mailboxes {
    own: ShardId,
    outgoing: Vec<Option<Outgoing>>,
    incoming: Vec<Option<Incoming>>,
    /// Staged bytes above which a target counts as congested.
    staged_bytes_max: usize,
}

/// A batch of records taken from one ring. Hand it back with [`Mailboxes::finish`].
#[derive(Debug)]
pub struct Batch {
    from: ShardId,
    bytes: Vec<u8>,
    start: usize,
    handled: u64,
}

/// Makes the rings for `shards` shards and hands each its ends, in the order of their numbers.
#[must_use]
pub fn mesh(shards: u8, ring_bytes: usize) -> Vec<Mailboxes> {
    let ring_bytes = ring_bytes.next_power_of_two();
    let empty = |own| Mailboxes {
        own: ShardId(own),
        outgoing: (0..shards).map(|_| None).collect(),
        incoming: (0..shards).map(|_| None).collect(),
        staged_bytes_max: ring_bytes,
    };
    let mut all: Vec<_> = (0..shards).map(empty).collect();
    for from in 0..shards {
        for to in (0..shards).filter(|&to| to != from) {
            let (ring_in, ring_out) = RingBuffer::new(ring_bytes);
            let (parcels_in, parcels_out) = RingBuffer::new(PARCELS_MAX.min(ring_bytes));
            all[usize::from(from)].outgoing[usize::from(to)] = Some(Outgoing {
                ring: ring_in,
                parcels: parcels_in,
                staged: Vec::new(),
                staged_start: 0,
                staged_parcels: VecDeque::new(),
                position: 0,
                posted: 0,
            });
            all[usize::from(to)].incoming[usize::from(from)] = Some(Incoming {
                ring: ring_out,
                parcels: parcels_out,
                cut: Vec::new(),
                has_rest: false,
                handled: 0,
            });
        }
    }
    all
}

impl Mailboxes {
    /// Appends one record for shard `to`; `write` fills it. A `parcel` goes beside it.
    ///
    /// # Panics
    /// If `to` is this shard itself or does not exist: a fault of the caller.
    pub fn post(&mut self, to: ShardId, parcel: Option<Bytes>, write: impl FnOnce(&mut Vec<u8>)) {
        let outgoing = self.outgoing_mut(to);
        mark!(MailBehindStaged if outgoing.staged_start > 0);
        let at = outgoing.staged.len();
        outgoing.staged.extend_from_slice(&[0; LENGTH_BYTES]);
        write(&mut outgoing.staged);
        let length = outgoing.staged.len() - at - LENGTH_BYTES;
        let length =
            u32::try_from(length).expect("a mail is bounded by the largest control packet");
        outgoing.staged[at..at + LENGTH_BYTES].copy_from_slice(&length.to_le_bytes());
        if let Some(parcel) = parcel {
            let offset = at - outgoing.staged_start;
            outgoing.staged_parcels.push_back((outgoing.position + offset as u64, parcel));
        }
        outgoing.posted += 1;
    }

    /// Moves staged mail into the ring to `to`, as far as there is room. True if any went.
    pub fn flush(&mut self, to: ShardId) -> bool {
        let Some(outgoing) = self.outgoing[to.index()].as_mut() else { return false };
        if outgoing.staged_start == outgoing.staged.len() {
            return false;
        }
        outgoing.flush()
    }

    /// True if mail for `to` waits outside its ring, more than may: those who post to it must pause.
    #[must_use]
    pub fn is_congested(&self, to: ShardId) -> bool {
        self.outgoing[to.index()].as_ref().is_some_and(|o| o.staged_bytes() > self.staged_bytes_max)
    }

    /// Bytes for `to` that wait outside its ring.
    #[must_use]
    pub fn staged_bytes(&self, to: ShardId) -> usize {
        self.outgoing[to.index()].as_ref().map_or(0, Outgoing::staged_bytes)
    }

    /// True if mail waits outside the rings.
    #[must_use]
    pub fn has_staged(&self) -> bool {
        self.outgoing.iter().flatten().any(|outgoing| outgoing.staged_bytes() > 0)
    }

    /// True if any ring holds something for this shard.
    #[must_use]
    pub fn has_mail(&self) -> bool {
        self.incoming.iter().flatten().any(Incoming::has_mail)
    }

    #[must_use]
    pub fn has_mail_from(&self, from: ShardId) -> bool {
        let incoming = self.incoming.get(from.index()).and_then(Option::as_ref);
        incoming.is_some_and(Incoming::has_mail)
    }

    /// Takes what has come from `from`, up to a bound. `None` if nothing has.
    pub fn drain(&mut self, from: ShardId) -> Option<Batch> {
        let incoming = self.incoming[from.index()].as_mut()?;
        if !incoming.has_mail() {
            return None;
        }
        // What was left over is worked on first.
        let room = if incoming.has_rest { 0 } else { DRAIN_BYTES_MAX };
        let count = incoming.ring.slots().min(room);
        let mut bytes = std::mem::take(&mut incoming.cut);
        let chunk = incoming.ring.read_chunk(count).expect("as many were there, and only we take");
        let (first, second) = chunk.as_slices();
        bytes.extend_from_slice(first);
        bytes.extend_from_slice(second);
        chunk.commit_all();
        Some(Batch { from, bytes, start: 0, handled: 0 })
    }

    /// The refcounted payload that the record at hand announces.
    pub fn take_parcel(&mut self, from: ShardId) -> Option<Bytes> {
        mark!(MailParcel);
        self.incoming[from.index()].as_mut()?.parcels.pop().ok()
    }

    /// Ends a batch; a record still cut waits for its rest, and those that were not asked for wait for the
    /// next batch.
    pub fn finish(&mut self, batch: Batch) {
        let Some(incoming) = self.incoming[batch.from.index()].as_mut() else { return };
        incoming.has_rest = batch.record().is_some();
        let mut bytes = batch.bytes;
        bytes.drain(..batch.start);
        mark!(MailCut if !bytes.is_empty() && !incoming.has_rest);
        // A rare large record must not pin its memory to an idle ring.
        if bytes.is_empty() && bytes.capacity() > 2 * DRAIN_BYTES_MAX {
            bytes = Vec::new();
        }
        incoming.cut = bytes;
        incoming.handled += batch.handled;
    }

    /// Records ever posted to `to`. Against [`Mailboxes::handled`] of the other side it says whether
    /// all mail up to some moment has been worked on.
    #[must_use]
    pub fn posted(&self, to: ShardId) -> u64 {
        self.outgoing[to.index()].as_ref().map_or(0, |outgoing| outgoing.posted)
    }

    /// Records from `from` that were worked on, batches at hand not included.
    #[must_use]
    pub fn handled(&self, from: ShardId) -> u64 {
        self.incoming[from.index()].as_ref().map_or(0, |incoming| incoming.handled)
    }

    /// The other shards.
    pub fn others(&self) -> impl Iterator<Item = ShardId> + use<> {
        let own = self.own;
        let count = u8::try_from(self.outgoing.len()).unwrap_or(u8::MAX);
        (0..count).map(ShardId).filter(move |&id| id != own)
    }

    fn outgoing_mut(&mut self, to: ShardId) -> &mut Outgoing {
        self.outgoing[to.index()].as_mut().expect("no shard writes to itself")
    }
}

impl Incoming {
    fn has_mail(&self) -> bool {
        self.has_rest || !self.ring.is_empty()
    }
}

impl Outgoing {
    fn staged_bytes(&self) -> usize {
        self.staged.len() - self.staged_start
    }

    fn flush(&mut self) -> bool {
        // A payload must be in its ring before the bytes that announce it, or its reader would find none.
        while let Some((position, parcel)) = self.staged_parcels.pop_front() {
            if let Err(rtrb::PushError::Full(parcel)) = self.parcels.push(parcel) {
                self.staged_parcels.push_front((position, parcel));
                break;
            }
        }
        let end = match self.staged_parcels.front() {
            Some(&(position, _)) => {
                let ahead = usize::try_from(position - self.position).unwrap_or(usize::MAX);
                self.staged_start.saturating_add(ahead).min(self.staged.len())
            }
            None => self.staged.len(),
        };
        let (pushed, _) = self.ring.push_partial_slice(&self.staged[self.staged_start..end]);
        let pushed = pushed.len();
        mark!(RingFull if self.staged_start + pushed < end);
        self.staged_start += pushed;
        self.position += pushed as u64;
        if self.staged_start == self.staged.len() {
            self.staged.clear();
            self.staged_start = 0;
            // What congestion left behind.
            if self.staged.capacity() > STAGED_BYTES_SPARE {
                self.staged = Vec::new();
            }
        } else if self.staged_start > self.staged.len() / 2 {
            self.staged.drain(..self.staged_start);
            self.staged_start = 0;
        }
        pushed > 0
    }
}

impl Batch {
    /// Records of this batch that were taken.
    #[must_use]
    pub fn handled(&self) -> u64 {
        self.handled
    }

    /// The next whole record.
    pub fn next_record(&mut self) -> Option<&[u8]> {
        let length = self.record()?.len();
        let start = self.start + LENGTH_BYTES;
        self.start = start + length;
        self.handled += 1;
        self.bytes.get(start..self.start)
    }

    /// The next record, if it is whole; it is the next one still.
    #[must_use]
    pub fn record(&self) -> Option<&[u8]> {
        let rest = self.bytes.get(self.start..)?;
        let (length, rest) = rest.split_first_chunk::<LENGTH_BYTES>()?;
        let length = usize::try_from(u32::from_le_bytes(*length)).ok()?;
        rest.get(..length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: ShardId = ShardId(0);
    const B: ShardId = ShardId(1);

    fn pair(ring_bytes: usize) -> (Mailboxes, Mailboxes) {
        let mut all = mesh(2, ring_bytes);
        let b = all.pop().expect("two were asked for");
        (all.pop().expect("two were asked for"), b)
    }

    fn drain_all(to: &mut Mailboxes, from: ShardId) -> Vec<(Vec<u8>, Option<Bytes>)> {
        let mut records = Vec::new();
        while let Some(mut batch) = to.drain(from) {
            while let Some(record) = batch.next_record() {
                let record = record.to_vec();
                let parcel = (record[0] == b'P').then(|| to.take_parcel(from)).flatten();
                records.push((record, parcel));
            }
            to.finish(batch);
        }
        records
    }

    #[test]
    fn records_arrive_whole_and_in_order_through_a_tiny_ring() {
        let (mut a, mut b) = pair(16);
        for n in 0..100u8 {
            a.post(B, None, |out| out.extend(std::iter::repeat_n(n, usize::from(n) + 1)));
        }
        let mut got = Vec::new();
        while a.has_staged() {
            assert!(a.flush(B) || b.has_mail(), "neither side can move");
            got.extend(drain_all(&mut b, A));
        }
        assert_eq!(got.len(), 100);
        for (n, (record, _)) in (0..100u8).zip(&got) {
            assert_eq!(record, &vec![n; usize::from(n) + 1]);
        }
        assert_eq!((a.posted(B), b.handled(A)), (100, 100));
        assert!(!b.has_mail());
    }

    #[test]
    fn what_a_batch_leaves_comes_with_the_next_one() {
        let (mut a, mut b) = pair(1024);
        for n in 0..10u8 {
            a.post(B, None, |out| out.extend_from_slice(&[n; 3]));
        }
        assert!(a.flush(B));
        for n in 0..10u8 {
            assert!(b.has_mail() && b.has_mail_from(A));
            let mut batch = b.drain(A).expect("there is some");
            assert_eq!(batch.next_record(), Some(&[n; 3][..]));
            b.finish(batch);
            assert_eq!(b.handled(A), u64::from(n) + 1);
            if n == 4 {
                a.post(B, None, |out| out.push(99));
                a.flush(B);
            }
        }
        assert_eq!(drain_all(&mut b, A).len(), 1);
        assert!(!b.has_mail() && b.drain(A).is_none());
    }

    #[test]
    fn a_parcel_is_there_when_its_record_is_read() {
        let (mut a, mut b) = pair(8);
        for n in 0..50u8 {
            a.post(B, Some(Bytes::from(vec![n; 10])), |out| out.extend_from_slice(&[b'P', n]));
            a.post(B, None, |out| out.extend_from_slice(&[b'-', n]));
        }
        let mut got = Vec::new();
        while a.has_staged() {
            a.flush(B);
            got.extend(drain_all(&mut b, A));
        }
        let parcels: Vec<_> = got.iter().filter_map(|(_, p)| p.clone()).collect();
        assert_eq!(parcels.len(), 50);
        assert!((0..50u8).zip(&parcels).all(|(n, parcel)| parcel[..] == vec![n; 10][..]));
    }

    #[test]
    fn congestion_shows_and_goes() {
        let (mut a, mut b) = pair(64);
        while !a.is_congested(B) {
            a.post(B, None, |out| out.extend_from_slice(&[0; 20]));
            a.flush(B);
        }
        drain_all(&mut b, A);
        a.flush(B);
        assert!(!a.is_congested(B));
    }
}
