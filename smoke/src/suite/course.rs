//! All scenarios in their order, on one host; on another one from where the first died.
//!
//! What is emulated together with its virtualisation can die of its emulator: a kernel panics in code that runs well on
//! hardware, a processor resets or sleeps for ever (docs/decisions/0004-smoke-host.md). That says nothing about what was
//! being shown, so a scenario that failed under such a death, of the host or of a guest's kernel, is tried again, the
//! host's on another host with banger installed. It is said and reported, and any other failure counts. With real
//! virtualisation there is no such excuse.

use std::cell::Cell;
use std::time::{Duration, Instant};

use super::perform::{Stand, failed};
use crate::error::Result;
use crate::host::accelerator::Accelerator;
use crate::layout::Layout;
use crate::payload::Parts;
use crate::place::Place;
use crate::report::{Outcome, Ran};
use crate::scenario::{Need, Scenario, Stage};
use crate::ui;

/// For all scenarios together.
const RUN_LIMIT: Duration = Duration::from_secs(3600);
/// More than that is no accident, nor is one scenario under which it happens so often.
const MOST_DEATHS: usize = 12;
const MOST_DEATHS_A_SCENARIO: usize = 3;

/// From a reset to the first words of the next kernel.
const RESET_PATIENCE: Duration = Duration::from_secs(20);

/// What `vm_gone` of the scenarios prints of a guest whose console ends in a panic, that reset or stands still.
const GUEST_DIED: &str = "guest died: ";
/// What banger says of one that reset while it booted.
const RESET_AT_BOOT: &str = "ended before the guest was reachable";

/// Whose kernel.
#[derive(Debug, Clone, Copy)]
enum Death {
    Host,
    Guest,
}

impl Death {
    fn text(self) -> &'static str {
        match self {
            Self::Host => "the emulated host died",
            Self::Guest => "an emulated guest died",
        }
    }
}

/// See the module.
#[derive(Debug)]
pub struct Course<'a> {
    /// For logs.
    pub layout: &'a Layout,
    /// What goes into a host.
    pub parts: &'a Parts,
    /// What is to be shown.
    pub scenarios: &'a [Scenario],
    /// What cannot be had, and why.
    pub lacking: &'a [(Need, String)],
    /// The host; none if no other could be booted.
    pub place: Option<Place>,
    /// Under which scenarios what died.
    pub deaths: Vec<String>,
}

impl Course<'_> {
    /// Runs them. A scenario's failure stops no other.
    pub fn run(&mut self) -> Vec<Ran> {
        let deadline = Instant::now() + RUN_LIMIT;
        let remembered = Cell::new(false);
        let mut all = Vec::new();
        for scenario in self.scenarios {
            let mut ran = self.one(scenario, &remembered, deadline);
            while let (Outcome::Failed, Some(death)) = (ran.outcome, self.death(&ran)) {
                ui::ran(&ran);
                ui::step(&format!("{}; {} is tried again", death.text(), scenario.name));
                self.deaths.push(format!("{}: {}", scenario.name, death.text()));
                remembered.set(false);
                let ready = match death {
                    Death::Host => self.replace_host(scenario, &remembered, deadline),
                    Death::Guest => Ok(()),
                };
                ran = match ready {
                    Ok(()) => self.one(scenario, &remembered, deadline),
                    Err(error) => failed(self.layout, scenario, error.to_string()),
                };
            }
            ui::ran(&ran);
            all.push(ran);
        }
        all
    }

    fn one(&self, scenario: &Scenario, remembered: &Cell<bool>, deadline: Instant) -> Ran {
        let fail = |reason: String| failed(self.layout, scenario, reason);
        if let Some((_, reason)) = self.lacking.iter().find(|(need, _)| scenario.needs.contains(need)) {
            return fail(reason.clone());
        }
        if Instant::now() > deadline {
            return fail("the whole run took too long".to_owned());
        }
        let Some(place) = &self.place else { return fail("there is no host any more".to_owned()) };
        let stand = Stand { layout: self.layout, place, names: self.parts.names(), is_remembered: remembered };
        stand.perform(scenario).unwrap_or_else(|error| fail(error.to_string()))
    }

    /// Which emulated kernel died under a scenario, if one did.
    fn death(&self, ran: &Ran) -> Option<Death> {
        let Some(Place::Virtual(machine)) = &self.place else { return None };
        let here = self.deaths.iter().filter(|death| death.split(':').next() == Some(&ran.name)).count();
        let too_often = self.deaths.len() >= MOST_DEATHS || here >= MOST_DEATHS_A_SCENARIO;
        if machine.accelerator != Accelerator::Tcg || too_often {
            return None;
        }
        if machine.has_died() || !machine.answers() {
            return Some(Death::Host);
        }
        // A processor that resets says nothing; its next kernel does, a moment later.
        let cut_off = ran.reason.as_ref().is_some_and(|reason| reason.ends_with("exit status 255"));
        let give_up = Instant::now() + if cut_off { RESET_PATIENCE } else { Duration::ZERO };
        while Instant::now() < give_up {
            if machine.has_died() {
                return Some(Death::Host);
            }
            std::thread::sleep(Duration::from_millis(500));
        }
        let said = std::fs::read(&ran.log).unwrap_or_default();
        let said = String::from_utf8_lossy(&said);
        let guest = said.lines().any(|line| line.starts_with(GUEST_DIED) || line.contains(RESET_AT_BOOT));
        guest.then_some(Death::Guest)
    }

    /// Another host, in the state in which `scenario` finds one.
    fn replace_host(&mut self, scenario: &Scenario, remembered: &Cell<bool>, deadline: Instant) -> Result<()> {
        if let Some(Place::Virtual(machine)) = self.place.take() {
            machine.keep_last_words(self.layout, self.deaths.len())?;
        }
        self.place = Some(super::boot(self.layout, self.parts)?);
        let install = |before: &&Scenario| before.stage == Stage::Install && scenario.stage > Stage::Install;
        for before in self.scenarios.iter().filter(install) {
            let ran = self.one(before, remembered, deadline);
            if ran.outcome == Outcome::Failed {
                ui::ran(&ran);
            }
        }
        Ok(())
    }
}
