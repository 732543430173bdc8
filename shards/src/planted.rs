//! Bugs put in on purpose, to prove that the simulator finds their kind. Only with the feature
//! `planted`; without it `planted!` is `false` and nothing of this is compiled.
//!
//! At most one is in force at a time, on the thread that planted it: a world lives on one thread.

#[cfg(feature = "planted")]
use std::cell::Cell;

#[cfg(feature = "planted")]
macro_rules! bugs {
    ($($(#[doc = $doc:literal])+ $name:ident,)*) => {
        /// What can be planted.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Bug { $($(#[doc = $doc])+ $name,)* }

        impl Bug {
            /// All, in the order of the table.
            pub const ALL: &[Self] = &[$(Self::$name,)*];
        }
    };
}

#[cfg(feature = "planted")]
bugs! {
    /// Mail for a ring that is full is dropped, and the publisher acknowledged all the same.
    MailLost,
    /// SUBACK leaves before the other shards have answered.
    SubackEarly,
    /// The last subscriber of a shard goes and the others are not told.
    InterestKept,
    /// Identifiers begin anew with each connection, those in flight notwithstanding.
    IdentifierReused,
    /// One message more in flight than the client allows.
    WindowExceeded,
    /// What is repeated on a new connection goes out in the wrong order.
    ResentReversed,
    /// PUBREL is not repeated on a new connection.
    PubrelForgotten,
    /// A repeated QoS 2 PUBLISH is taken for a new one.
    DuplicateDelivered,
    /// Identifiers of QoS 2 messages that came in are lost by a take-over.
    InboundForgotten,
    /// Live messages do not wait for the retained ones of a new subscription.
    RetainedOvertaken,
    /// An empty payload does not clear the retained message.
    RetainedNotCleared,
    /// A retained message that is there is not replaced.
    RetainedNotReplaced,
    /// What was published since other shards know of a subscription comes as a retained message, too.
    LiveAsRetained,
    /// Retained messages come again for a subscription that asked for them only if it is new.
    RetainHandlingIgnored,
    /// RETAIN goes to subscribers as it was published, asked for or not.
    RetainFlagKept,
    /// The will is published after DISCONNECT with 0x00.
    WillOnDisconnect,
    /// A published will stays with its session and is published again.
    WillTwice,
    /// A new connection does not stop the clock of the older one's will.
    WillDelayKept,
    /// A session outlives its expiry interval.
    SessionExpiryIgnored,
    /// A session is created on the shard that accepted the connection.
    SessionOnWrongShard,
    /// A take-over leaves the older connection as it is.
    OldConnectionKept,
    /// Overlapping subscriptions get a copy each.
    OverlapTwice,
    /// A publisher gets its own message in spite of no-local.
    NoLocalIgnored,
    /// A session that ends leaves a subscription behind.
    SubscriptionLeft,
    /// A shared subscription's message goes to a member here and to one elsewhere.
    SharedTwice,
    /// What a member of a shared subscription leaves unacknowledged goes to nobody.
    SharedNotRedelivered,
    /// A queue takes one message more than it may.
    QueueExceeded,
    /// A message that found the queue full is dropped and not counted.
    DropUncounted,
    /// A message that expired in the queue is delivered.
    ExpiredDelivered,
    /// Queued messages of a session that ends are kept for ever.
    MessageLeaked,
    /// A session that came back from the store does not expire.
    ExpiryIgnoredAfterRestart,
    /// A message is acknowledged before the store has answered.
    AckBeforeStored,
    /// What waits for the store is sent before it has answered.
    FenceIgnored,
    /// The identifier of a QoS 2 message that came in is not stored.
    InboundNotStored,
    /// The identifier under which a QoS 2 message goes out is not stored.
    IdentifierNotStored,
    /// A QoS 2 message stays in the store when its client has it.
    ReleasedMessageKept,
    /// After a restart the other shards are not told of the subscriptions here.
    InterestNotRestored,
    /// Deliveries to a subscription that is wider than its permission are not asked for.
    WildcardUnchecked,
    /// The same for retained messages.
    RetainedUnchecked,
    /// New rules do not look at sessions without connection.
    OfflineNotRechecked,
    /// Retained messages go out with the mount point in front.
    MountKept,
    /// Who has published as much as it may never may again.
    TokensNotRefilled,
}

#[cfg(feature = "planted")]
thread_local! {
    static PLANTED: Cell<Option<Bug>> = const { Cell::new(None) };
}

/// Plants a bug on this thread, in place of the one before; `None` takes it out.
#[cfg(feature = "planted")]
pub fn plant(bug: Option<Bug>) {
    PLANTED.set(bug);
}

/// Whether this bug is in force on this thread.
#[cfg(feature = "planted")]
#[must_use]
pub fn is(bug: Bug) -> bool {
    PLANTED.get() == Some(bug)
}

/// True while the bug of this name is planted; `false` to the compiler without the feature.
#[cfg(feature = "planted")]
macro_rules! planted {
    ($bug:ident) => {
        $crate::planted::is($crate::planted::Bug::$bug)
    };
}

#[cfg(not(feature = "planted"))]
macro_rules! planted {
    ($bug:ident) => {
        false
    };
}

pub(crate) use planted;
