//! Sleeping and waking: who sleeps, who rings, and how long an idle shard watches before it sleeps.

use std::io;
use std::os::fd::BorrowedFd;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use shards::ids::ShardId;

use super::bell::Bell;
use super::orders::{Crossing, Order};
use super::sleeper::Sleeper;

/// What a shard does when there is nothing to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Idle {
    /// Watch memory for ever: lowest latency, one core fully used.
    Spin,
    /// Watch memory that long, then sleep. Zero sleeps at once.
    Park(Duration),
}

/// What other threads know of one shard. On cache lines of its own (128 bytes: neighbours are fetched
/// in pairs), so that going to sleep disturbs nobody.
#[derive(Debug)]
#[repr(align(128))]
struct Station {
    sleeper: Sleeper,
    /// Rung after mail, if the shard sleeps.
    doorbell: Bell,
    bell: Bell,
    orders: Sender<Order>,
    /// Until the shard's reactor takes it.
    hears: Mutex<Option<Receiver<Order>>>,
}

/// The places where the shards of one process sleep, and how they stop. Shared by all shards and the
/// main thread.
#[derive(Debug)]
pub struct Stations {
    stations: Vec<Station>,
    stopping: AtomicBool,
    stopped: AtomicUsize,
}

impl Stations {
    /// # Errors
    /// If the descriptors that wake the shards cannot be made.
    pub fn new(shards: u8) -> io::Result<Self> {
        let station = |_| {
            let (orders, hears) = channel();
            let hears = Mutex::new(Some(hears));
            let (sleeper, doorbell, bell) = (Sleeper::new(), Bell::new()?, Bell::new()?);
            Ok(Station { sleeper, doorbell, bell, orders, hears })
        };
        let stations = (0..shards).map(station).collect::<io::Result<_>>()?;
        Ok(Self { stations, stopping: AtomicBool::new(false), stopped: AtomicUsize::new(0) })
    }

    /// Asks all shards to stop.
    pub fn stop(&self) {
        self.stopping.store(true, Ordering::Release);
        self.wake_all();
    }

    /// Gives an order to a shard. Nothing happens if the shard has ended.
    pub fn order(&self, shard: ShardId, order: Order) {
        if let Some(station) = self.stations.get(shard.index()) {
            // Fails when the shard is gone, and its connections with it.
            let _ = station.orders.send(order);
            station.bell.ring();
        }
    }

    /// Sends layers after their connection. The mail about it wakes the shard.
    pub(super) fn cross(&self, shard: ShardId, crossing: Crossing) {
        if let Some(station) = self.stations.get(shard.index()) {
            // As above.
            let _ = station.orders.send(Order::Crossing(crossing));
        }
    }

    /// The shard's end of its orders, once.
    pub(crate) fn take_orders(&self, shard: ShardId) -> Option<Receiver<Order>> {
        let station = self.stations.get(shard.index())?;
        station.hears.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    pub(super) fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Acquire)
    }

    /// One shard has nothing left to do. When all have said so, all may leave: until then, each
    /// drains its mail so that nobody waits for room.
    pub(super) fn count_stopped(&self) {
        if self.stopped.fetch_add(1, Ordering::AcqRel) + 1 == self.stations.len() {
            self.wake_all();
        }
    }

    /// Lets all shards leave without waiting for each other: one of them cannot go on.
    pub(crate) fn abandon(&self) {
        self.stopped.store(self.stations.len(), Ordering::Release);
        self.wake_all();
    }

    pub(super) fn all_stopped(&self) -> bool {
        self.stopped.load(Ordering::Acquire) >= self.stations.len()
    }

    pub(super) fn shards(&self) -> u8 {
        u8::try_from(self.stations.len()).unwrap_or(u8::MAX)
    }

    pub(super) fn bell(&self, shard: ShardId) -> Option<BorrowedFd<'_>> {
        self.stations.get(shard.index()).map(|station| station.bell.fd())
    }

    pub(super) fn doorbell(&self, shard: ShardId) -> Option<BorrowedFd<'_>> {
        self.stations.get(shard.index()).map(|station| station.doorbell.fd())
    }

    /// See [`Sleeper::lie_down`].
    pub(super) fn lie_down(&self, shard: ShardId, has_mail: impl FnOnce() -> bool) -> bool {
        self.stations.get(shard.index()).is_some_and(|station| station.sleeper.lie_down(has_mail))
    }

    pub(super) fn get_up(&self, shard: ShardId) {
        if let Some(station) = self.stations.get(shard.index()) {
            station.sleeper.get_up();
        }
    }

    /// Wakes a shard that mail was posted to, if it sleeps and nobody else rings already.
    pub(super) fn knock(&self, shard: ShardId) {
        if let Some(station) = self.stations.get(shard.index())
            && station.sleeper.knock()
        {
            station.doorbell.ring();
        }
    }

    fn wake_all(&self) {
        for station in &self.stations {
            station.bell.ring();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_sleeper_is_rung_and_only_once() {
        let stations = Stations::new(2).unwrap();
        let target = ShardId(1);
        let rung = || {
            let mut count = [0; 8];
            let read = rustix::io::read(stations.doorbell(target).unwrap(), &mut count);
            read.map_or(0, |_| u64::from_ne_bytes(count))
        };
        stations.knock(target);
        assert_eq!(rung(), 0, "awake");
        assert!(stations.lie_down(target, || false));
        stations.knock(target);
        stations.knock(target);
        assert_eq!(rung(), 1, "somebody has rung already");
        assert!(!stations.lie_down(target, || true), "mail has come meanwhile");
        stations.get_up(target);
        stations.knock(target);
        assert_eq!(rung(), 0, "awake again");
        stations.knock(ShardId(9));
    }

    #[test]
    fn all_have_stopped_when_the_last_says_so() {
        let stations = Stations::new(2).unwrap();
        assert!(!stations.is_stopping());
        stations.stop();
        assert!(stations.is_stopping());
        stations.count_stopped();
        assert!(!stations.all_stopped());
        stations.count_stopped();
        assert!(stations.all_stopped());
    }
}
