//! End to end: a real broker process, real sockets on the loopback interface, clients of our own
//! and foreign ones, on one, two and eight shards.
//!
//! Scenarios wait for events with a generous deadline; none of them sleeps or tries again. That
//! something does *not* arrive is shown by a later message on the same path that does.
//!
//! `MURING_E2E_BROKER=mosquitto` runs them against mosquitto, to check the scenarios themselves.
//! `MURING_E2E_SLOW=1` runs the long ones in full. With `CI=true` they are, and a client that is not
//! installed is a failure; elsewhere it is said and its scenarios pass. `.ci/run` installs them all.

mod clients;
mod connect;
#[expect(dead_code, reason = "some of it is for the tests in tests/normative")]
mod harness;
mod hostile;
mod load;
mod malformed;
mod operate;
mod passwd;
mod properties;
mod publish;
mod retained;
mod routing;
mod security;
mod sessions;
mod subscriptions;
mod syscalls;
mod wills;
