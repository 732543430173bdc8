//! A publisher's outstanding messages: a sliding window over its sequence numbers.

/// Lives with its publisher. A message is outstanding until all that was expected of it has come:
/// deliveries, acknowledgements, or both. The window slides with the oldest of them.
#[derive(Debug)]
pub(crate) struct Window {
    /// Oldest outstanding sequence number.
    base: u64,
    /// Sequence number of the next message.
    next: u64,
    /// What is still expected, by sequence number modulo the length (a power of two).
    expected: Vec<u32>,
    max: u64,
}

impl Window {
    pub(crate) fn new(max: u32) -> Self {
        Self::starting_at(0, max)
    }

    /// Its first message has this sequence number.
    pub(crate) fn starting_at(sequence: u64, max: u32) -> Self {
        let slots = max.max(1).next_power_of_two() as usize;
        Self {
            base: sequence,
            next: sequence,
            expected: vec![0; slots],
            max: u64::from(max.max(1)),
        }
    }

    /// How many messages may be sent now.
    pub(crate) fn room(&self) -> u64 {
        self.max - (self.next - self.base)
    }

    /// Makes the window smaller, as a broker may ask; larger than its slots it cannot be.
    pub(crate) fn limit(&mut self, max: u32) {
        self.max = self.max.min(u64::from(max.max(1)));
    }

    /// Counts one more message as outstanding. There must be room.
    pub(crate) fn open(&mut self, expected: u32) {
        debug_assert!(self.room() > 0);
        let slot = self.slot(self.next);
        self.expected[slot] = expected;
        self.next += 1;
    }

    /// One thing expected of `sequence` has come. True if there is more room now.
    pub(crate) fn complete(&mut self, sequence: u64) -> bool {
        if sequence < self.base || sequence >= self.next {
            return false;
        }
        let slot = self.slot(sequence);
        self.expected[slot] = self.expected[slot].saturating_sub(1);
        let before = self.base;
        while self.base < self.next && self.expected[self.slot(self.base)] == 0 {
            self.base += 1;
        }
        self.base > before
    }

    /// The outstanding message whose number is `remainder` modulo `modulus`, if there is one.
    pub(crate) fn find(&self, remainder: u64, modulus: u64) -> Option<u64> {
        let ahead = (remainder + modulus - self.base % modulus) % modulus;
        let sequence = self.base + ahead;
        (sequence < self.next).then_some(sequence)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.base == self.next
    }

    fn slot(&self, sequence: u64) -> usize {
        // The mask is below the vector's length.
        let mask = self.expected.len() as u64 - 1;
        usize::try_from(sequence & mask).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slides_with_the_oldest() {
        let mut window = Window::new(3);
        for _ in 0..3 {
            window.open(2);
        }
        assert_eq!(window.room(), 0);
        assert!(!window.complete(1));
        assert!(!window.complete(1));
        assert!(!window.complete(0));
        assert_eq!(window.room(), 0);
        assert!(window.complete(0));
        assert_eq!(window.room(), 2);
        assert!(!window.complete(0), "it is no longer outstanding");
        assert!(!window.complete(3), "it is not outstanding yet");
    }

    #[test]
    fn packet_identifiers_find_their_message_across_the_wrap() {
        let mut window = Window::new(10);
        for sequence in 0..65_540_u64 {
            window.open(1);
            assert_eq!(window.find(sequence % 65_535, 65_535), Some(sequence));
            assert!(window.complete(sequence));
        }
        assert!(window.is_empty());
        assert_eq!(window.find(7, 65_535), None);
    }
}
