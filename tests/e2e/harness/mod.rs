//! What the scenarios stand on: a broker process, a client of our own, foreign clients.

pub(crate) mod broker;
pub(crate) mod client;
pub(crate) mod tools;
pub(crate) mod wire;

/// One test per shard count for each scenario `fn(&Broker)`.
macro_rules! on_shards {
    ($($scenario:ident),* $(,)?) => {$(
        mod $scenario {
            use crate::harness::broker::Broker;

            #[test]
            fn shards_1() {
                super::$scenario(&Broker::start(1));
            }

            #[test]
            fn shards_2() {
                super::$scenario(&Broker::start(2));
            }

            #[test]
            fn shards_8() {
                super::$scenario(&Broker::start(8));
            }
        }
    )*};
}

pub(crate) use on_shards;
