//! What a run found, as it is written, read again and shown.

pub(crate) mod comparison;
pub(crate) mod html;
pub(crate) mod json;
mod svg;
pub(crate) mod table;

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::cli::Knobs;
use crate::error::Error;
use crate::load::stats::Latency;
use crate::load::verify::Faults;
use crate::measure::machine::Noise;
use crate::plan::{Pace, Plan, Scenario};

/// Writes a report.
pub(crate) fn write(path: &Path, text: &str) -> Result<(), Error> {
    std::fs::write(path, text).map_err(|source| Error::File { path: path.to_owned(), source })
}

#[expect(clippy::cast_precision_loss, reason = "shown to some places")]
pub(crate) fn bytes(count: u64) -> f64 {
    count as f64
}

/// One run of one broker.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct RunResult {
    pub(crate) scenario: Scenario,
    pub(crate) broker: String,
    pub(crate) publishers: usize,
    pub(crate) subscribers: usize,
    pub(crate) fanout: u32,
    pub(crate) qos: u8,
    pub(crate) payload_bytes: usize,
    pub(crate) protocol: String,
    /// Outstanding messages of each publisher, in a closed loop.
    pub(crate) window: Option<u32>,
    /// Messages a second of all publishers, in an open loop.
    pub(crate) rate: Option<f64>,
    /// As they were typed.
    pub(crate) knobs: Knobs,
    pub(crate) measured: Measured,
    /// Why the figures are partial, if they are, or which promise was broken.
    pub(crate) error: Option<String>,
}

/// Above this share of its core the load generator may be what limits a run.
pub(crate) const LOAD_SHARE_MAX: f64 = 0.9;

/// Figures of the measured window, unless they say otherwise. For `connect` the window is the storm
/// and a delivery is a client that is ready.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Measured {
    pub(crate) setup_s: f64,
    pub(crate) window_s: f64,
    pub(crate) connections: u64,
    pub(crate) sent: u64,
    pub(crate) delivered: u64,
    /// Of the whole run, warm-up and drain included.
    pub(crate) sent_all: u64,
    pub(crate) delivered_all: u64,
    pub(crate) delivered_per_s: f64,
    /// The broker's Receive Maximum, if it is smaller than the window that was asked for.
    pub(crate) window_granted: Option<u32>,
    /// overload: messages a second that were offered.
    pub(crate) offered_per_s: f64,
    /// Messages a second of a disturbance: sent, and delivered to the one of its two subscribers
    /// that reads.
    pub(crate) flood_sent_per_s: f64,
    pub(crate) flood_delivered_per_s: f64,
    pub(crate) latency: Latency,
    /// Deliveries in each tenth of a second.
    pub(crate) series: Vec<u64>,
    pub(crate) faults: Faults,
    /// overload: of what was lost, what the subscriber that does not read did not get.
    pub(crate) lost_stalled: u64,
    pub(crate) broker_cpu_ns: u64,
    /// Cores' worth of time.
    pub(crate) broker_cpu_share: f64,
    pub(crate) load_cpu_share: f64,
    pub(crate) cpu_us_per_delivery: f64,
    pub(crate) idle_cpu_share: f64,
    /// connect: how often a thread of the broker was woken while all connections were idle.
    pub(crate) idle_wakeups_per_s: f64,
    pub(crate) syscalls_per_delivery: Option<f64>,
    pub(crate) noise: Noise,
    /// Bytes: before the first connection, with all of them, at most.
    pub(crate) memory_before: u64,
    pub(crate) memory_connected: u64,
    pub(crate) memory_peak: u64,
    pub(crate) memory_per_connection: f64,
}

impl RunResult {
    pub(crate) fn new(plan: &Plan, broker: &str) -> Self {
        let (window, rate) = match plan.pace {
            Pace::Closed { window } => (Some(window), None),
            Pace::Open { per_s } => (None, Some(per_s)),
        };
        Self {
            scenario: plan.scenario,
            broker: broker.to_owned(),
            publishers: plan.publishers.len(),
            subscribers: plan.subscribers(),
            fanout: plan.fanout,
            qos: plan.qos.bits(),
            payload_bytes: plan.payload_bytes,
            protocol: plan.knobs.protocol.clone().unwrap_or_else(|| "3.1.1".to_owned()),
            window,
            rate,
            knobs: plan.knobs.clone(),
            measured: Measured::default(),
            error: None,
        }
    }
}

impl Measured {
    /// Takes over what was read at both ends of the window.
    pub(crate) fn fill(&mut self, window: &Self) {
        self.window_s = window.window_s;
        self.sent = window.sent;
        self.flood_sent_per_s = window.flood_sent_per_s;
        self.flood_delivered_per_s = window.flood_delivered_per_s;
        self.broker_cpu_ns = window.broker_cpu_ns;
        self.broker_cpu_share = window.broker_cpu_share;
        self.load_cpu_share = window.load_cpu_share;
        self.noise = window.noise;
    }

    /// What follows from the other figures.
    #[expect(clippy::cast_precision_loss, reason = "figures to some places")]
    pub(crate) fn derive(&mut self) {
        let delivered = self.delivered as f64;
        if self.window_s > 0.0 {
            self.delivered_per_s = delivered / self.window_s;
        }
        if self.delivered > 0 {
            self.cpu_us_per_delivery = self.broker_cpu_ns as f64 / 1e3 / delivered;
        }
        if self.connections > 0 {
            let grown = self.memory_connected.saturating_sub(self.memory_before);
            self.memory_per_connection = grown as f64 / self.connections as f64;
        }
    }
}
