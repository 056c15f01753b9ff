//! One run: gather what goes in, bring up the host, run the scenarios, report. A scenario's failure stops no other.

mod course;
mod perform;

use crate::args::{Given, Run};
use crate::bounded;
use crate::error::Result;
use crate::fixture;
use crate::host::{image, machine::Machine};
use crate::layout::{Layout, empty};
use crate::payload::{self, Parts};
use crate::peer;
use crate::place::Place;
use crate::report::{Host, Report};
use crate::scenario::{self, Need, Scenario, User};
use crate::store::{self, Kind};
use crate::ui;

use course::Course;
use perform::{STEP_LIMIT, failed};

/// Runs what was asked for; true if all is well.
pub fn run(layout: &Layout, asked: &Run) -> Result<bool> {
    let scenarios = scenario::select(scenario::discover(layout)?, &asked.scenario)?;
    let _lock = layout.begin()?;
    let (parts, lacking) = gather(layout, &asked.given, &needs_of(&scenarios))?;
    let place = if asked.local { local(layout, &parts, &asked.owner) } else { boot(layout, &parts) };
    let report = match place {
        Ok(place) => {
            let host = Some(host(&place));
            let (parts, lacking) = (&parts, &lacking);
            let mut course =
                Course { layout, parts, scenarios: &scenarios, lacking, place: Some(place), deaths: Vec::new() };
            let ran = course.run();
            course.place.iter().for_each(|place| keep_journal(layout, place));
            Report { host, deaths: course.deaths, scenarios: ran }
        }
        Err(error) => {
            ui::problem(&error);
            let down = |scenario| failed(layout, scenario, "the host did not come up".to_owned());
            Report { host: None, deaths: Vec::new(), scenarios: scenarios.iter().map(down).collect() }
        }
    };
    report.write(&layout.cache("report.json"))?;
    if let Some(path) = &asked.measurements {
        report.write_measurements(path)?;
    }
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
        let found = match &given.store {
            Some(state) => store::find(state, kind),
            None => store::ensure(layout, kind),
        };
        match found {
            Ok(directory) => Some(directory),
            Err(error) => {
                ui::problem(&error);
                lacking.push((need, format!("there is no {} for it: {error}", kind.word())));
                None
            }
        }
    };
    let (kernel, image) = (store(Need::Kernel, Kind::Kernel), store(Need::Image, Kind::Image));
    let microvm_kernel = store(Need::MicrovmKernel, Kind::MicrovmKernel);
    let missing = payload::missing_programs(layout);
    if !missing.is_empty() {
        lacking.push((Need::Programs, format!("not built: {} (run `make build`)", missing.join(", "))));
    }
    let fixture = Some(given.fixture.clone().map_or_else(|| fixture::ensure(layout), Ok)?);
    let peer = needs.contains(&Need::Peer).then(|| peer::ensure(layout)).transpose();
    let peer = peer.unwrap_or_else(|error| {
        ui::problem(&error);
        lacking.push((Need::Peer, error.to_string()));
        None
    });
    Ok((Parts { fixture, kernel, microvm_kernel, image, peer }, lacking))
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
