//! The shell of muring.
#![deny(unsafe_code)]

pub mod reactor;
