//! Whole shards against model clients: any number of shards on one thread, in virtual time, with
//! steps in turn or drawn from a seed.

pub mod client;
pub mod drive;
pub mod oracle;
#[cfg(feature = "planted")]
pub mod planted;
pub mod play;
pub mod rules;
pub mod wire;
pub mod world;
