//! The core of muring: everything that is MQTT, and nothing that is not.
//!
//! A broker is `N` values of [`Shard`], each owned by one thread. A shard does no I/O, reads no
//! clock, starts no thread and draws no randomness but from its seed: it is a function of its inputs.
//! The shell (crate `muring`) feeds [`shard::Input`]s and carries out what [`shard::Outbox`] asks for.

#![forbid(unsafe_code)]

pub mod arena;
pub mod auth;
pub mod codec;
pub mod conn;
pub mod counters;
pub mod ids;
pub mod limits;
pub mod mail;
pub mod mailbox;
pub mod marks;
pub mod origin;
pub mod output;
pub mod planted;
pub mod reject;
pub mod rng;
pub mod session;
pub mod shard;
pub mod slots;
pub mod store;
pub mod time;
pub mod timers;
pub mod topic;

pub use shard::Shard;
