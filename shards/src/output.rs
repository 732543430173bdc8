//! Bytes on their way to a network connection.

use bytes::Bytes;

/// Bytes to send on a connection, in order. Most connections have `bytes` alone; large payloads are
/// spliced in by reference: `splices[i]` goes out when `bytes[..splices[i].0]` has gone out.
#[derive(Debug, Default)]
pub struct Output {
    pub bytes: Vec<u8>,
    pub splices: Splices,
    /// Something waits until this has been taken: tell of it at once, not only when something else
    /// happens.
    pub is_awaited: bool,
}

/// Payloads between bytes, each with how many bytes go before it. Nothing for those that never carry a
/// large payload.
#[derive(Debug, Default)]
#[expect(
    clippy::box_collection,
    reason = "each connection has one, and it is 8 bytes instead of 24"
)]
pub struct Splices(Option<Box<Vec<(usize, Bytes)>>>);

impl Splices {
    pub fn push(&mut self, splice: (usize, Bytes)) {
        self.0.get_or_insert_default().push(splice);
    }

    #[must_use]
    pub fn as_slice(&self) -> &[(usize, Bytes)] {
        self.0.as_deref().map_or(&[], Vec::as_slice)
    }

    pub fn iter(&self) -> std::slice::Iter<'_, (usize, Bytes)> {
        self.as_slice().iter()
    }

    #[must_use]
    pub fn len(&self) -> usize {
        self.as_slice().len()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.as_slice().is_empty()
    }
}

impl FromIterator<(usize, Bytes)> for Splices {
    fn from_iter<I: IntoIterator<Item = (usize, Bytes)>>(splices: I) -> Self {
        let mut all = Self::default();
        splices.into_iter().for_each(|splice| all.push(splice));
        all
    }
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
        self.splices = Splices::default();
        self.is_awaited = false;
    }
}
