//! Which QEMU runs the test host: the installed one if it is new enough, else that of the distribution's backports.
//!
//! An older one can run a vCPU into a half-patched kernel (fixed in QEMU 8.1, "accel/tcg: Always lock pages before
//! translation"); doubly emulated, some guests died of it (docs/decisions/0004-smoke-host.md). Nothing is
//! installed: it is unpacked into the cache by `smoke/emulator/fetch`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::bounded;
use crate::error::{Error, Result};
use crate::layout::{Layout, empty};
use crate::ui;

/// What is started where nothing better is to be had.
const INSTALLED: &str = "qemu-system-x86_64";
const FIXED_IN: (u32, u32) = (8, 1);
const LIMIT: Duration = Duration::from_secs(180);

/// The program to start.
///
/// # Errors
/// If the cache cannot be written; a download that fails is no error.
pub fn ensure(layout: &Layout) -> Result<PathBuf> {
    if version(Path::new(INSTALLED)).is_some_and(|found| found >= FIXED_IN) {
        return Ok(PathBuf::from(INSTALLED));
    }
    let directory = layout.cache("emulator");
    let program = directory.join("usr/bin").join(INSTALLED);
    if version(&program).is_some() {
        return Ok(program);
    }
    ui::step("downloading a newer QEMU (once)");
    let unfinished = directory.with_extension("unfinished");
    empty(&unfinished)?;
    let mut fetch = bounded::command(layout.source("smoke/emulator/fetch"), LIMIT);
    fetch.arg(&unfinished);
    if let Err(error) =
        bounded::succeed("the download of a newer QEMU", &mut fetch, &layout.logs().join("emulator.log"))
    {
        ui::step(&format!("{error}; going on with the installed one, under which guests may die (decision 4)"));
        return Ok(PathBuf::from(INSTALLED));
    }
    empty(&directory)?;
    fs::rename(&unfinished, &directory).map_err(Error::file("rename", &unfinished))?;
    Ok(program)
}

/// Major and minor; `None` if it does not run.
fn version(program: &Path) -> Option<(u32, u32)> {
    let output = Command::new(program).arg("--version").output().ok()?;
    parse(&String::from_utf8_lossy(&output.stdout))
}

fn parse(text: &str) -> Option<(u32, u32)> {
    let mut numbers = text.strip_prefix("QEMU emulator version ")?.split(['.', ' ', '\n']).map(str::parse);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_read() {
        let old = parse("QEMU emulator version 7.2.22 (Debian 1:7.2+dfsg-7)\nCopyright");
        assert_eq!(old, Some((7, 2)));
        assert!(old < Some(FIXED_IN) && parse("QEMU emulator version 10.0.2\n") > Some(FIXED_IN));
        assert_eq!(parse("bash: not found"), None);
    }
}
