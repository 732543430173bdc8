//! The load generator as it is used: tiny runs against a broker and both floors, deliberate mistakes
//! that it must notice, and targets that do not behave.
//!
//! The machine may be busy: nothing here depends on speed, and each run ends by itself.

#![expect(clippy::unwrap_used, reason = "in a test, a panic is the report")]

mod agreement;
mod bad_input;
mod comparisons;
mod faults;
mod harness;
mod scenarios;
