//! What stands between a socket and the core: transports (PROXY protocol, TLS, WebSocket), credentials and
//! permissions.
//!
//! Like the core, nothing here does I/O, reads a clock or starts a thread: bytes and times come in, bytes
//! and verdicts go out. The shell (`muring`) owns the sockets, files and threads.
#![forbid(unsafe_code)]

pub mod acl;
pub mod admission;
mod filters;
pub mod jwt;
pub mod passwd;
pub mod rights;
pub mod scram;
pub mod text;
pub mod transport;
