//! Does the simulator find what is wrong? Each bug of `shards::planted` in turn, seed after seed,
//! until a check fails.

use std::fmt::{self, Display};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use shards::planted::{Bug, plant};

use crate::batch;
use crate::swarm::{Options, Scene};

/// What became of one bug.
#[derive(Debug)]
pub struct Row {
    pub bug: Bug,
    /// The first seed that shows it, and what the failed check said.
    pub found: Option<(u64, String)>,
}

/// Every bug once.
#[derive(Debug)]
pub struct Table {
    pub rows: Vec<Row>,
    /// Seeds that each bug had.
    pub seeds: u64,
}

impl Table {
    /// True if no bug stayed hidden.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.rows.iter().all(|row| row.found.is_some())
    }
}

impl Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:<22} {:>6}  by", "bug", "seeds")?;
        for Row { bug, found } in &self.rows {
            let name = format!("{bug:?}");
            match found {
                Some((seed, check)) => writeln!(f, "{name:<22} {:>6}  {check}", seed + 1)?,
                None => writeln!(f, "{name:<22} {:>6}  NOT FOUND", self.seeds)?,
            }
        }
        let found = self.rows.iter().filter(|row| row.found.is_some()).count();
        writeln!(f, "{found} of {} bugs found within {} seeds", self.rows.len(), self.seeds)
    }
}

/// Plays seeds from 0 with each bug until it is found, at most `seeds`. The bugs are spread over the
/// cores; each play stays on one thread.
#[must_use]
pub fn table(seeds: u64) -> Table {
    let next = AtomicUsize::new(0);
    let workers = thread::available_parallelism().map_or(1, usize::from).min(Bug::ALL.len());
    let work = || {
        let mut rows = Vec::new();
        while let Some(&bug) = Bug::ALL.get(next.fetch_add(1, Ordering::Relaxed)) {
            rows.push(Row { bug, found: hunt(bug, seeds) });
        }
        rows
    };
    let mut rows = thread::scope(|scope| {
        let workers: Vec<_> = (0..workers).map(|_| scope.spawn(work)).collect();
        let done = workers.into_iter().map(|worker| worker.join());
        done.flat_map(|rows| rows.expect("a seed's panic is caught")).collect::<Vec<_>>()
    });
    rows.sort_by_key(|row| Bug::ALL.iter().position(|&bug| bug == row.bug));
    Table { rows, seeds }
}

/// The first seed that shows the bug, and how. A seed that fails without it shows nothing.
fn hunt(bug: Bug, seeds: u64) -> Option<(u64, String)> {
    (0..seeds).find_map(|seed| {
        let options = Options::draw_as(seed, scene(bug));
        let check = play(&options, Some(bug))?;
        play(&options, None).is_none().then_some((seed, check))
    })
}

/// What a play of this seed says that fails.
fn play(options: &Options, bug: Option<Bug>) -> Option<String> {
    plant(bug);
    let course = batch::play(options, false);
    plant(None);
    course.failure.map(|failure| text(&failure))
}

/// Where it can be found.
fn scene(bug: Bug) -> Scene {
    match bug {
        Bug::ExpiryIgnoredAfterRestart
        | Bug::AckBeforeStored
        | Bug::FenceIgnored
        | Bug::InboundNotStored
        | Bug::IdentifierNotStored
        | Bug::ReleasedMessageKept
        | Bug::InterestNotRestored => Scene::Crash,
        _ => Scene::Play,
    }
}

/// The first line of what a panic said.
fn text(text: &str) -> String {
    text.lines().next().unwrap_or_default().chars().take(110).collect()
}
