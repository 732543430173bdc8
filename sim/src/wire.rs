//! What lies between a model client and a shard: a byte stream each way, as the shell
//! would hold it.

use shards::ids::ConnId;
use shards::shard::{Output, Reading};

use crate::trace::Reader;

/// One network connection. Its position in the world's list is its `Origin::handle`.
#[derive(Debug, Default)]
pub struct Wire {
    /// Shard and number, unless it is being handed over or gone.
    pub place: Option<(usize, ConnId)>,
    /// What the client wrote and no shard has read.
    pub upward: Vec<u8>,
    pub reading: Option<Reading>,
    /// A receive was under way when reading paused: one more may bring bytes.
    pub has_late_bytes: bool,
    /// What `take_output` gave and the client has not taken, or only `taken_bytes` of it.
    pub sending: Option<Output>,
    /// The shard has something to send, and the shell has not asked for it yet.
    pub is_listed: bool,
    pub taken_bytes: usize,
    /// The same in one piece, once the client has taken some of it.
    pub downward: Vec<u8>,
    /// The core asked for `Closing::Finish`.
    pub is_finishing: bool,
    /// Everything was sent and our side has ended.
    pub is_finished: bool,
    /// The core asked for `Closing::Abort`.
    pub is_aborted: bool,
    /// The client has ended its side.
    pub is_client_gone: bool,
    /// The connection is broken: nothing is carried any more, and whoever uses it is told.
    pub is_broken: bool,
    /// The client's machine is gone: nothing is carried any more, and nobody is told.
    pub is_silent: bool,
    /// The client reads a few bytes at a time.
    pub is_slow: bool,
    /// The client does not read.
    pub is_stalled: bool,
    /// The client does not close when the broker has.
    pub is_lingering: bool,
    /// `Input::Closed` was given.
    pub is_closed: bool,
    /// Whose it is.
    pub client: usize,
    /// Cut what goes up and down into packets, for a trace that is printed.
    pub readers: (Reader, Reader),
}

impl Wire {
    /// True if a receive would bring bytes.
    pub fn has_bytes(&self) -> bool {
        self.place.is_some() && !self.upward.is_empty() && self.has_receive()
    }

    pub fn is_reading(&self) -> bool {
        matches!(self.reading, Some(Reading::Once | Reading::Stream))
    }

    /// True if a receive would bring the end of the stream.
    pub fn has_ended(&self) -> bool {
        self.place.is_some()
            && self.is_client_gone
            && self.upward.is_empty()
            && !self.is_broken
            && !self.is_silent
            && !self.is_aborted
            && (self.is_finishing || self.is_reading())
    }

    /// True if a receive or a send would be told that the connection is broken.
    pub fn has_failed(&self) -> bool {
        self.place.is_some()
            && self.is_broken
            && !self.is_aborted
            && (self.sending.is_some()
                || self.upward.is_empty() && (self.is_finishing || self.is_reading()))
    }

    /// True if the client would take what is being sent, or is gone in a way that hides that it
    /// does not.
    pub fn can_drain(&self) -> bool {
        self.sending.is_some()
            && !self.is_stalled
            && !self.is_silent
            && !self.is_broken
            && !self.is_aborted
            && self.place.is_some()
    }

    /// The client's side says and hears nothing any more.
    pub fn is_dead(&self) -> bool {
        self.is_broken || self.is_silent
    }

    fn has_receive(&self) -> bool {
        !self.is_aborted && (self.is_finishing || self.is_reading() || self.has_late_bytes)
    }
}

/// The bytes of an output in the order in which they go out.
pub fn flatten(output: &Output) -> Vec<u8> {
    let mut all = Vec::with_capacity(output.len());
    let mut from = 0;
    for (at, payload) in output.splices.iter() {
        all.extend_from_slice(&output.bytes[from..*at]);
        all.extend_from_slice(payload);
        from = *at;
    }
    all.extend_from_slice(&output.bytes[from..]);
    all
}
