//! What this machine is, and what disturbs a measurement on it. Part of every result.

use std::fmt::Write as _;
use std::fs;
use std::process::Command;
use std::time::Duration;

/// How long to watch a machine on which we do nothing.
const WATCH: Duration = Duration::from_secs(1);

/// Above this share of the processors, in percent, what others take spoils wall times.
const TAKEN_PERCENT_MAX: f64 = 5.0;

/// The machine and the program, a line each; ends with what others took during one second.
pub(crate) fn describe() -> String {
    let facts = [
        ("commit", commit()),
        ("compiler", command("rustc", &["--version"])),
        ("kernel", read("/proc/sys/kernel/osrelease")),
        ("cpu", cpu()),
        ("virtual", hypervisor()),
        ("governor", governor()),
        ("turbo", turbo()),
        ("smt", read("/sys/devices/system/cpu/smt/active").map(|on| yes_no(&on))),
        ("huge pages", read("/sys/kernel/mm/transparent_hugepage/enabled")),
        ("clock", read("/sys/devices/system/clocksource/clocksource0/current_clocksource")),
        ("load average", read("/proc/loadavg")),
    ];
    let mut text = String::new();
    for (name, value) in facts {
        let value = value.unwrap_or_else(|| "unknown".to_owned());
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{:<14} {value}", format!("{name}:"));
    }
    let idle = Disturbance::watch();
    std::thread::sleep(WATCH);
    let _ = writeln!(text, "{}", idle.describe());
    text
}

/// What others take of the processors from some moment on.
#[derive(Debug)]
pub(crate) struct Disturbance {
    start: Option<Times>,
}

impl Disturbance {
    pub(crate) fn watch() -> Self {
        Self { start: Times::now() }
    }

    /// Two lines: the share that the hypervisor gave to others, and that of other processes.
    pub(crate) fn describe(&self) -> String {
        let Some((start, end)) = self.start.zip(Times::now()) else {
            return "disturbance:   unknown: /proc/stat cannot be read".to_owned();
        };
        let all = end.all.saturating_sub(start.all);
        let share = |ticks: u64| {
            let percent = ticks as f64 / all.max(1) as f64 * 100.0;
            let verdict = if percent > TAKEN_PERCENT_MAX { "  NOT QUIET" } else { "" };
            format!("{percent:.1} % of all processors{verdict}")
        };
        let own = end.own.saturating_sub(start.own);
        let others = end.busy.saturating_sub(start.busy).saturating_sub(own);
        let steal = end.steal.saturating_sub(start.steal);
        format!("{:<14} {}\n{:<14} {}", "steal:", share(steal), "others:", share(others))
    }
}

/// Processor time in ticks since the start of the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Times {
    all: u64,
    busy: u64,
    steal: u64,
    /// Of `busy`, this process.
    own: u64,
}

impl Times {
    fn now() -> Option<Self> {
        let stat = fs::read_to_string("/proc/stat").ok()?;
        let own = fs::read_to_string("/proc/self/stat").ok()?;
        Self::parse(&stat, &own)
    }

    /// `stat` and `own` as in proc(5).
    fn parse(stat: &str, own: &str) -> Option<Self> {
        let line = stat.lines().find_map(|line| line.strip_prefix("cpu "))?;
        let ticks: Vec<u64> = line.split_whitespace().map_while(|word| word.parse().ok()).collect();
        let &[user, nice, system, idle, iowait, irq, softirq, steal, ..] = ticks.as_slice() else {
            return None;
        };
        let busy = user + nice + system + irq + softirq;
        // The command in front may contain anything, so count from where it ends: utime is the
        // twelfth word behind it, stime the next.
        let (_, words) = own.rsplit_once(')')?;
        let mut words = words.split_whitespace().skip(11).map_while(|word| word.parse().ok());
        let own: u64 = words.next().and_then(|utime: u64| Some(utime + words.next()?))?;
        Some(Self { all: busy + idle + iowait + steal, busy, steal, own })
    }
}

fn read(path: &str) -> Option<String> {
    fs::read_to_string(path).ok().map(|text| text.trim().to_owned())
}

/// The first line that a command prints, if it succeeds.
fn command(program: &str, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program)
        .args(arguments)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .ok()
        .filter(|output| output.status.success())?;
    let text = String::from_utf8(output.stdout).ok()?;
    Some(text.lines().next().unwrap_or_default().to_owned())
}

fn commit() -> Option<String> {
    let commit = command("git", &["rev-parse", "--short=12", "HEAD"])?;
    let changed = command("git", &["status", "--porcelain", "--untracked-files=no"])?;
    let suffix = if changed.is_empty() { "" } else { ", with changes that are not committed" };
    Some(format!("{commit}{suffix}"))
}

fn cpu() -> Option<String> {
    let info = fs::read_to_string("/proc/cpuinfo").ok()?;
    let field = |name: &str| {
        let line = info.lines().find(|line| line.split(':').next().map(str::trim) == Some(name))?;
        line.split_once(':').map(|(_, value)| value.trim().to_owned())
    };
    let model = field("model name").or_else(|| field("CPU part"))?;
    let stepping = match (field("cpu family"), field("model"), field("stepping")) {
        (Some(family), Some(model), Some(stepping)) => {
            format!(" (family {family}, model {model}, stepping {stepping})")
        }
        _ => String::new(),
    };
    let count = std::thread::available_parallelism().map_or(0, usize::from);
    Some(format!("{model}{stepping}, {count} for this process"))
}

fn hypervisor() -> Option<String> {
    let info = fs::read_to_string("/proc/cpuinfo").ok()?;
    let is_guest = info.lines().any(|line| {
        line.starts_with("flags") && line.split_whitespace().any(|flag| flag == "hypervisor")
    });
    let words = if is_guest { "yes: steal and neighbours count" } else { "no" };
    Some(words.to_owned())
}

fn governor() -> Option<String> {
    let governor = read("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor");
    Some(match governor {
        None => "none to be seen: the frequency is not ours to set".to_owned(),
        Some(name) if name == "performance" => name,
        Some(name) => format!("{name}  NOT STEADY: cpupower frequency-set -g performance"),
    })
}

fn turbo() -> Option<String> {
    let intel = read("/sys/devices/system/cpu/intel_pstate/no_turbo").map(|off| off == "0");
    let generic = read("/sys/devices/system/cpu/cpufreq/boost").map(|on| on == "1");
    intel.or(generic).map(|on| if on { "on" } else { "off" }.to_owned())
}

fn yes_no(flag: &str) -> String {
    if flag == "1" { "yes" } else { "no" }.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processor_times_are_read() {
        let stat = "cpu  100 20 30 1000 50 1 2 7 0 0\ncpu0 1 1 1 1 1 1 1 1 0 0\n";
        let own = "77 (a ) b) R 1 2 3 4 5 6 7 8 9 10 40 2 0 0";
        let times = Times { all: 1210, busy: 153, steal: 7, own: 42 };
        assert_eq!(Times::parse(stat, own), Some(times));
        assert_eq!(Times::parse("", own), None);
        assert_eq!(Times::parse(stat, "77 (a"), None);
    }

    #[test]
    fn this_machine_has_times() {
        assert!(Times::now().is_some());
        assert!(Disturbance::watch().describe().contains("others:"));
        assert!(!Disturbance { start: None }.describe().is_empty());
    }
}
