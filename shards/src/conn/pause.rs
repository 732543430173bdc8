//! Why a connection's packets are not worked on. Every reason is named and counted.

/// A reason to wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum PauseReason {
    /// Whether the client may come in is being asked.
    Authenticating = 0,
    /// A SUBSCRIBE is on its way to all shards; its SUBACK comes before anything else.
    Subscribing = 1,
    /// The ring to a shard that the client publishes to is full.
    MailboxFull = 2,
    /// The client does not read what it is owed.
    OutputFull = 3,
    /// Acknowledgements wait for answers from other shards or from the store.
    AcksPending = 4,
    /// It has had its share of the turn: the others come first. Ends with the next turn.
    TurnSpent = 5,
    /// Its client has published as much as it may in this time.
    RateLimited = 6,
}

impl PauseReason {
    pub const ALL: [Self; 7] = [
        Self::Authenticating,
        Self::Subscribing,
        Self::MailboxFull,
        Self::OutputFull,
        Self::AcksPending,
        Self::TurnSpent,
        Self::RateLimited,
    ];

    /// As it stands in counters and logs.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Authenticating => "authenticating",
            Self::Subscribing => "subscribing",
            Self::MailboxFull => "mailbox-full",
            Self::OutputFull => "output-full",
            Self::AcksPending => "acks-pending",
            Self::TurnSpent => "turn-spent",
            Self::RateLimited => "rate-limited",
        }
    }
}

/// The reasons that hold for one connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pauses(u8);

impl Pauses {
    /// True if the reason is new.
    pub fn add(&mut self, reason: PauseReason) -> bool {
        let before = self.0;
        self.0 |= 1 << reason as u8;
        self.0 != before
    }

    /// True if the reason held.
    pub fn remove(&mut self, reason: PauseReason) -> bool {
        let before = self.0;
        self.0 &= !(1 << reason as u8);
        self.0 != before
    }

    #[must_use]
    pub fn any(self) -> bool {
        self.0 != 0
    }

    /// True if it holds and no other does.
    #[must_use]
    pub fn is_only(self, reason: PauseReason) -> bool {
        self.0 == 1 << reason as u8
    }

    #[must_use]
    pub fn has(self, reason: PauseReason) -> bool {
        self.0 & (1 << reason as u8) != 0
    }
}
