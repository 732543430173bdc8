//! PUBLISH and its acknowledgements, DISCONNECT, AUTH and behaviour: sections 3.3 to 3.7, 3.14, 3.15, 4,
//! 6 and 7.

mod acks;
mod auth;
mod ending;
mod flow;
mod order;
mod properties;
mod publish;
mod qos;
mod retained;
mod shared;
mod steps;
mod topics;
mod transport;
