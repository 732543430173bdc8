//! Which core runs what.

use std::thread;

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

use crate::error::Error;

/// A list like `0`, `0-3` or `0,2-3`, all of them cores that this process may use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Cores {
    text: String,
    cores: Vec<usize>,
}

impl Cores {
    pub(crate) fn parse(text: &str, flag: &str) -> Result<Self, Error> {
        let malformed = || Error::Usage(format!("{flag} {text}: cores are given like 0 or 0-1,3"));
        let mut cores = Vec::new();
        for part in text.split(',') {
            let (from, to) = part.split_once('-').unwrap_or((part, part));
            let from: usize = from.trim().parse().map_err(|_| malformed())?;
            let to: usize = to.trim().parse().map_err(|_| malformed())?;
            if from > to || to >= CpuSet::MAX_CPU {
                return Err(malformed());
            }
            cores.extend(from..=to);
        }
        Ok(Self { text: text.to_owned(), cores })
    }

    /// Binds this thread, and what it starts from now on, to these cores.
    pub(crate) fn bind(&self, flag: &str) -> Result<(), Error> {
        let mut set = CpuSet::new();
        for core in &self.cores {
            set.set(*core);
        }
        sched_setaffinity(None, &set).map_err(|_| {
            let cores = thread::available_parallelism().map_or(1, usize::from);
            Error::Usage(format!(
                "{flag} {}: this process cannot use these cores (there are {cores}); \
                 choose others, or pin nothing with --no-pin",
                self.text
            ))
        })
    }
}

/// Binds this thread again as it was before `work`.
pub(crate) fn restored<T>(work: impl FnOnce() -> T) -> T {
    let before = sched_getaffinity(None);
    let result = work();
    if let Ok(before) = before {
        // It was allowed before.
        let _ = sched_setaffinity(None, &before);
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_cores() {
        let cores = |text| Cores::parse(text, "--cores").map(|cores| cores.cores).ok();
        assert_eq!(cores("0"), Some(vec![0]));
        assert_eq!(cores("0-2,5"), Some(vec![0, 1, 2, 5]));
        for text in ["", "a", "2-1", "0-", "99999"] {
            assert_eq!(cores(text), None, "{text:?}");
        }
    }
}
