//! Names for rare branches of the core, so that the simulator can say which of them its worlds never
//! came to. Only with the feature `marks`; without it [`mark!`](crate::mark) does nothing.
//!
//! Counted on the thread that comes by: a world lives on one thread. A mark costs an increment and
//! allocates nothing.

#[cfg(feature = "marks")]
use std::cell::Cell;

macro_rules! marks {
    ($($(#[doc = $doc:literal])+ $name:ident,)*) => {
        /// A branch that is rarely taken.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Mark { $($(#[doc = $doc])+ $name,)* }

        impl Mark {
            /// All, in the order of their numbers.
            pub const ALL: &[Self] = &[$(Self::$name,)*];
        }
    };
}

marks! {
    /// A ring took only a part of what was staged for it.
    RingFull,
    /// Mail was posted behind other mail that its ring had not taken.
    MailBehindStaged,
    /// A batch ended in the middle of a record.
    MailCut,
    /// A batch ended before its end, as its filters were as much work as a turn may be.
    MailLeft,
    /// Mail waited for the index, as a topic takes a longer walk than a turn may.
    MailWaited,
    /// A payload travelled beside its record.
    MailParcel,
    /// Packets of one topic went to everybody at once.
    RunForwarded,
    /// Packets of one topic went one by one: somebody gets them in another form, or only some.
    RunSplit,
    /// Packets of one topic went to another shard as one record.
    RunPosted,
    /// There they went one by one.
    RunMailSplit,
    /// A publisher was paused because a ring was full.
    PublisherCongested,
    /// A connection that waited for a ring went on.
    CongestionOver,
    /// A QoS 1 or 2 message waited because the window was full.
    WindowFull,
    /// A QoS 1 or 2 message waited because the output was full.
    OutputFullQueued,
    /// A QoS 1 or 2 message waited behind others that did.
    QueuedBehindOthers,
    /// A QoS 0 message was dropped because the output was full.
    OutputFullDropped,
    /// A QoS 0 message waited behind others of its kind.
    Qos0BehindQueue,
    /// A QoS 0 message was dropped because its client went away.
    Qos0DroppedOffline,
    /// So many bytes were in flight that the next message had to wait.
    InflightBytesFull,
    /// A live message waited behind retained ones.
    LiveHeld,
    /// A full queue made room for a new message.
    QueueDropOldest,
    /// A full queue took no new message.
    QueueDropNewest,
    /// A full queue had its publisher told.
    QueueRefused,
    /// A full queue ended its client's connection.
    QueueDisconnected,
    /// A queue was full in bytes before it was in messages.
    QueueBytesFull,
    /// A message was handed to the store.
    StoreAsked,
    /// A message was larger than its client takes.
    TooLarge,
    /// A message expired while it waited.
    ExpiredQueued,
    /// A message was repeated on a new connection.
    Resent,
    /// A message that was to be repeated waited for the window.
    ResendWindowFull,
    /// A message that was to be repeated was acknowledged first.
    ResendOvertaken,
    /// PUBREL was repeated on a new connection.
    PubrelResent,
    /// An identifier was skipped because it was in use.
    IdentifierSkipped,
    /// Ended exchanges were swept out from among open ones.
    InflightCompacted,
    /// An alias towards a client was used again.
    AliasOutKnown,
    /// No alias towards a client was left.
    AliasOutFull,
    /// A client used its alias without the topic.
    AliasInKnown,
    /// A client gave its alias another topic.
    AliasInMoved,
    /// A connection was handed over with more than its CONNECT.
    HandOverWithBytes,
    /// A connection was handed over with so many bytes that they travelled beside the record.
    HandOverParcel,
    /// A CONNECT came in pieces.
    ConnectCut,
    /// A large packet came in pieces and is shared from then on.
    WholeShared,
    /// A connection was taken over while its SUBSCRIBE was on its way.
    TakeOverSubscribing,
    /// A connection was taken over while it was owed acknowledgements.
    TakeOverOwingAcks,
    /// A connection was taken over while it was being sent retained messages.
    TakeOverStreaming,
    /// A clean start ended a session that was connected.
    TakeOverClean,
    /// A will was published at a take-over.
    WillAtTakeOver,
    /// A will with a delay was dropped at a take-over.
    WillDroppedAtTakeOver,
    /// A new connection came before the will was due.
    WillDelayCancelled,
    /// A will was published when its delay was over.
    WillAfterDelay,
    /// A will was published because its session ended.
    WillAtSessionEnd,
    /// A session's time ran out.
    SessionExpired,
    /// No CONNECT came in time.
    ConnectTimeout,
    /// A client was silent for too long.
    KeepAliveTimeout,
    /// A client was heard between two looks at its keep alive.
    KeepAliveProlonged,
    /// A finished connection was not closed by its client in time.
    LingerAbort,
    /// Bytes came to a connection that was paused.
    ReceivedPaused,
    /// A packet's filters were more than a turn takes.
    FiltersCut,
    /// A message looked at much of the index, or reached very many.
    WorkCharged,
    /// Somebody with little to say came in while others had had their share.
    Contended,
    /// Mail with little for this shard's clients came while others had had their share.
    ContendedByMail,
    /// A connection had its share of a turn.
    TurnSpent,
    /// A connection that sends much went on in a later turn, as others had done enough in this one.
    MeteredWaited,
    /// The same with bytes that had just come.
    ReceivedWaited,
    /// A message waited for the index, as its topic takes a longer walk than a turn may.
    WalkInPieces,
    /// A session that is gone stood in the index in more places than a turn takes.
    VacatedInPieces,
    /// A connection was taken over when what the older one had sent was worked on.
    TakeOverBehind,
    /// A client that did not read was not listened to.
    OutputFullPaused,
    /// It read again and was listened to.
    OutputFullOver,
    /// So many acknowledgements were owed that nothing more was taken.
    AcksHeld,
    /// An acknowledgement waited behind an older one.
    AckBehindOwed,
    /// A QoS 1 message lost its publisher's connection before its outcome was known.
    OutcomeForNobody,
    /// A QoS 2 message lost its publisher's connection before its outcome was known.
    Unsettled,
    /// It was repeated before its outcome was known.
    UnsettledTakenUp,
    /// Its outcome came before it was repeated.
    UnsettledSettled,
    /// Its session ended first.
    UnsettledForgotten,
    /// A repeated QoS 2 message was not delivered again.
    DuplicateSuppressed,
    /// A repeated QoS 2 message was owed its acknowledgement already.
    DuplicateStillOwed,
    /// An answer to a barrier came for a SUBSCRIBE that nobody waits for.
    BarrierForNobody,
    /// A retained message was not sent because a live one was newer.
    RetainedOvertaken,
    /// A retained message was not sent because its subscriber gets it as a live one, from a third shard.
    RetainedIsLive,
    /// Retained messages went on in the next turn.
    RetainedYielded,
    /// Retained messages came in more than one slice.
    RetainedSliced,
    /// A question for retained messages waited for mail or room.
    AskDeferred,
    /// An answer of retained messages came for nobody.
    RetainedForNobody,
    /// A subscription went while its retained messages were on their way.
    RetainedForgotten,
    /// A retained message expired.
    RetainedExpired,
    /// A retained message found no room.
    RetainedRefused,
    /// A message expired before it could go to another member of a shared subscription.
    ExpiredRedelivered,
    /// A delivery of a shared subscription went to another member.
    ShareRedelivered,
    /// The member that a message was meant for had gone: a group was picked from again.
    SharePickedAgain,
    /// A shared subscription had no member when one was picked.
    ShareEmpty,
    /// A message was not delivered because its receiver may not have its topic.
    DeliveryDenied,
    /// The same for a retained message.
    RetainedDenied,
    /// A member of a shared subscription may not receive what it was picked for.
    ShareMemberDenied,
    /// No member on a shard may: another shard is asked.
    SharePassedOn,
    /// No member on any shard may.
    ShareDenied,
    /// A will may not be published any more.
    WillDenied,
    /// A challenge of enhanced authentication was sent.
    ChallengeSent,
    /// The answer to a challenge took its time to look at.
    ExchangeLater,
    /// A CONNECT that was kept during its exchange waited for an older connection.
    KeptConnectWaits,
    /// A client began to authenticate again.
    ReauthBegun,
    /// It was granted anew.
    ReauthDone,
    /// It was not.
    ReauthDenied,
    /// A connection ended while whether it may come in, or stay, was being asked.
    CheckForgotten,
    /// The time that a connection was granted was over.
    GrantEnded,
    /// A client came with another user name than that of the session under its client identifier.
    SessionOfAnother,
    /// New rules were not through with all sessions in one turn.
    RecheckGoesOn,
    /// New rules ended a connection.
    RulesEndedConn,
    /// New rules ended a subscription.
    RulesEndedSubscription,
    /// New rules changed whether a subscription's deliveries are asked for.
    RulesChangedSubscription,
    /// A message from another shard was sent on to a third one, or back.
    FanInPosted,
    /// An acknowledgement came that nobody waited for.
    AckUnknown,
    /// PUBREC came again.
    PubrecAgain,
    /// PUBREC ended an exchange with an error.
    PubrecError,
    /// PUBREL came for a message that is not known.
    PubrelUnknown,
    /// A connection came to a shard that was stopping.
    OpenedStopping,
    /// The last other shard had nothing more to say, and everybody was told.
    FencePassed,
    /// The store did not keep an operation.
    StoreFailed,
    /// A session was stored as a whole because the store had failed, before the next operation.
    StoredAnew,
    /// The same, at its next connection.
    StoredAnewAtBind,
    /// What the store may still have of a session was ended because the store had failed.
    StoreEndedUnsure,
    /// A connection ended because what its client would have been told was not stored.
    FenceFailed,
    /// Output that had waited for the store went out.
    FenceLiftedLate,
    /// The store answered for a connection that was gone.
    FenceForNobody,
    /// Output that waited for the store was dropped with its connection.
    FencedDropped,
    /// A 3.x publisher lost its connection because its message was not stored.
    UnstoredEnded,
    /// Back from the store, an exchange of QoS 1 had no message any more.
    RestoredWithoutMessage,
    /// Back from the store, a message was there that its client had released.
    RestoredReleased,
    /// Back from the store, a session had lost its connection with the process.
    RestoredLeft,
    /// Back from the store, a session's time was over.
    RestoredExpired,
    /// Back from the store, a message was meant for a shared subscription.
    RestoredShared,
    /// A connection was refused because its listener had as many as it may.
    ListenerFull,
    /// A CONNECT was refused for its version, by its listener.
    ListenerVersionRefused,
    /// A client below a mount point was not given a retained message that its wildcard does not match.
    RetainedHidden,
    /// A subscription below a mount point begins with a wildcard.
    WildcardGuarded,
    /// A client published faster than it may, and had to wait.
    RateLimited,
    /// So did a packet that had come in pieces.
    RateLimitedWhole,
    /// A client came to another mount point than that of its session.
    SessionOfAnotherMount,
}

/// Notes that this branch was taken.
#[macro_export]
macro_rules! mark {
    ($name:ident) => {
        $crate::marks::hit($crate::marks::Mark::$name)
    };
    ($name:ident if $condition:expr) => {
        if cfg!(feature = "marks") && $condition {
            $crate::marks::hit($crate::marks::Mark::$name);
        }
    };
}

#[cfg(feature = "marks")]
thread_local! {
    static COUNTS: [Cell<u64>; Mark::ALL.len()] =
        const { [const { Cell::new(0) }; Mark::ALL.len()] };
}

/// What [`mark!`](crate::mark) stands for.
#[inline(always)]
pub fn hit(mark: Mark) {
    #[cfg(feature = "marks")]
    COUNTS.with(|counts| {
        let count = &counts[mark as usize];
        count.set(count.get() + 1);
    });
    #[cfg(not(feature = "marks"))]
    let _ = mark;
}

/// How often each was hit on this thread so far, in the order of [`Mark::ALL`].
#[cfg(feature = "marks")]
#[must_use]
pub fn counts() -> Vec<u64> {
    COUNTS.with(|counts| counts.iter().map(Cell::get).collect())
}
