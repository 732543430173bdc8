//! Bytes on their way to a network connection.

use bytes::Bytes;

/// Bytes to send on a connection, in order. Most connections have `bytes` alone; large payloads are
/// spliced in by reference: `splices[i]` goes out when `bytes[..splices[i].0]` has gone out.
#[derive(Debug, Default)]
pub struct Output {
    pub bytes: Vec<u8>,
    pub splices: Vec<(usize, Bytes)>,
    /// Something waits until this has been taken: tell of it at once, not only when something else
    /// happens.
    pub is_awaited: bool,
}

impl Output {
    /// Bytes in all, splices included.
    #[must_use]
    pub fn len(&self) -> usize {
        self.bytes.len() + self.splices.iter().map(|(_, payload)| payload.len()).sum::<usize>()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty() && self.splices.is_empty()
    }

    pub fn clear(&mut self) {
        self.bytes.clear();
        self.splices.clear();
        self.is_awaited = false;
    }
}
