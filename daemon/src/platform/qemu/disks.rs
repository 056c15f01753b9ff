//! Makes the directories and disks of a VM. What exists is kept: after a crash it is called again.
//!
//! A disk is made under another name and renamed, so a disk that exists is complete. Whatever this call
//! made is undone when it fails or is dropped; what it found is never touched.

use std::ffi::OsString;
use std::fs::{DirBuilder, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use tokio_util::sync::CancellationToken;

use super::arguments::Files;
use super::{error, tools};
use crate::platform::{PlatformError, VmPlan};

/// Holds the whole id, because the runtime directory's own name is only the start of it.
const ID_FILE: &str = "id";
const MIB: u64 = 1 << 20;

/// The file is one hole, so there is nothing to initialise, neither now nor by the guest in the background.
const PREZEROED: &str = "assume_storage_prezeroed=1,lazy_journal_init=1,root_owner=0:0";
/// For e2fsprogs before 1.47.
const LAZY: &str = "lazy_itable_init=1,lazy_journal_init=1,root_owner=0:0";

/// Both directories and both disks.
///
/// # Errors
/// A missing tool, a full filesystem, or what the tool said. Nothing of this call is left.
pub async fn provision(plan: &VmPlan, cancel: &CancellationToken) -> Result<(), PlatformError> {
    let (qemu_img, mke2fs) = (tools::find(tools::QEMU_IMG)?, tools::find(tools::MKE2FS)?);
    let files = Files::of(plan);
    let mut made = Made::default();
    made.directory(&plan.directory)?;
    made.directory(&plan.runtime_directory)?;
    write_id(plan)?;
    // Both to their end: a tool killed half-way could still write after the undo.
    let (root, work) = tokio::join!(
        root_disk(&qemu_img, plan, &files.root_disk, cancel),
        work_disk(&mke2fs, plan, &files.work_disk, cancel),
    );
    made.0.extend([&root, &work].into_iter().flatten().flatten().cloned());
    root.and(work)?;
    made.keep();
    Ok(())
}

/// The directory of the sockets, which a reboot of the host takes away.
///
/// # Errors
/// Naming it.
pub fn ensure_runtime_directory(plan: &VmPlan) -> Result<(), PlatformError> {
    ensure_directory(&plan.runtime_directory)?;
    write_id(plan)
}

/// The id of the VM a runtime directory belongs to.
pub fn id_of(runtime_directory: &Path) -> Option<banger_proto::names::VmId> {
    std::fs::read_to_string(runtime_directory.join(ID_FILE)).ok()?.parse().ok()
}

fn write_id(plan: &VmPlan) -> Result<(), PlatformError> {
    let path = plan.runtime_directory.join(ID_FILE);
    std::fs::write(&path, plan.id.as_str()).map_err(|source| error::on_path("cannot write", &path, source))
}

fn ensure_directory(path: &Path) -> Result<(), PlatformError> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(|source| error::on_path("cannot create the directory", path, source))
}

/// The new file, if there was none.
async fn root_disk(
    qemu_img: &Path,
    plan: &VmPlan,
    disk: &Path,
    cancel: &CancellationToken,
) -> Result<Option<PathBuf>, PlatformError> {
    let base = std::fs::canonicalize(&plan.rootfs)
        .map_err(|source| error::on_path("cannot find the image's root filesystem", &plan.rootfs, source))?;
    make(disk, async |unfinished| {
        let mut arguments = options(["create", "-q", "-f", "qcow2", "-F", "raw", "-b"]);
        arguments.extend([base.clone().into(), unfinished.into()]);
        let attempt = format!("cannot create the root disk of {}", plan.name);
        tools::run(qemu_img, &arguments, &attempt, unfinished, cancel).await
    })
    .await
}

async fn work_disk(
    mke2fs: &Path,
    plan: &VmPlan,
    disk: &Path,
    cancel: &CancellationToken,
) -> Result<Option<PathBuf>, PlatformError> {
    make(disk, async |unfinished| {
        let size = plan.work_disk_mib.saturating_mul(MIB);
        File::options()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(unfinished)
            .and_then(|file| file.set_len(size))
            .map_err(|source| error::on_path("cannot create", unfinished, source))?;
        let attempt = format!("cannot create the work disk of {}", plan.name);
        let format = async |extended| {
            let mut arguments = options(["-t", "ext4", "-F", "-q", "-m", "0", "-b", "4096", "-L", "work", "-E"]);
            arguments.extend([extended, unfinished.as_os_str().into()]);
            tools::run(mke2fs, &arguments, &attempt, unfinished, cancel).await
        };
        match format(PREZEROED.into()).await {
            Err(refused) if says(&refused, "Bad option") => format(LAZY.into()).await,
            other => other,
        }
    })
    .await
}

fn says(error: &PlatformError, words: &str) -> bool {
    error.source.as_ref().is_some_and(|source| source.to_string().contains(words))
}

fn options<const N: usize>(list: [&str; N]) -> Vec<OsString> {
    list.into_iter().map(OsString::from).collect()
}

/// Runs `fill` on a neighbour of `disk` and renames it. Does nothing if `disk` exists.
async fn make(
    disk: &Path,
    fill: impl AsyncFnOnce(&Path) -> Result<(), PlatformError>,
) -> Result<Option<PathBuf>, PlatformError> {
    if disk.exists() {
        return Ok(None);
    }
    let mut name = disk.as_os_str().to_owned();
    name.push(".new");
    let unfinished = PathBuf::from(name);
    if let Err(source) = std::fs::remove_file(&unfinished)
        && source.kind() != io::ErrorKind::NotFound
    {
        return Err(error::on_path("cannot remove", &unfinished, source));
    }
    let mut made = Made(vec![unfinished.clone()]);
    fill(&unfinished).await?;
    std::fs::rename(&unfinished, disk).map_err(|source| error::on_path("cannot rename to", disk, source))?;
    made.keep();
    Ok(Some(disk.to_owned()))
}

/// What this call made so far; removed on drop, last first.
#[derive(Default)]
struct Made(Vec<PathBuf>);

impl Made {
    fn directory(&mut self, path: &Path) -> Result<(), PlatformError> {
        let existed = path.is_dir();
        ensure_directory(path)?;
        if !existed {
            self.0.push(path.to_owned());
        }
        Ok(())
    }

    fn keep(&mut self) {
        self.0.clear();
    }
}

impl Drop for Made {
    fn drop(&mut self) {
        for path in self.0.iter().rev() {
            let removed = if path.is_dir() { std::fs::remove_dir_all(path) } else { std::fs::remove_file(path) };
            if let Err(error) = removed
                && error.kind() != io::ErrorKind::NotFound
            {
                tracing::warn!(path = %path.display(), %error, "cannot undo");
            }
        }
    }
}
