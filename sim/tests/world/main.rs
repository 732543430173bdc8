//! Directed scenarios: each states one promise, on one, two, three and eight shards.

mod abuse;
mod auth;
mod delivery;
mod edges;
mod fairness;
mod flow;
mod flux;
mod garbage;
mod listeners;
mod mounts;
mod pressure;
mod protocol;
mod random;
mod rates;
mod retained;
mod rights;
mod runs;
mod sessions;
mod share;
mod stop;
mod wills;
