//! Another product to measure against, in the same host with the same image: microsandbox, out of its own wheel, checked.
//!
//! ```text
//! msb             its one program
//! libkrunfw.so    the kernel it boots
//! image.tar       a `docker save` archive of a static BusyBox alone: the image for both
//! ```

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::bounded;
use crate::digest;
use crate::error::{Error, Result};
use crate::layout::{Layout, empty};
use crate::ui;

const WHEEL: &str = "microsandbox==0.7.11";
const WHEEL_FILE: &str = "microsandbox-0.7.11-cp310-abi3-manylinux_2_28_x86_64.whl";
const WHEEL_DIGEST: &str = "65f1e4bbf8d721c9f7f557329fb6c8cf41f554c1c6942eac8b941198fa283fe0";
const LIMIT: Duration = Duration::from_secs(300);

/// The directory with all three, made the first time.
pub fn ensure(layout: &Layout) -> Result<PathBuf> {
    let maker = layout.source("smoke/host/peer");
    let directory = layout.cache("peer").join(digest::key(&[maker.clone(), layout.source("smoke/src/peer.rs")])?);
    if !directory.join("image.tar").is_file() {
        ui::step(&format!("downloading {WHEEL}"));
        make(layout, &maker, &directory)?;
    }
    Ok(directory)
}

fn make(layout: &Layout, maker: &Path, directory: &Path) -> Result<()> {
    let scratch = layout.run("peer");
    empty(&scratch)?;
    let log = layout.logs().join("peer.log");
    let mut pip = bounded::command("python3", LIMIT);
    pip.args(["-m", "pip", "download", "--quiet", "--no-deps", "--python-version", "3.12"]);
    pip.args(["--only-binary=:all:", "--dest"]).arg(&scratch).arg(WHEEL);
    bounded::succeed("the download of microsandbox", &mut pip, &log)?;
    let wheel = scratch.join(WHEEL_FILE);
    let found = digest::of_file(&wheel)?;
    if found != WHEEL_DIGEST {
        return Err(Error::WrongDigest { path: wheel, found, expected: WHEEL_DIGEST.to_owned() });
    }
    empty(directory)?;
    let mut unpack = bounded::command("bash", LIMIT);
    unpack.arg(maker).arg(&wheel).arg(directory);
    bounded::succeed("unpacking microsandbox", &mut unpack, &log)
}
