//! Sleeping and doorbells in every order that the memory model allows.
//!
//! The file with the decisions is compiled into this test upon loom's atomics; only the rings and the
//! net ring are played. A lost wake-up is a sleep that nothing ends, which loom reports as a deadlock.
//! Each part of the argument is also left out once: then a wake-up must be lost.

use std::cell::Cell;
use std::sync::Arc;

use loom::sync::Notify;
use loom::sync::atomic::{AtomicUsize, Ordering};
use loom::thread;

use sleeper::Sleeper;

#[path = "../src/reactor/sleeper.rs"]
mod sleeper;

/// What the decisions stand upon: loom's atomics, and fences that a test may weaken.
mod sync {
    pub(super) use loom::sync::atomic::Ordering;

    /// Loom does not order a swap and another thread's plain store until one has seen the other. So it
    /// tries as well that the store comes between the swap and what the swap has read, which the memory
    /// model rules out. Here a store is a swap too, of the same strength: those are in order.
    #[derive(Debug)]
    pub(super) struct AtomicBool(loom::sync::atomic::AtomicBool);

    impl AtomicBool {
        pub(super) fn new(value: bool) -> Self {
            Self(loom::sync::atomic::AtomicBool::new(value))
        }

        pub(super) fn load(&self, order: Ordering) -> bool {
            self.0.load(order)
        }

        pub(super) fn store(&self, value: bool, order: Ordering) {
            self.0.swap(value, order);
        }

        pub(super) fn swap(&self, value: bool, order: Ordering) -> bool {
            self.0.swap(value, order)
        }
    }

    pub(super) fn fence(order: Ordering) {
        match super::FENCES.get() {
            super::Fences::AsWritten => loom::sync::atomic::fence(order),
            super::Fences::Weak => loom::sync::atomic::fence(Ordering::AcqRel),
            super::Fences::None => {}
        }
    }
}

#[derive(Clone, Copy, Debug)]
enum Fences {
    AsWritten,
    Weak,
    None,
}

thread_local! {
    /// Loom runs all threads of a model on the thread that asked for it.
    static FENCES: Cell<Fences> = const { Cell::new(Fences::AsWritten) };
}

/// When the shard looks at its mail for the last time before it sleeps.
#[derive(Clone, Copy, Debug)]
enum LastLook {
    AsWritten,
    BeforeLyingDown,
    Never,
}

/// When a poster knocks.
#[derive(Clone, Copy, Debug)]
enum Knock {
    AfterPosting,
    BeforePosting,
}

#[derive(Clone, Copy, Debug)]
struct Model {
    posters: usize,
    mails_per_poster: usize,
    last_look: LastLook,
    knock: Knock,
}

const AS_WRITTEN: Model = Model {
    posters: 1,
    mails_per_poster: 1,
    last_look: LastLook::AsWritten,
    knock: Knock::AfterPosting,
};

struct World {
    sleeper: Sleeper,
    doorbell: Notify,
    /// Each poster's ring: how many mails were ever put in. Written and read as the rings' own index.
    rings: Vec<AtomicUsize>,
}

impl World {
    fn post(&self, model: Model, ring: usize) {
        for mail in 1..=model.mails_per_poster {
            let post = || self.rings[ring].store(mail, Ordering::Release);
            let knock = || {
                if self.sleeper.knock() {
                    self.doorbell.notify();
                }
            };
            match model.knock {
                Knock::AfterPosting => {
                    post();
                    knock();
                }
                Knock::BeforePosting => {
                    knock();
                    post();
                }
            }
        }
    }

    fn has_mail(&self, taken: &[usize]) -> bool {
        self.rings.iter().zip(taken).any(|(ring, &taken)| ring.load(Ordering::Acquire) != taken)
    }

    /// The shard: takes mail until it has had all, and sleeps whenever it may.
    fn receive(&self, model: Model) {
        let mut taken = vec![0; model.posters];
        loop {
            for (taken, ring) in taken.iter_mut().zip(&self.rings) {
                *taken = ring.load(Ordering::Acquire);
            }
            if taken.iter().sum::<usize>() == model.posters * model.mails_per_poster {
                break;
            }
            let may_sleep = match model.last_look {
                LastLook::AsWritten => self.sleeper.lie_down(|| self.has_mail(&taken)),
                LastLook::BeforeLyingDown => {
                    let has_mail = self.has_mail(&taken);
                    self.sleeper.lie_down(|| has_mail)
                }
                LastLook::Never => self.sleeper.lie_down(|| false),
            };
            if may_sleep {
                self.doorbell.wait();
            }
            self.sleeper.get_up();
        }
    }
}

/// Tries the model in every order.
fn check(model: Model, fences: Fences) {
    check_within(model, fences, None);
}

/// Tries the model in every order in which at most `preemptions_max` threads are stopped amid a step.
fn check_within(model: Model, fences: Fences, preemptions_max: Option<usize>) {
    FENCES.set(fences);
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = preemptions_max;
    builder.check(move || {
        let rings = (0..model.posters).map(|_| AtomicUsize::new(0)).collect();
        let world = Arc::new(World { sleeper: Sleeper::new(), doorbell: Notify::new(), rings });
        for ring in 0..model.posters {
            let world = Arc::clone(&world);
            thread::spawn(move || world.post(model, ring));
        }
        world.receive(model);
    });
}

#[test]
fn one_mail_is_never_slept_through() {
    check(AS_WRITTEN, Fences::AsWritten);
}

/// All orders were tried once, in a quarter of a minute.
#[test]
fn one_mail_after_another_is_never_slept_through() {
    check_within(Model { mails_per_poster: 2, ..AS_WRITTEN }, Fences::AsWritten, Some(3));
}

/// Only one of them rings; the other relies on it. All orders would take minutes.
#[test]
fn two_posters_never_rely_on_each_other_in_vain() {
    check_within(Model { posters: 2, ..AS_WRITTEN }, Fences::AsWritten, Some(2));
}

#[test]
#[should_panic(expected = "deadlock")]
fn without_the_last_look_a_wake_up_is_lost() {
    check(Model { last_look: LastLook::Never, ..AS_WRITTEN }, Fences::AsWritten);
}

#[test]
#[should_panic(expected = "deadlock")]
fn with_the_last_look_too_early_a_wake_up_is_lost() {
    check(Model { last_look: LastLook::BeforeLyingDown, ..AS_WRITTEN }, Fences::AsWritten);
}

#[test]
#[should_panic(expected = "deadlock")]
fn with_the_knock_too_early_a_wake_up_is_lost() {
    check(Model { knock: Knock::BeforePosting, ..AS_WRITTEN }, Fences::AsWritten);
}

#[test]
#[should_panic(expected = "deadlock")]
fn without_fences_a_wake_up_is_lost() {
    check(AS_WRITTEN, Fences::None);
}

#[test]
#[should_panic(expected = "deadlock")]
fn with_fences_that_are_not_sequentially_consistent_a_wake_up_is_lost() {
    check(AS_WRITTEN, Fences::Weak);
}
