//! What is counted while a run goes on. Lives on the load thread.

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

/// Length of one point of the series over time.
pub(crate) const BUCKET_NS: u64 = 100_000_000;

/// Longest latency that is told apart, 10 minutes; more counts as that.
const LATENCY_NS_MAX: u64 = 600_000_000_000;

/// Deliveries and their latency in the measured window.
#[derive(Debug)]
pub(crate) struct Stats {
    /// The window, on the run's clock; empty until it is known.
    from_ns: u64,
    to_ns: u64,
    latency: Histogram<u64>,
    /// Within the window.
    pub(crate) delivered: u64,
    /// Of the whole run; duplicates are not in it.
    pub(crate) delivered_all: u64,
    series: Vec<u64>,
}

impl Stats {
    pub(crate) fn new() -> Self {
        let latency = Histogram::new_with_bounds(100, LATENCY_NS_MAX, 3)
            .expect("fixed bounds that the histogram allows");
        Self {
            from_ns: u64::MAX,
            to_ns: u64::MAX,
            latency,
            delivered: 0,
            delivered_all: 0,
            series: Vec::new(),
        }
    }

    pub(crate) fn measure(&mut self, from_ns: u64, to_ns: u64) {
        (self.from_ns, self.to_ns) = (from_ns, to_ns);
        let buckets = to_ns.saturating_sub(from_ns).div_ceil(BUCKET_NS);
        self.series = vec![0; usize::try_from(buckets).unwrap_or(0)];
    }

    /// A message that was meant to be sent at `intended_ns` is here.
    #[inline]
    pub(crate) fn delivered(&mut self, intended_ns: u64, now_ns: u64) {
        self.delivered_all += 1;
        if now_ns >= self.from_ns && now_ns < self.to_ns {
            self.delivered += 1;
            let bucket = (now_ns - self.from_ns) / BUCKET_NS;
            if let Some(count) = usize::try_from(bucket).ok().and_then(|at| self.series.get_mut(at))
            {
                *count += 1;
            }
        }
        if intended_ns >= self.from_ns && intended_ns < self.to_ns {
            self.latency.saturating_record(now_ns.saturating_sub(intended_ns));
        }
    }

    /// A latency that belongs to no message: of a connect, for example.
    pub(crate) fn record(&mut self, latency_ns: u64) {
        self.latency.saturating_record(latency_ns);
    }

    pub(crate) fn latency(&self) -> Latency {
        Latency::of(&self.latency)
    }

    /// Deliveries in each [`BUCKET_NS`] of the window.
    pub(crate) fn series(&self) -> &[u64] {
        &self.series
    }
}

/// Percentiles in microseconds.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Latency {
    pub(crate) count: u64,
    pub(crate) mean_us: f64,
    pub(crate) p50_us: f64,
    pub(crate) p90_us: f64,
    pub(crate) p99_us: f64,
    pub(crate) p99_9_us: f64,
    pub(crate) p99_99_us: f64,
    pub(crate) max_us: f64,
    /// Pairs of percentile and microseconds, for plots.
    pub(crate) curve: Vec<(f64, f64)>,
}

/// Percentiles of the curve: each step halves what is left.
const CURVE: [f64; 15] =
    [0.0, 25.0, 50.0, 75.0, 87.5, 90.0, 95.0, 97.5, 99.0, 99.5, 99.9, 99.95, 99.99, 99.999, 100.0];

impl Latency {
    fn of(latency: &Histogram<u64>) -> Self {
        let at = |percentile: f64| us(latency.value_at_percentile(percentile));
        Self {
            count: latency.len(),
            mean_us: latency.mean() / 1e3,
            p50_us: at(50.0),
            p90_us: at(90.0),
            p99_us: at(99.0),
            p99_9_us: at(99.9),
            p99_99_us: at(99.99),
            max_us: us(latency.max()),
            curve: CURVE.iter().map(|percentile| (*percentile, at(*percentile))).collect(),
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "microseconds to three places are enough")]
fn us(ns: u64) -> f64 {
    ns as f64 / 1e3
}
