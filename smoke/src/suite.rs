//! One run: gather what goes in, bring up the host, run the scenarios, report. A scenario's failure stops no other.

use std::collections::BTreeMap;
use std::fs;
use std::time::{Duration, Instant};

use crate::args::{Given, Run};
use crate::bounded::{self, Ended};
use crate::error::Result;
use crate::fixture;
use crate::host::{image, machine::Machine};
use crate::layout::{Layout, empty};
use crate::payload::{self, Parts};
use crate::place::Place;
use crate::report::{self, Host, Outcome, Ran, Report};
use crate::scenario::{self, Need, Scenario, Stage, User};
use crate::store::{self, Kind};
use crate::ui;

/// For all scenarios together.
const RUN_LIMIT: Duration = Duration::from_secs(3600);
/// For what is done around a scenario.
const STEP_LIMIT: Duration = Duration::from_secs(90);
/// A scenario that says why it cannot be tried exits with this, as in automake.
const SKIPPED: i32 = 77;

/// Runs what was asked for; true if all is well.
pub fn run(layout: &Layout, asked: &Run) -> Result<bool> {
    let scenarios = scenario::select(scenario::discover(layout)?, &asked.scenario)?;
    let _lock = layout.begin()?;
    let (parts, lacking) = gather(layout, &asked.given, &needs_of(&scenarios))?;
    let place = if asked.local { local(layout, &parts, &asked.owner) } else { boot(layout, &parts) };
    let report = match place {
        Ok(place) => {
            let report = Report { host: Some(host(&place)), scenarios: run_all(layout, &place, &scenarios, &lacking) };
            keep_journal(layout, &place);
            report
        }
        Err(error) => {
            ui::problem(&error);
            let down = |scenario| failed(layout, scenario, "the host did not come up".to_owned());
            Report { host: None, scenarios: scenarios.iter().map(down).collect() }
        }
    };
    report.write(&layout.cache("report.json"))?;
    ui::step(&format!("report: {}", layout.cache("report.json").display()));
    ui::totals(&report.scenarios);
    Ok(report.is_good())
}

/// Everything the scenarios need, as far as it can be had; and why the rest cannot.
pub fn gather(layout: &Layout, given: &Given, needs: &[Need]) -> Result<(Parts, Vec<(Need, String)>)> {
    let mut lacking = Vec::new();
    let mut store = |need, kind| {
        if !needs.contains(&need) {
            return None;
        }
        match given.store.clone().map_or_else(|| store::ensure(layout, kind), Ok) {
            Ok(directory) => Some(directory),
            Err(error) => {
                ui::problem(&error);
                lacking.push((need, format!("there is no {} for it: {error}", kind.word())));
                None
            }
        }
    };
    let (kernels, images) = (store(Need::Kernel, Kind::Kernel), store(Need::Image, Kind::Image));
    let missing = payload::missing_programs(layout);
    if !missing.is_empty() {
        lacking.push((Need::Programs, format!("not built: {} (run `make build`)", missing.join(", "))));
    }
    let fixture = Some(given.fixture.clone().map_or_else(|| fixture::ensure(layout), Ok)?);
    Ok((Parts { fixture, kernels, images }, lacking))
}

/// The host in QEMU, with the payload in it.
pub fn boot(layout: &Layout, parts: &Parts) -> Result<Place> {
    let image = image::ensure(layout)?;
    let directory = layout.run("payload");
    empty(&directory)?;
    payload::assemble(layout, parts, &directory)?;
    let disk = payload::pack(layout, &directory)?;
    ui::step("booting the test host");
    let machine = Machine::boot(layout, &image, &disk)?;
    let (ssh, running) = (machine.until_ssh.as_secs_f64(), machine.until_running.as_secs_f64());
    ui::step(&format!("up ({}): sshd after {ssh:.1} s, running after {running:.1} s", machine.accelerator.name()));
    Ok(Place::Virtual(Box::new(machine)))
}

fn local(layout: &Layout, parts: &Parts, owner: &str) -> Result<Place> {
    let place = Place::here(owner)?;
    payload::assemble(layout, parts, &place.payload())?;
    Ok(place)
}

fn needs_of(scenarios: &[Scenario]) -> Vec<Need> {
    scenarios.iter().flat_map(|scenario| scenario.needs.iter().copied()).collect()
}

fn run_all(layout: &Layout, place: &Place, scenarios: &[Scenario], lacking: &[(Need, String)]) -> Vec<Ran> {
    let deadline = Instant::now() + RUN_LIMIT;
    let one = |scenario: &Scenario| {
        let lack = lacking.iter().find(|(need, _)| scenario.needs.contains(need));
        let ran = match lack {
            Some((_, reason)) => failed(layout, scenario, reason.clone()),
            None if Instant::now() > deadline => failed(layout, scenario, "the whole run took too long".to_owned()),
            None => {
                run_one(layout, place, scenario).unwrap_or_else(|error| failed(layout, scenario, error.to_string()))
            }
        };
        ui::ran(&ran);
        ran
    };
    scenarios.iter().map(one).collect()
}

fn run_one(layout: &Layout, place: &Place, scenario: &Scenario) -> Result<Ran> {
    let log = layout.logs().join(format!("{}.log", scenario.name));
    let payload = place.payload().display().to_string();
    let leaks = |verb: &str, snapshot: &str| {
        let script = format!("bash {payload}/scenarios/lib/leaks {verb} {snapshot}");
        bounded::run(&mut place.command(User::Root, STEP_LIMIT, &script), &log)
    };
    // What the install stage changes must be gone after the uninstall stage; every other scenario cleans up itself.
    let (remember, compare) = match scenario.stage {
        Stage::Host | Stage::Daily => (Some(scenario.name.as_str()), Some(scenario.name.as_str())),
        Stage::Install => (Some("installation"), None),
        Stage::Uninstall => (None, Some("installation")),
    };
    if let Some(snapshot) = remember {
        leaks("remember", snapshot)?;
    }
    let started = Instant::now();
    let script = format!(
        "export SMOKE={payload} SMOKE_OWNER={owner} SMOKE_KERNEL={payload}/kernels/{kernel} \
         SMOKE_IMAGE={payload}/images/{image}; timeout --kill-after=10 {limit} bash {payload}/scenarios/{name}.sh",
        owner = place.owner(),
        kernel = store::KERNEL,
        image = store::IMAGE,
        limit = scenario.limit.as_secs(),
        name = scenario.name,
    );
    let ended = bounded::run(&mut place.command(scenario.runs_as, scenario.limit + STEP_LIMIT, &script), &log)?;
    let seconds = started.elapsed().as_secs_f64();
    let printed = bounded::end(&log);
    let left = match compare {
        Some(snapshot) => leaks("compare", snapshot)? != Ended::With(0),
        None => false,
    };
    let (outcome, reason) = match ended {
        Ended::With(0) if left => (Outcome::Failed, Some(bounded::end(&log))),
        Ended::With(0) => (Outcome::Passed, None),
        Ended::With(SKIPPED) => (Outcome::Skipped, printed.lines().last().map(str::to_owned)),
        Ended::With(status) => (Outcome::Failed, Some(format!("{printed}\nexit status {status}"))),
        Ended::AtTheLimit => (Outcome::Failed, Some(format!("{printed}\nnot within {} s", scenario.limit.as_secs()))),
    };
    let text = fs::read(&log).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default();
    let measurements = report::measurements(&text);
    Ok(Ran { outcome, seconds, reason, measurements, ..failed(layout, scenario, String::new()) })
}

fn failed(layout: &Layout, scenario: &Scenario, reason: String) -> Ran {
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

fn host(place: &Place) -> Host {
    match place {
        Place::Virtual(machine) => Host {
            accelerator: machine.accelerator.name(),
            ssh_seconds: Some(machine.until_ssh.as_secs_f64()),
            running_seconds: Some(machine.until_running.as_secs_f64()),
        },
        Place::Here { .. } => Host { accelerator: "here", ssh_seconds: None, running_seconds: None },
    }
}

/// For whoever reads why something failed; a run without it is still a run.
fn keep_journal(layout: &Layout, place: &Place) {
    if let Place::Virtual(_) = place {
        let script = "journalctl --no-pager --output=short-precise";
        let log = layout.logs().join("journal.log");
        let _ = bounded::run(&mut place.command(User::Root, STEP_LIMIT, script), &log).inspect_err(ui::problem);
    }
}
