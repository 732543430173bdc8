//! Many seeds, each in a world of its own, spread over threads; each seed wholly on one.

use std::cell::RefCell;
use std::num::NonZeroUsize;
use std::panic::{self, AssertUnwindSafe};
use std::sync::Once;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use shards::counters::Snapshot;
use shards::marks::{self, Mark};

use crate::crash::Crashes;
use crate::crowd::Crowd;
use crate::faults::FaultCounts;
use crate::marathon::Marathon;
use crate::play::Play;
use crate::swarm::{Options, Scene};
use crate::trace::fold;
use crate::world::World;

/// What a seed led to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Course {
    /// Over every choice and every effect.
    pub hash: u64,
    pub steps: u64,
    pub acts: u32,
    pub faults: FaultCounts,
    /// Deaths of the process.
    pub crashes: u64,
    pub snapshot: Snapshot,
    /// What did not hold, and where it was found.
    pub failure: Option<String>,
}

thread_local! {
    /// The message of the panic that ends the seed at hand.
    static MESSAGE: RefCell<Option<String>> = const { RefCell::new(None) };
    static IS_PLAYING: RefCell<bool> = const { RefCell::new(false) };
}

/// A seed's scene, apart from its run: what failed can be looked at afterwards.
#[derive(Debug)]
enum Stage {
    Play(Box<Play>),
    Crowd(Box<Crowd>),
    Marathon(Box<Marathon>),
    Crash(Box<Crashes>),
}

impl Stage {
    fn new(options: &Options) -> Self {
        match options.scene {
            Scene::Play | Scene::Stop => Self::Play(Box::new(Play::with(options))),
            Scene::Crowd => Self::Crowd(Box::new(Crowd::with(options))),
            Scene::Marathon => Self::Marathon(Box::new(Marathon::with(options))),
            Scene::Crash => Self::Crash(Box::new(Crashes::with(options))),
        }
    }

    fn run(&mut self, scene: Scene) {
        match self {
            Self::Play(play) if scene == Scene::Stop => play.stop_anywhere(),
            Self::Play(play) => {
                play.run();
            }
            Self::Crowd(crowd) => crowd.run(),
            Self::Marathon(marathon) => marathon.run(),
            Self::Crash(crashes) => crashes.run(),
        }
    }

    fn world(&mut self) -> &mut World {
        match self {
            Self::Play(play) => &mut play.world,
            Self::Crowd(crowd) => &mut crowd.world,
            Self::Marathon(marathon) => &mut marathon.world,
            Self::Crash(crashes) => &mut crashes.world,
        }
    }

    fn act_count(&self) -> u32 {
        match self {
            Self::Play(play) => play.act_count(),
            Self::Crowd(crowd) => crowd.act_count(),
            Self::Marathon(_) => 0,
            Self::Crash(crashes) => crashes.act_count(),
        }
    }
}

/// Plays one seed to its end, or to what fails in it.
#[must_use]
pub fn play(options: &Options, is_printed: bool) -> Course {
    listen();
    let mut stage = Stage::new(options);
    stage.world().trace.is_printed = is_printed;
    IS_PLAYING.set(true);
    let outcome = panic::catch_unwind(AssertUnwindSafe(|| stage.run(options.scene)));
    IS_PLAYING.set(false);
    let acts = stage.act_count();
    let world = stage.world();
    Course {
        hash: world.trace.hash(),
        steps: world.step_count,
        acts,
        faults: world.fault_counts(),
        crashes: world.crash_count,
        snapshot: world.snapshot(),
        failure: outcome
            .err()
            .map(|_| MESSAGE.take().unwrap_or_else(|| "a panic without a message".to_owned())),
    }
}

/// Keeps the message of a panic inside a seed, instead of printing it.
fn listen() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            if IS_PLAYING.with_borrow(|is_playing| *is_playing) {
                let text = info.payload_as_str().unwrap_or("a panic");
                let place = info.location().map_or_else(String::new, |at| format!(" ({at})"));
                MESSAGE.set(Some(format!("{text}{place}")));
            } else {
                before(info);
            }
        }));
    });
}

/// Which seeds, and how.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    pub start: u64,
    pub count: u64,
    /// Each seed twice; what differs is a failure.
    pub is_twice: bool,
}

/// All seeds of a batch together.
#[derive(Clone, Debug, Default)]
pub struct Total {
    pub seeds: u64,
    pub steps: u64,
    /// Over the hashes of all seeds, in the order of their numbers.
    pub hash: u64,
    pub faults: FaultCounts,
    pub crashes: u64,
    pub snapshot: Snapshot,
    /// How often the core came by each of its marks, in the order of [`Mark::ALL`].
    pub marks: Vec<u64>,
    /// The lowest seed that failed, at which step and how. After the first failure no more seeds
    /// are begun.
    pub failure: Option<(u64, u64, String)>,
}

impl Total {
    fn add(&mut self, seed: u64, course: &Course) {
        self.seeds += 1;
        self.steps += course.steps;
        self.crashes += course.crashes;
        self.snapshot.add(&course.snapshot);
        self.faults.iter_mut().zip(course.faults).for_each(|(sum, count)| *sum += count);
        if let Some(message) = &course.failure
            && self.failure.as_ref().is_none_or(|(other, ..)| *other > seed)
        {
            self.failure = Some((seed, course.steps, message.clone()));
        }
    }

    /// Branches of the core that no seed came to.
    pub fn missed(&self) -> impl Iterator<Item = Mark> {
        let count = |at| self.marks.get(at).copied().unwrap_or(0);
        (0..).zip(Mark::ALL).filter(move |(at, _)| count(*at) == 0).map(|(_, &mark)| mark)
    }

    fn merge(&mut self, other: Self) {
        self.marks.resize(Mark::ALL.len(), 0);
        self.marks.iter_mut().zip(other.marks).for_each(|(sum, count)| *sum += count);
        self.seeds += other.seeds;
        self.steps += other.steps;
        self.crashes += other.crashes;
        self.snapshot.add(&other.snapshot);
        self.faults.iter_mut().zip(other.faults).for_each(|(sum, count)| *sum += count);
        let failures = [self.failure.take(), other.failure];
        self.failure = failures.into_iter().flatten().min_by_key(|(seed, ..)| *seed);
    }
}

/// Plays all seeds of a plan on as many threads as there are cores.
#[must_use]
pub fn run(plan: Plan) -> Total {
    let next = AtomicU64::new(plan.start);
    let is_failed = AtomicBool::new(false);
    let threads = thread::available_parallelism().map_or(1, NonZeroUsize::get);
    let mut total = Total::default();
    let mut hashes = Vec::new();
    thread::scope(|scope| {
        let work = || work(plan, &next, &is_failed);
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        for worker in workers {
            let (part, part_hashes) = worker.join().expect("a seed's panic is caught");
            total.merge(part);
            hashes.extend(part_hashes);
        }
    });
    hashes.sort_unstable();
    total.hash = hashes.iter().fold(0, |hash, &(_, one)| fold(hash, one));
    total
}

/// One thread's seeds, and the hash of each.
fn work(plan: Plan, next: &AtomicU64, is_failed: &AtomicBool) -> (Total, Vec<(u64, u64)>) {
    let mut total = Total::default();
    let mut hashes = Vec::new();
    while !is_failed.load(Ordering::Relaxed) {
        let seed = next.fetch_add(1, Ordering::Relaxed);
        if seed - plan.start >= plan.count {
            break;
        }
        let options = Options::draw(seed);
        let mut course = play(&options, false);
        if plan.is_twice && course.failure.is_none() && play(&options, false) != course {
            course.failure = Some("the second run took another course".to_owned());
        }
        is_failed.fetch_or(course.failure.is_some(), Ordering::Relaxed);
        hashes.push((seed, course.hash));
        total.add(seed, &course);
    }
    // The thread is this batch's own: all its marks are.
    total.marks = marks::counts();
    (total, hashes)
}
