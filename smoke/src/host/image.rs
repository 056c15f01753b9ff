//! The host's disk, kernel and initrd: built by `smoke/host/build` once per recipe, kept in `target/smoke/host/KEY`.
//!
//! Never changed afterwards: each run boots an overlay.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::bounded;
use crate::digest;
use crate::error::{Error, Result};
use crate::layout::{Layout, empty};
use crate::ui;

/// A slow machine and a slow mirror.
const LIMIT: Duration = Duration::from_secs(1800);

/// A built image.
#[derive(Debug, Clone)]
pub struct Image {
    directory: PathBuf,
}

impl Image {
    /// One of what `smoke/host/build` leaves.
    pub fn file(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }
}

/// The image of today's recipe. Images of older recipes are removed.
pub fn ensure(layout: &Layout) -> Result<Image> {
    let recipe = layout.source("smoke/host");
    let shelf = layout.cache("host");
    let directory = shelf.join(digest::key(std::slice::from_ref(&recipe))?);
    if !directory.is_dir() {
        build(layout, &recipe, &directory)?;
        forget_others(&shelf, &directory)?;
    }
    Ok(Image { directory })
}

fn build(layout: &Layout, recipe: &Path, directory: &Path) -> Result<()> {
    ui::step("building the test host's image (once; a few minutes)");
    let started = Instant::now();
    // Made beside and renamed: a build that was stopped half-way leaves nothing that looks complete.
    let unfinished = directory.with_extension("unfinished");
    empty(&unfinished)?;
    fs::create_dir_all(layout.logs()).map_err(Error::file("make", layout.logs()))?;
    let mut command = bounded::command(recipe.join("build"), LIMIT);
    command.arg(&unfinished);
    bounded::succeed("building the test host's image", &mut command, &layout.logs().join("host-build.log"))?;
    fs::rename(&unfinished, directory).map_err(Error::file("rename", &unfinished))?;
    ui::step(&format!("built in {:.0} s", started.elapsed().as_secs_f64()));
    Ok(())
}

fn forget_others(shelf: &Path, kept: &Path) -> Result<()> {
    for entry in fs::read_dir(shelf).map_err(Error::file("list", shelf))? {
        let path = entry.map_err(Error::file("list", shelf))?.path();
        if path != kept {
            fs::remove_dir_all(&path).map_err(Error::file("remove", &path))?;
        }
    }
    Ok(())
}
