//! Where the time goes: the kernel's profiler on a benchmark or on a program that runs already.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};

use crate::benches;

/// Samples per second; no multiple of what timers use.
const FREQUENCY: &str = "997";

/// Functions with a smaller share, in percent, are not shown.
const SHARE_MIN: &str = "1";

const INSTALL: &str = "the kernel's profiler `perf` is missing: apt-get install linux-perf (Debian), \
                       linux-tools-generic (Ubuntu), perf (Fedora)";

const FORBIDDEN: &str = "perf may not record here: sysctl -w kernel.perf_event_paranoid=1, and in a \
                         container give it CAP_PERFMON";

/// Profiles a benchmark for so many seconds, the making of its world included.
pub(crate) fn watch_bench(name: &str, seconds: u32) -> Result<(), String> {
    let bench = benches::named(name)?;
    let program = std::env::current_exe().map_err(|error| format!("own program: {error}"))?;
    let mut command = recorder();
    command.arg("--").arg(program).args(["spin", bench.name, &seconds.to_string()]);
    watch(command)
}

/// Profiles the process `pid` for so many seconds.
pub(crate) fn watch_program(pid: u32, seconds: u32) -> Result<(), String> {
    if !Path::new("/proc").join(pid.to_string()).exists() {
        return Err(format!("there is no process {pid}"));
    }
    let mut command = recorder();
    command.args(["--pid", &pid.to_string(), "--", "sleep", &seconds.to_string()]);
    watch(command)
}

fn recorder() -> Command {
    let mut command = Command::new("perf");
    command.args(["record", "--quiet", "--freq", FREQUENCY, "--call-graph", "dwarf,16384"]);
    command.arg("--output").arg(recording());
    command
}

/// Below `target/`, where nobody keeps anything.
fn recording() -> PathBuf {
    let target = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target");
    target.join(format!("perf-{}.data", std::process::id()))
}

fn watch(mut recorder: Command) -> Result<(), String> {
    let recorded = finish(&mut recorder, FORBIDDEN);
    let shown = recorded.and_then(|()| {
        let mut report = Command::new("perf");
        report.args(["report", "--stdio", "--no-children", "--call-graph", "none"]);
        report.args(["--percent-limit", SHARE_MIN, "--sort", "overhead,dso,symbol"]);
        report.arg("--input").arg(recording());
        finish(&mut report, "perf cannot read what it recorded")
    });
    match shown {
        Ok(()) => {
            println!("callers: perf report --input {}", recording().display());
            Ok(())
        }
        Err(why) => {
            // There may be no recording, and then nothing is to be removed.
            let _ = std::fs::remove_file(recording());
            Err(why)
        }
    }
}

fn finish(command: &mut Command, remedy: &str) -> Result<(), String> {
    let status = command.status().map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => INSTALL.to_owned(),
        _ => format!("perf: {error}"),
    })?;
    if ExitStatus::success(&status) { Ok(()) } else { Err(format!("perf: {status}; {remedy}")) }
}
