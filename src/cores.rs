//! Which core runs which shard.

use rustix::thread::{CpuSet, sched_getaffinity};
use shards::limits::SHARDS_MAX;

/// The cores this process may use.
#[must_use]
pub fn available() -> Vec<usize> {
    let Ok(set) = sched_getaffinity(None) else { return vec![0] };
    (0..CpuSet::MAX_CPU).filter(|core| set.is_set(*core)).collect()
}

/// Reads a list such as `0-3,8`.
///
/// # Errors
/// What is wrong with it.
pub fn parse(list: &str) -> Result<Vec<usize>, String> {
    let mut cores = Vec::new();
    for part in list.split(',').map(str::trim) {
        let wrong = || format!("{part:?} is no core; give numbers and ranges, for example 0-3,8");
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let first: usize = first.trim().parse().map_err(|_| wrong())?;
        let last: usize = last.trim().parse().map_err(|_| wrong())?;
        if first > last || last >= CpuSet::MAX_CPU {
            return Err(wrong());
        }
        for core in first..=last {
            if cores.contains(&core) {
                return Err(format!("core {core} is given twice"));
            }
            cores.push(core);
        }
    }
    Ok(cores)
}

/// One core per shard, used in turn if there are more shards.
///
/// # Errors
/// If a core was asked for that the process may not use.
pub fn assign(
    shards: Option<usize>,
    listed: Option<&[usize]>,
    available: &[usize],
) -> Result<Vec<usize>, String> {
    let cores = listed.unwrap_or(available);
    if let Some(missing) = cores.iter().find(|core| !available.contains(core)) {
        let may = print(available);
        return Err(format!(
            "core {missing} is not available; this process may use {may} (see taskset, cpuset)"
        ));
    }
    let count = shards.unwrap_or(cores.len()).clamp(1, SHARDS_MAX);
    Ok(cores.iter().copied().cycle().take(count).collect())
}

/// The list in the form that [`parse`] reads; each core once.
#[must_use]
pub fn print(cores: &[usize]) -> String {
    let mut distinct: Vec<_> = Vec::new();
    for core in cores {
        if !distinct.contains(core) {
            distinct.push(*core);
        }
    }
    distinct.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_cores() {
        assert_eq!(parse("0-3,8"), Ok(vec![0, 1, 2, 3, 8]));
        assert_eq!(parse(" 2 , 0 "), Ok(vec![2, 0]));
        for wrong in ["", "a", "3-1", "1,1", "0-", "-1", "99999"] {
            assert!(parse(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn shards_use_cores_in_turn() {
        assert_eq!(assign(None, None, &[0, 1]), Ok(vec![0, 1]));
        assert_eq!(assign(Some(5), None, &[0, 1]), Ok(vec![0, 1, 0, 1, 0]));
        assert_eq!(assign(Some(1), Some(&[1]), &[0, 1]), Ok(vec![1]));
        assert!(assign(None, Some(&[2]), &[0, 1]).unwrap_err().contains("core 2"));
        assert_eq!(print(&[0, 1, 0, 1]), "0,1");
    }

    #[test]
    fn there_is_a_core() {
        assert!(!available().is_empty());
    }
}
