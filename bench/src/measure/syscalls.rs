//! System calls of a broker, counted by strace for a short while. That slows the broker down, so it
//! is done in a run of its own, and only the count for each delivery is good.

use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::error::Error;

/// Until strace holds all threads.
const ATTACH_MAX: Duration = Duration::from_secs(5);

const POLL: Duration = Duration::from_millis(5);

/// A strace that counts. Dropping it lets the process go on alone.
#[derive(Debug)]
pub(crate) struct Tracer {
    child: Child,
    output: PathBuf,
}

impl Tracer {
    pub(crate) fn attach(pid: u32) -> Result<Self, Error> {
        let output = std::env::temp_dir().join(format!("muring-bench-strace-{pid}"));
        let child = Command::new("strace")
            .args(["-c", "-f", "-p", &pid.to_string(), "-o"])
            .arg(&output)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|error| {
                Error::Broker(format!(
                    "system calls cannot be counted: strace: {error}; \
                     install it with `apt-get install strace`"
                ))
            })?;
        let mut tracer = Self { child, output };
        let end = Instant::now() + ATTACH_MAX;
        while !is_traced(pid) {
            let ended = tracer.child.try_wait().map_err(Error::system("watch strace"))?;
            if ended.is_some() || Instant::now() > end {
                return Err(Error::Broker(
                    "system calls cannot be counted: strace may not attach to the broker \
                     (kernel.yama.ptrace_scope, or a container without SYS_PTRACE)"
                        .to_owned(),
                ));
            }
            thread::sleep(POLL);
        }
        Ok(tracer)
    }

    /// How many system calls there were since [`Self::attach`].
    pub(crate) fn finish(mut self) -> Result<u64, Error> {
        kill_process(Pid::from_child(&self.child), Signal::INT)
            .map_err(std::io::Error::from)
            .and_then(|()| self.child.wait().map(drop))
            .map_err(Error::system("end strace"))?;
        let text = fs::read_to_string(&self.output)
            .map_err(|source| Error::File { path: self.output.clone(), source })?;
        Ok(total(&text))
    }
}

impl Drop for Tracer {
    fn drop(&mut self) {
        // It has ended already if all went well.
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_file(&self.output);
    }
}

fn is_traced(pid: u32) -> bool {
    let Ok(tasks) = fs::read_dir(format!("/proc/{pid}/task")) else { return false };
    tasks.flatten().all(|task| {
        let status = fs::read_to_string(task.path().join("status")).unwrap_or_default();
        let tracer = status.lines().find_map(|line| line.strip_prefix("TracerPid:"));
        tracer.is_some_and(|pid| pid.trim() != "0")
    })
}

/// The number of calls in the last line of a summary.
fn total(summary: &str) -> u64 {
    let line = summary.lines().rev().find(|line| line.trim_end().ends_with("total"));
    let calls = line.and_then(|line| line.split_whitespace().nth(3)?.parse().ok());
    calls.unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn totals_with_and_without_errors() {
        let head = "% time     seconds  usecs/call     calls    errors syscall\n";
        let with = format!("{head}100.00    0.001234           1      4321        17 total\n");
        let without = format!("{head}100.00    0.001234           1      4321           total\n");
        assert_eq!((total(&with), total(&without), total("")), (4321, 4321, 0));
    }
}
