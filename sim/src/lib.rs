//! Whole shards against model clients: any number of shards on one thread, in virtual time, with
//! steps in turn or drawn from a seed.

pub mod batch;
pub mod client;
pub mod crash;
pub mod crowd;
pub mod drive;
pub mod faults;
pub mod marathon;
pub mod oracle;
#[cfg(feature = "planted")]
pub mod planted;
pub mod play;
pub mod rules;
pub mod shrink;
pub mod store;
pub mod swarm;
pub mod trace;
pub mod wire;
pub mod world;
