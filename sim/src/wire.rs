//! What lies between a model client and a shard: a byte stream each way, as the shell
//! would hold it.

use shards::ids::ConnId;
use shards::shard::{Output, Reading};

/// One network connection. Its position in the world's list is its `Origin::handle`.
#[derive(Debug, Default)]
pub struct Wire {
    /// Shard and number, unless it is being handed over or gone.
    pub place: Option<(usize, ConnId)>,
    /// What the client wrote and no shard has read.
    pub upward: Vec<u8>,
    pub reading: Option<Reading>,
    /// What `take_output` gave and the client has not taken.
    pub sending: Option<Output>,
    /// The core asked for `Closing::Finish`.
    pub is_finishing: bool,
    /// Everything was sent and our side has ended.
    pub is_finished: bool,
    /// The core asked for `Closing::Abort`.
    pub is_aborted: bool,
    /// The client has ended its side.
    pub is_client_gone: bool,
    /// The client does not read.
    pub is_stalled: bool,
    /// The client does not close when the broker has.
    pub is_lingering: bool,
    /// `Input::Closed` was given.
    pub is_closed: bool,
    /// Whose it is.
    pub client: usize,
}

impl Wire {
    /// True if a receive would bring bytes.
    pub fn has_bytes(&self) -> bool {
        self.place.is_some()
            && !self.upward.is_empty()
            && !self.is_aborted
            && (self.is_finishing || self.is_reading())
    }

    pub fn is_reading(&self) -> bool {
        matches!(self.reading, Some(Reading::Once | Reading::Stream))
    }

    /// True if a receive would bring the end of the stream.
    pub fn has_ended(&self) -> bool {
        self.place.is_some()
            && self.is_client_gone
            && self.upward.is_empty()
            && !self.is_aborted
            && (self.is_finishing || self.is_reading())
    }

    /// True if the client would take what is being sent.
    pub fn can_drain(&self) -> bool {
        self.sending.is_some() && !self.is_stalled && !self.is_aborted && self.place.is_some()
    }
}

/// The bytes of an output in the order in which they go out.
pub fn flatten(output: &Output) -> Vec<u8> {
    let mut all = Vec::with_capacity(output.len());
    let mut from = 0;
    for (at, payload) in &output.splices {
        all.extend_from_slice(&output.bytes[from..*at]);
        all.extend_from_slice(payload);
        from = *at;
    }
    all.extend_from_slice(&output.bytes[from..]);
    all
}
