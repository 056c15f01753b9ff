//! The test host for a person: booted, with everything in it that can be had, gone when the shell ends.

use crate::args::Shell;
use crate::error::{Error, Result};
use crate::layout::Layout;
use crate::place::Place;
use crate::scenario::{Need, User};
use crate::suite;
use crate::ui;

/// Boots the host and gives the terminal to a shell in it.
pub fn run(layout: &Layout, asked: &Shell) -> Result<()> {
    let _lock = layout.begin()?;
    let (parts, lacking) = suite::gather(layout, &asked.given, &[Need::Kernel, Need::Image, Need::Programs])?;
    lacking.iter().for_each(|(_, reason)| ui::step(reason));
    let Place::Virtual(machine) = suite::boot(layout, &parts)? else { return Ok(()) };
    let user = if asked.user == User::Dev.name() { User::Dev } else { User::Root };
    ui::step("the payload is in /smoke; the machine ends with this shell");
    let mut command = machine.reach.interactive(user);
    let start = |source| Error::Start { program: "ssh".to_owned(), source };
    // How the person's last command ended is none of our business.
    command.status().map_err(start).map(|_| ())
}
