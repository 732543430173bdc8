//! The normative statements of MQTT 3.1.1 and 5.0, one test each, against a real broker process on the
//! loopback interface with two shards.
//!
//! A test's name begins with the number of its statement: `mqtt_5_3_1_2_24_...` is MQTT-3.1.2-24 of 5.0.
//! `statements.txt` lists all statements; `complete.rs` fails if one has no test. A doc comment that
//! begins with `Not seen from outside:` or `Not offered:` says why a test shows less than its statement
//! asks, and what it shows instead.
//!
//! That something does *not* happen is shown by something later on the same path that does. Only where
//! the standard sets a lower bound is time asserted on.

mod complete;
mod connecting;
#[expect(
    dead_code,
    unused_imports,
    unused_macros,
    reason = "shared with the scenarios in tests/e2e"
)]
#[path = "../e2e/harness/mod.rs"]
mod harness;
mod publishing;
mod support;
