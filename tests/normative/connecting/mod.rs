//! Form of packets, CONNECT, CONNACK, subscriptions and pings: sections 1, 2, 3.1, 3.2 and 3.8 to 3.13.

mod connack;
mod connect_form;
mod connect_limits;
mod connect_session;
mod connect_will;
mod data;
mod packets;
mod raw;
mod subscribe;
mod unsubscribe;
