//! One run from start to end: the plan, the broker, the load, the broker's end.

use crate::brokers::Choice;
use crate::cli::{Io, Knobs, Place};
use crate::error::Error;
use crate::load;
use crate::net::epoll::Epoll;
use crate::net::uring::Uring;
use crate::pin::Cores;
use crate::plan::{self, Plan, Scenario};
use crate::report::RunResult;

/// Longest window under strace: it is slow, and a ratio needs few deliveries.
const TRACED_S: f64 = 2.0;

/// Says what does not fit together before anything is started.
pub(crate) fn check(
    choice: &Choice,
    scenario: Scenario,
    place: &Place,
    knobs: &Knobs,
) -> Result<(), Error> {
    let plan = plan::plan(scenario, choice.wire(), knobs)?;
    load::check(&plan)?;
    choice.check(place)
}

/// Runs it. The result is there even if the run failed midway; an error before that comes alone.
pub(crate) fn run(
    choice: &Choice,
    scenario: Scenario,
    place: &Place,
    knobs: &Knobs,
    progress: bool,
) -> Result<(RunResult, Result<(), Error>), Error> {
    let plan = plan::plan(scenario, choice.wire(), knobs)?;
    let (mut result, outcome) = execute(choice, plan, place, knobs, progress)?;
    if knobs.syscalls && outcome.is_ok() {
        let calls = traced(choice, scenario, place, knobs)?;
        result.measured.syscalls_per_delivery = calls;
    }
    Ok((result, outcome))
}

/// A short run of its own under strace.
pub(crate) fn traced(
    choice: &Choice,
    scenario: Scenario,
    place: &Place,
    knobs: &Knobs,
) -> Result<Option<f64>, Error> {
    let duration = knobs.duration.unwrap_or(TRACED_S).min(TRACED_S);
    let knobs = Knobs { duration: Some(duration), ..knobs.clone() };
    let mut plan = plan::plan(scenario, choice.wire(), &knobs)?;
    plan.is_traced = true;
    let (result, outcome) = execute(choice, plan, place, &knobs, false)?;
    outcome.map(|()| result.measured.syscalls_per_delivery)
}

fn execute(
    choice: &Choice,
    plan: Plan,
    place: &Place,
    knobs: &Knobs,
    progress: bool,
) -> Result<(RunResult, Result<(), Error>), Error> {
    // Before the broker starts: it inherits the limit of file descriptors.
    load::check(&plan)?;
    let broker = choice.start(place, knobs)?;
    if !place.no_pin {
        Cores::parse(&place.load_cores, "--load-cores")?.bind("--load-cores")?;
    }
    Ok(match knobs.io.unwrap_or(Io::Epoll) {
        Io::Epoll => {
            let net = Epoll::new().map_err(Error::system("make an epoll"))?;
            load::run(net, plan, &broker.target, progress)
        }
        Io::Uring => {
            let net = Uring::new().map_err(Error::system("make an io_uring"))?;
            load::run(net, plan, &broker.target, progress)
        }
    })
}
