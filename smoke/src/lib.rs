//! Runs the scenarios of `smoke/scenarios` on a supported systemd host: one that it builds and boots in QEMU
//! ([`host`]), or this machine (`--local`).
//!
//! ```text
//! scenarios ─┐
//! programs ──┤                      ┌─ ssh root: remember what the host has
//! fixture ───┼─▶ payload ─▶ host ─▶ ┼─ ssh dev|root: the scenario        ─▶ report.json, logs, journal
//! stores ────┘   (a disk)   (QEMU)  └─ ssh root: compare, nothing may be left
//! ```
//!
//! It knows nothing of the product but the names of its programs and two of its commands. What is checked is in the
//! scenarios, which a person can read and run one by one. Next: [`suite`].

pub mod args;
pub mod boundary;
mod bounded;
mod digest;
pub mod error;
mod fixture;
mod host;
pub mod layout;
mod payload;
mod peer;
mod place;
mod report;
mod scenario;
mod shell;
pub mod store;
mod suite;
mod ui;

use std::process::ExitCode;

use args::{Cli, Command};
use error::Result;

/// Does what was asked for. 0: all passed; 1: something did not.
pub fn main(cli: &Cli) -> ExitCode {
    match perform(cli) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            ui::problem(&error);
            ExitCode::FAILURE
        }
    }
}

fn perform(cli: &Cli) -> Result<bool> {
    let layout = layout::Layout::find()?;
    match &cli.command {
        Command::Run(asked) if asked.list => {
            scenario::discover(&layout)?.iter().for_each(ui::listed);
            Ok(true)
        }
        Command::Run(asked) => suite::run(&layout, asked),
        Command::Shell(asked) => shell::run(&layout, asked).map(|()| true),
        Command::Build => {
            let _lock = layout.begin()?;
            host::image::ensure(&layout).map(|_| true)
        }
    }
}
