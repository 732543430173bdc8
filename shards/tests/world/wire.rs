//! What lies between a model client and a shard: a byte stream each way, as the shell
//! would hold it.

use shards::ids::ConnId;
use shards::shard::{Output, Reading};

/// One network connection. Its position in the world's list is its `Origin::handle`.
#[derive(Debug, Default)]
pub(crate) struct Wire {
    /// Shard and number, unless it is being handed over or gone.
    pub(crate) place: Option<(usize, ConnId)>,
    /// What the client wrote and no shard has read.
    pub(crate) upward: Vec<u8>,
    pub(crate) reading: Option<Reading>,
    /// What `take_output` gave and the client has not taken.
    pub(crate) sending: Option<Output>,
    /// The core asked for `Closing::Finish`.
    pub(crate) is_finishing: bool,
    /// Everything was sent and our side has ended.
    pub(crate) is_finished: bool,
    /// The core asked for `Closing::Abort`.
    pub(crate) is_aborted: bool,
    /// The client has ended its side.
    pub(crate) is_client_gone: bool,
    /// The client does not read.
    pub(crate) is_stalled: bool,
    /// The client does not close when the broker has.
    pub(crate) is_lingering: bool,
    /// `Input::Closed` was given.
    pub(crate) is_closed: bool,
    /// Whose it is.
    pub(crate) client: usize,
}

impl Wire {
    /// True if a receive would bring bytes.
    pub(crate) fn has_bytes(&self) -> bool {
        self.place.is_some()
            && !self.upward.is_empty()
            && !self.is_aborted
            && (self.is_finishing || self.is_reading())
    }

    pub(crate) fn is_reading(&self) -> bool {
        matches!(self.reading, Some(Reading::Once | Reading::Stream))
    }

    /// True if a receive would bring the end of the stream.
    pub(crate) fn has_ended(&self) -> bool {
        self.place.is_some()
            && self.is_client_gone
            && self.upward.is_empty()
            && !self.is_aborted
            && (self.is_finishing || self.is_reading())
    }

    /// True if the client would take what is being sent.
    pub(crate) fn can_drain(&self) -> bool {
        self.sending.is_some() && !self.is_stalled && !self.is_aborted && self.place.is_some()
    }
}

/// The bytes of an output in the order in which they go out.
pub(crate) fn flatten(output: &Output) -> Vec<u8> {
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
