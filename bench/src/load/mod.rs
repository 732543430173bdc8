//! One run: connect everybody, warm up, measure, wait for what is on its way, check.
//!
//! One thread does everything. It looks at its sockets every tick and sleeps in between, never
//! inside of epoll or io_uring: a broker that had to wake it would pay for that, more or less of it
//! from run to run.

mod clients;
mod engine;
mod flood;
mod publisher;
mod socket;
pub(crate) mod stats;
pub(crate) mod verify;
mod window;

use std::net::SocketAddr;
use std::num::NonZeroU64;
use std::thread;
use std::time::Duration;

use engine::Engine;
use flood::Flood;
use publisher::Due;
pub(crate) use socket::sources_for;

use crate::error::Error;
use crate::measure::machine::{Noise, Ticks};
use crate::measure::process::Process;
use crate::measure::syscalls::Tracer;
use crate::net::Net;
use crate::plan::{Course, Pace, Plan};
use crate::report::{Measured, RunResult};

/// Between two lines of progress.
const PROGRESS_NS: u64 = 1_000_000_000;

/// The part of an overload's warm-up that is not counted: queues fill.
const RAMP_SHARE: u64 = 4;

/// Who is measured.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    pub(crate) name: String,
    pub(crate) address: SocketAddr,
    pub(crate) process: Option<Process>,
    pub(crate) pid: Option<u32>,
}

/// Readings at one moment.
#[derive(Clone, Copy, Debug)]
struct Reading {
    at_ns: u64,
    broker_ns: u64,
    own_ns: u64,
    ticks: Ticks,
    sent: u64,
    /// Sent and delivered by a disturbance.
    flood: (u64, u64),
}

/// Runs `plan` against `target`. What was measured is in the result even if it ends early.
pub(crate) fn run(
    net: impl Net,
    plan: Plan,
    target: &Target,
    progress: bool,
) -> (RunResult, Result<(), Error>) {
    // Sleeps end when they should, not 50 us later. Where that may not be set, latencies show it.
    let _ = rustix::thread::set_current_timer_slack(Some(NonZeroU64::MIN));
    let mut result = RunResult::new(&plan, &target.name);
    let mut load = Load {
        net,
        engine: Engine::new(plan, target.address),
        target,
        progress,
        told_ns: 0,
        window: None,
    };
    let mut outcome = load.course(&mut result);
    if let (Err(_), Some(before)) = (&outcome, load.window) {
        // The run ended within the measured window: what there is counts up to here.
        result.measured.fill(&load.measured_between(before, load.read()));
    }
    load.engine.count_missing();
    load.collect(&mut result);
    let faults = load.engine.faults;
    if outcome.is_ok() && !faults.is_clean(load.engine.plan.may_lose) {
        outcome = Err(Error::Delivery(faults.to_string()));
    }
    result.error = outcome.as_ref().err().map(ToString::to_string);
    (result, outcome)
}

/// Can this machine make the plan's connections?
///
/// # Errors
/// Says what to raise. The limit of file descriptors is raised here as far as it may be.
pub(crate) fn check(plan: &Plan) -> Result<(), Error> {
    let sources = plan.clients.iter().map(|client| client.source.octets()[3]).max();
    socket::check_ports(plan.clients.len(), usize::from(sources.unwrap_or(1)))?;
    socket::check_descriptors(plan.clients.len())
}

struct Load<'a, N> {
    net: N,
    engine: Engine,
    target: &'a Target,
    progress: bool,
    told_ns: u64,
    /// The beginning of the measured window, while it is open.
    window: Option<Reading>,
}

impl<N: Net> Load<'_, N> {
    fn course(&mut self, result: &mut RunResult) -> Result<(), Error> {
        self.memory(|measured, memory| measured.memory_before = memory.resident, result);
        let start = self.read();
        self.connect_all()?;
        let ready = self.read();
        result.measured.setup_s = seconds(ready.at_ns - start.at_ns);
        match self.engine.plan.course {
            Course::Connect { hold } => return self.hold(hold, start, ready, result),
            Course::Retained { .. } => self.store_retained()?,
            Course::Steady | Course::Persistent { .. } | Course::Overload { .. } => {}
        }
        self.memory(|measured, memory| measured.memory_connected = memory.resident, result);
        let times = self.engine.plan.times;
        let (warm_up_ns, measure_ns) = (ns(times.warm_up), ns(times.measure));
        let start_ns = self.engine.now_ns();
        let mut from_ns = start_ns + warm_up_ns;
        if let Course::Overload { factor } = self.engine.plan.course {
            result.measured.offered_per_s = self.overload(factor)?;
            from_ns = self.engine.now_ns();
        } else {
            self.disturb()?;
            self.start(start_ns, from_ns + measure_ns);
        }
        self.turns_until(from_ns)?;
        let to_ns = from_ns + measure_ns;
        self.engine.stats.measure(from_ns, to_ns);
        if self.engine.plan.is_traced {
            return self.traced(to_ns, result);
        }
        let before = self.read();
        self.window = Some(before);
        self.turns_until(to_ns)?;
        self.window = None;
        result.measured.fill(&self.measured_between(before, self.read()));
        self.memory(|measured, memory| measured.memory_peak = memory.peak, result);
        self.drain()
    }

    /// Counts system calls up to `end_ns`, at least for half of the measured time: strace takes a
    /// while to attach.
    fn traced(&mut self, end_ns: u64, result: &mut RunResult) -> Result<(), Error> {
        let Some(pid) = self.target.pid else {
            return Err(Error::Usage(
                "--syscalls: whose? Give the broker's process with ,pid=N".to_owned(),
            ));
        };
        let tracer = Tracer::attach(pid)?;
        let before = self.engine.stats.delivered_all;
        let least_ns = self.engine.now_ns() + ns(self.engine.plan.times.measure) / 2;
        self.turns_until(end_ns.max(least_ns))?;
        let delivered = self.engine.stats.delivered_all - before;
        let calls = tracer.finish()?;
        result.measured.syscalls_per_delivery = (delivered > 0).then(|| share(calls, delivered));
        self.drain()
    }

    /// The pace of the plan, from now on.
    fn start(&mut self, start_ns: u64, stop_ns: u64) {
        if matches!(self.engine.plan.course, Course::Retained { .. }) {
            self.engine.is_asking = true;
            for client in 0..self.engine.clients.len() {
                if self.engine.clients[client].publisher.is_none() {
                    self.engine.ask_retained(client, self.net.outs());
                }
            }
            return;
        }
        self.engine.set_due(match self.engine.plan.pace {
            Pace::Closed { .. } => Due::Everything,
            Pace::Open { per_s } => Due::Paced { start_ns, stop_ns, per_s },
        });
    }

    /// Begins a disturbance, if the plan has one.
    fn disturb(&mut self) -> Result<(), Error> {
        let Some(flood) = &mut self.engine.flood else { return Ok(()) };
        flood.start();
        let stalled = flood.clients.stalled;
        self.engine.is_stalled = Some(stalled);
        match self.engine.clients.get(stalled).and_then(|client| client.key) {
            Some(key) => self.net.pause(key).map_err(Error::system("stop reading")),
            None => Ok(()),
        }
    }

    fn connect_all(&mut self) -> Result<(), Error> {
        let setup_max = self.engine.plan.times.setup_max;
        let end_ns = self.engine.now_ns() + ns(setup_max);
        while self.engine.ready_count < self.engine.clients.len() {
            self.engine.connect_more(&mut self.net)?;
            self.turn()?;
            if self.engine.now_ns() > end_ns {
                return Err(Error::SetupTime {
                    connected: self.engine.ready_count,
                    wanted: self.engine.clients.len(),
                    seconds: setup_max.as_secs(),
                });
            }
        }
        Ok(())
    }

    /// connect: the storm is over; now nothing happens, and that is measured.
    fn hold(
        &mut self,
        hold: Duration,
        start: Reading,
        ready: Reading,
        result: &mut RunResult,
    ) -> Result<(), Error> {
        let storm = self.measured_between(start, ready);
        result.measured.fill(&storm);
        result.measured.delivered = self.engine.ready_count as u64;
        self.turns_until(self.engine.now_ns() + ns(hold) / 2)?;
        let wakeups = || self.target.process.as_ref().map_or(0, Process::wakeups);
        let before = (self.read(), wakeups());
        self.turns_until(self.engine.now_ns() + ns(hold) / 2)?;
        let after = (self.read(), wakeups());
        self.memory(
            |measured, memory| {
                measured.memory_connected = memory.resident;
                measured.memory_peak = memory.peak;
            },
            result,
        );
        let span_ns = after.0.at_ns - before.0.at_ns;
        let idle_ns = after.0.broker_ns.saturating_sub(before.0.broker_ns);
        result.measured.idle_cpu_share = share(idle_ns, span_ns);
        result.measured.idle_wakeups_per_s = per_second(after.1.saturating_sub(before.1), span_ns);
        Ok(())
    }

    /// retained: all messages are stored when they are acknowledged.
    fn store_retained(&mut self) -> Result<(), Error> {
        self.engine.set_due(Due::Everything);
        let Course::Retained { messages } = self.engine.plan.course else { return Ok(()) };
        let end_ns = self.engine.now_ns() + ns(self.engine.plan.times.setup_max);
        while self.engine.sent() < u64::from(messages) || !self.engine.is_drained() {
            self.turn()?;
            if self.engine.now_ns() > end_ns {
                return Err(Error::Broker(
                    "the broker did not acknowledge all retained messages; \
                     --setup-max gives it more time"
                        .to_owned(),
                ));
            }
        }
        Ok(())
    }

    /// overload: finds out what the broker can do, offers more, and lets one subscriber stall.
    fn overload(&mut self, factor: f64) -> Result<f64, Error> {
        let warm_up_ns = ns(self.engine.plan.times.warm_up);
        let start_ns = self.engine.now_ns();
        self.engine.set_due(Due::Everything);
        self.turns_until(start_ns + warm_up_ns / RAMP_SHARE)?;
        let before = (self.engine.now_ns(), self.engine.stats.delivered_all);
        self.turns_until(start_ns + warm_up_ns)?;
        let after = (self.engine.now_ns(), self.engine.stats.delivered_all);
        let per_s = per_second(after.1 - before.1, after.0 - before.0) * factor;
        self.drain()?;
        if let Some(key) = self.engine.clients.first().and_then(|client| client.key) {
            self.engine.is_stalled = Some(0);
            self.net.pause(key).map_err(Error::system("stop reading"))?;
        }
        let inflight = self.engine.plan.acknowledges().then_some(self.engine.plan.inflight);
        for publisher in &mut self.engine.publishers {
            publisher.release(inflight);
        }
        self.engine.plan.pace = Pace::Open { per_s };
        let start_ns = self.engine.now_ns();
        let stop_ns = start_ns + ns(self.engine.plan.times.measure);
        self.engine.set_due(Due::Paced { start_ns, stop_ns, per_s });
        Ok(per_s)
    }

    /// Sends nothing more and waits for what is on its way, as long as something comes.
    fn drain(&mut self) -> Result<(), Error> {
        if let Due::Paced { .. } = self.engine.due {
            // What was due may still wait for the kernel or for acknowledgements.
        } else {
            self.engine.set_due(Due::Nothing);
        }
        self.engine.is_asking = false;
        if let Some(flood) = &mut self.engine.flood {
            flood.stop();
        }
        if matches!(self.engine.plan.course, Course::Persistent { .. }) {
            self.engine.return_due(u64::MAX, &mut self.net)?;
        }
        let patience_ns = ns(self.engine.plan.times.drain_max);
        let mut last = (self.engine.now_ns(), self.engine.stats.delivered_all);
        while !self.is_done() {
            self.turn()?;
            self.come_back(u64::MAX)?;
            let (now_ns, delivered) = (self.engine.now_ns(), self.engine.stats.delivered_all);
            if delivered != last.1 {
                last = (now_ns, delivered);
            } else if now_ns - last.0 > patience_ns {
                break;
            }
        }
        Ok(())
    }

    fn is_done(&self) -> bool {
        match self.engine.plan.course {
            Course::Retained { .. } => {
                self.engine.clients.iter().all(|client| client.seen.is_empty())
            }
            Course::Persistent { .. } => self.engine.is_complete() && self.engine.is_drained(),
            Course::Steady | Course::Connect { .. } | Course::Overload { .. } => {
                self.engine.is_drained()
            }
        }
    }

    fn come_back(&mut self, now_ns: u64) -> Result<(), Error> {
        if matches!(self.engine.plan.course, Course::Persistent { .. }) {
            self.engine.return_due(now_ns, &mut self.net)?;
        }
        Ok(())
    }

    fn turns_until(&mut self, end_ns: u64) -> Result<(), Error> {
        let mut next_cut_ns = self.engine.now_ns();
        let mut next_cut = 0;
        loop {
            let now_ns = self.engine.now_ns();
            if now_ns >= end_ns {
                return Ok(());
            }
            if let Course::Persistent { period, away } = self.engine.plan.course
                && now_ns >= next_cut_ns
            {
                let subscribers = self.engine.plan.subscribers();
                self.engine.cut(next_cut % subscribers, now_ns + ns(away), self.net.outs());
                next_cut += 1;
                next_cut_ns = now_ns + ns(period);
            }
            self.come_back(now_ns)?;
            self.turn()?;
        }
    }

    /// One look at everything, then sleep for what is left of the tick.
    fn turn(&mut self) -> Result<(), Error> {
        let start_ns = self.engine.now_ns();
        self.engine.pump(self.net.outs());
        self.net
            .turn(Some(Duration::ZERO), &mut self.engine)
            .map_err(Error::system("send and receive"))?;
        if let Some(error) = self.engine.failure.take() {
            return Err(error);
        }
        let now_ns = self.engine.now_ns();
        if self.progress && now_ns - self.told_ns >= PROGRESS_NS {
            self.told_ns = now_ns;
            eprintln!(
                "  {:6.1} s  {} of {} clients, {} sent, {} delivered",
                seconds(now_ns),
                self.engine.ready_count.min(self.engine.clients.len()),
                self.engine.clients.len(),
                self.engine.sent(),
                self.engine.stats.delivered_all,
            );
        }
        let tick_ns = ns(self.engine.plan.times.tick);
        if let Some(rest) = (start_ns + tick_ns).checked_sub(now_ns).filter(|rest| *rest > 0) {
            thread::sleep(Duration::from_nanos(rest));
        }
        Ok(())
    }

    fn read(&self) -> Reading {
        Reading {
            at_ns: self.engine.now_ns(),
            broker_ns: self.target.process.as_ref().map_or(0, Process::cpu_ns),
            own_ns: Process::own().cpu_ns(),
            ticks: Ticks::now(),
            sent: self.engine.sent(),
            flood: self.engine.flood.as_ref().map_or((0, 0), Flood::counts),
        }
    }

    fn memory(
        &self,
        put: impl FnOnce(&mut Measured, crate::measure::process::Memory),
        result: &mut RunResult,
    ) {
        if let Some(process) = &self.target.process {
            put(&mut result.measured, process.memory());
        }
    }

    fn measured_between(&self, before: Reading, after: Reading) -> Measured {
        let span_ns = after.at_ns.saturating_sub(before.at_ns);
        let broker_ns = after.broker_ns.saturating_sub(before.broker_ns);
        let own_ns = after.own_ns.saturating_sub(before.own_ns);
        Measured {
            window_s: seconds(span_ns),
            sent: after.sent - before.sent,
            flood_sent_per_s: per_second(after.flood.0 - before.flood.0, span_ns),
            flood_delivered_per_s: per_second(after.flood.1 - before.flood.1, span_ns),
            broker_cpu_ns: broker_ns,
            broker_cpu_share: share(broker_ns, span_ns),
            load_cpu_share: share(own_ns, span_ns),
            noise: self.noise(before, after, broker_ns + own_ns),
            ..Measured::default()
        }
    }

    /// What others took; nobody knows that if the broker's process is not known.
    fn noise(&self, before: Reading, after: Reading, own_ns: u64) -> Noise {
        let noise = Noise::between(before.ticks, after.ticks, own_ns);
        if self.target.process.is_some() { noise } else { Noise { others: 0.0, ..noise } }
    }

    /// What counts whether the run is whole or not.
    fn collect(&self, result: &mut RunResult) {
        let engine = &self.engine;
        let measured = &mut result.measured;
        if !matches!(engine.plan.course, Course::Connect { .. }) {
            measured.delivered = engine.stats.delivered;
        }
        measured.sent_all = engine.sent();
        measured.delivered_all = engine.stats.delivered_all;
        measured.connections = engine.ready_count.min(engine.clients.len()) as u64;
        measured.latency = engine.stats.latency();
        measured.series = engine.stats.series().to_vec();
        measured.faults = engine.faults;
        measured.lost_stalled = engine.lost_stalled;
        let max = u32::from(engine.receive_maximum);
        measured.window_granted = result.window.filter(|window| *window > max).map(|_| max);
        measured.derive();
    }
}

fn ns(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[expect(clippy::cast_precision_loss, reason = "seconds to some places")]
pub(crate) fn seconds(ns: u64) -> f64 {
    ns as f64 / 1e9
}

#[expect(clippy::cast_precision_loss, reason = "a rate to some places")]
pub(crate) fn per_second(count: u64, span_ns: u64) -> f64 {
    if span_ns == 0 { 0.0 } else { count as f64 * 1e9 / span_ns as f64 }
}

#[expect(clippy::cast_precision_loss, reason = "a share to some places")]
fn share(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}
