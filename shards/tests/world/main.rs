//! Whole shards against model clients: any number of shards on one thread, in virtual time, with
//! steps in turn or drawn from a seed.

mod abuse;
mod client;
mod delivery;
mod drive;
mod edges;
mod flow;
mod flux;
mod garbage;
mod oracle;
mod pressure;
mod protocol;
mod random;
mod retained;
mod rules;
mod sessions;
mod share;
mod stop;
mod wills;
mod wire;
mod world;
