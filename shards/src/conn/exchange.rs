//! Enhanced authentication (MQTT 5.0 section 4.12): how far a connection has come with it.

/// Whose turn it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Nobody's: the client is let in, or not asked yet.
    Rests,
    /// The client has been given a challenge.
    Client,
    /// The client's answer is being looked at.
    Server,
}

/// What a connection keeps whose CONNECT named a method.
#[derive(Debug)]
pub struct Exchange {
    /// All packets name the same.
    pub method: Box<str>,
    /// The client identifier that the exchange is about, given or made up.
    pub client_id: Box<str>,
    /// The CONNECT, from the first challenge until it is worked on.
    pub connect: Vec<u8>,
    pub step: Step,
}
