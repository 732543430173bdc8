//! CPU time and memory of a process, from `/proc`.

use std::fs;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// A process that is watched. It may be gone: then everything is 0.
#[derive(Clone, Debug)]
pub(crate) struct Process {
    root: PathBuf,
}

/// Resident memory in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Memory {
    pub(crate) resident: u64,
    pub(crate) peak: u64,
}

impl Process {
    pub(crate) fn new(pid: u32) -> Self {
        Self { root: PathBuf::from(format!("/proc/{pid}")) }
    }

    pub(crate) fn own() -> Self {
        Self { root: PathBuf::from("/proc/self") }
    }

    /// Nanoseconds of CPU time that all threads which live now have had. A thread that ends between
    /// two readings is missing from the second; no broker under test ends threads while it works.
    pub(crate) fn cpu_ns(&self) -> u64 {
        let Ok(tasks) = fs::read_dir(self.root.join("task")) else { return 0 };
        tasks
            .flatten()
            .filter_map(|task| fs::read_to_string(task.path().join("schedstat")).ok())
            .filter_map(|line| line.split_whitespace().next()?.parse::<u64>().ok())
            .sum()
    }

    /// How often its threads that live now have gone to sleep and so were woken up again.
    pub(crate) fn wakeups(&self) -> u64 {
        let Ok(tasks) = fs::read_dir(self.root.join("task")) else { return 0 };
        tasks
            .flatten()
            .filter_map(|task| fs::read_to_string(task.path().join("status")).ok())
            .filter_map(|status| number(&status, "voluntary_ctxt_switches:"))
            .sum()
    }

    pub(crate) fn memory(&self) -> Memory {
        let status = fs::read_to_string(self.root.join("status")).unwrap_or_default();
        Memory { resident: kib(&status, "VmRSS:"), peak: kib(&status, "VmHWM:") }
    }
}

/// The value of a line of `/proc/PID/status`, in bytes.
fn kib(status: &str, name: &str) -> u64 {
    number(status, name).map_or(0, |kib| kib * 1024)
}

/// The first number of a line of `/proc/PID/status`.
fn number(status: &str, name: &str) -> Option<u64> {
    let value = status.lines().find_map(|line| line.strip_prefix(name));
    value.and_then(|rest| rest.split_whitespace().next()?.parse().ok())
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead as _, BufReader};
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn own_process_has_used_cpu_and_memory() {
        let own = Process::own();
        assert!(own.cpu_ns() > 0);
        let memory = own.memory();
        assert!(memory.resident > 0 && memory.peak >= memory.resident, "{memory:?}");
    }

    #[test]
    fn sleeps_are_counted() {
        // The shell waits for its child at least once before it says that it is done.
        let mut child = Command::new("sh")
            .args(["-c", "sleep 0.01; echo done; read -r line"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "done\n");
        assert!(Process::new(child.id()).wakeups() > 0);
        drop(child.stdin.take());
        child.wait().unwrap();
    }

    #[test]
    fn wakeups_are_not_preemptions() {
        let status = "nonvoluntary_ctxt_switches:\t9\nvoluntary_ctxt_switches:\t4\n";
        assert_eq!(number(status, "voluntary_ctxt_switches:"), Some(4));
    }

    #[test]
    fn a_process_that_is_gone_has_nothing() {
        // Above any pid that Linux gives out.
        let gone = Process::new(u32::MAX);
        assert_eq!((gone.cpu_ns(), gone.wakeups(), gone.memory()), (0, 0, Memory::default()));
    }
}
