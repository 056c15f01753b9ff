//! One scenario on a host that is up.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::bounded::{self, Ended};
use crate::error::Result;
use crate::layout::Layout;
use crate::place::Place;
use crate::report::{self, Outcome, Ran};
use crate::scenario::{Phase, Scenario, Stage, User};

/// For what is done around a scenario.
pub const STEP_LIMIT: Duration = Duration::from_secs(90);
/// A scenario that says why it cannot be tried exits with this, as in automake.
const SKIPPED: i32 = 77;

/// Where scenarios run and with what.
#[derive(Debug)]
pub struct Stand<'a> {
    /// For logs.
    pub layout: &'a Layout,
    /// The host.
    pub place: &'a Place,
    /// Kernel and image, below the payload.
    pub names: [String; 2],
    /// Whether what the host has now is what was remembered as "before".
    pub is_remembered: &'a Cell<bool>,
}

impl Stand<'_> {
    /// Runs one scenario between two looks at the host; what it left behind fails it.
    pub fn perform(&self, scenario: &Scenario) -> Result<Ran> {
        let log = self.layout.logs().join(format!("{}.log", scenario.name));
        let payload = self.place.payload().display().to_string();
        let leaks = |verb: &str, snapshot: &str| {
            let script = format!("bash {payload}/scenarios/lib/leaks {verb} {snapshot}");
            bounded::run(&mut self.place.command(User::Root, STEP_LIMIT, &script), &log)
        };
        // What the install stage changes must be gone after the uninstall stage; every other scenario cleans up itself.
        let baseline = match scenario.stage {
            Stage::Host | Stage::Daily | Stage::Faults => "before",
            Stage::Install | Stage::Uninstall => "installation",
        };
        match scenario.stage {
            // The last look found the host as it was: no need for another.
            Stage::Host | Stage::Daily | Stage::Faults if self.is_remembered.get() => {}
            Stage::Host | Stage::Daily | Stage::Faults => _ = leaks("remember", baseline)?,
            Stage::Install => _ = leaks("keep", baseline)?,
            Stage::Uninstall => {}
        }
        let started = Instant::now();
        let ended = self.run_phases(scenario, &log)?;
        let seconds = started.elapsed().as_secs_f64();
        let printed = bounded::end(&log);
        let left = scenario.stage != Stage::Install && leaks("compare", baseline)? != Ended::With(0);
        self.is_remembered.set(baseline == "before" && !left);
        let (outcome, reason) = match ended {
            Ended::With(0) if left => (Outcome::Failed, Some(bounded::end(&log))),
            Ended::With(0) => (Outcome::Passed, None),
            Ended::With(SKIPPED) => (Outcome::Skipped, printed.lines().last().map(str::to_owned)),
            Ended::With(status) => (Outcome::Failed, Some(format!("{printed}\nexit status {status}"))),
            Ended::AtTheLimit => {
                (Outcome::Failed, Some(format!("{printed}\nnot within {} s", scenario.limit.as_secs())))
            }
        };
        let text = fs::read(&log).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default();
        let measurements = report::measurements(&text);
        Ok(Ran { outcome, seconds, reason, measurements, ..failed(self.layout, scenario, String::new()) })
    }

    /// Runs its script, once or on each side of a reboot; what ends badly ends it.
    fn run_phases(&self, scenario: &Scenario, log: &Path) -> Result<Ended> {
        let mut ended = Ended::With(0);
        for &phase in scenario.phases {
            if phase == Phase::After {
                self.place.reboot(self.layout)?;
            }
            ended = self.run_phase(scenario, phase, log)?;
            if ended != Ended::With(0) {
                break;
            }
        }
        Ok(ended)
    }

    fn run_phase(&self, scenario: &Scenario, phase: Phase, log: &Path) -> Result<Ended> {
        let payload = self.place.payload().display().to_string();
        let [kernel, image] = &self.names;
        let script = format!(
            "export SMOKE={payload} SMOKE_OWNER={owner} SMOKE_KERNEL={payload}/{kernel} SMOKE_IMAGE={payload}/{image} \
             SMOKE_MICROVM={payload}/microvm SMOKE_PEER={payload}/peer SMOKE_PHASE={phase}; \
             timeout --kill-after=10 {limit} bash {payload}/scenarios/{name}.sh",
            owner = self.place.owner(),
            phase = phase.name(),
            limit = scenario.limit.as_secs(),
            name = scenario.name,
        );
        bounded::run(&mut self.place.command(scenario.runs_as, scenario.limit + STEP_LIMIT, &script), log)
    }
}

/// Not run, or not to its end.
pub fn failed(layout: &Layout, scenario: &Scenario, reason: String) -> Ran {
    Ran {
        name: scenario.name.clone(),
        claim: scenario.claim.clone(),
        user: scenario.runs_as.name(),
        outcome: Outcome::Failed,
        seconds: 0.0,
        reason: Some(reason),
        measurements: BTreeMap::new(),
        log: layout.logs().join(format!("{}.log", scenario.name)),
    }
}
