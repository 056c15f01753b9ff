//! Makes the directories and disks of a VM. What exists is kept: after a crash it is called again.
//!
//! Whatever this call made is undone when it fails or is dropped; what it found is never touched.

use std::path::{Path, PathBuf};

use tokio_util::sync::CancellationToken;

use super::arguments::Files;
use super::tools;
use crate::platform::files::{Made, ensure_directory, make};
use crate::platform::{PlatformError, VmPlan, error, programs, work_disk};

/// Holds the whole id, because the runtime directory's own name is only the start of it.
const ID_FILE: &str = "id";

/// Both directories and both disks.
///
/// # Errors
/// A missing tool, a full filesystem, or what the tool said. Nothing of this call is left.
pub async fn provision(plan: &VmPlan, cancel: &CancellationToken) -> Result<(), PlatformError> {
    let (qemu_img, mke2fs) = (programs::find(tools::QEMU_IMG)?, programs::find(work_disk::MKE2FS)?);
    let files = Files::of(plan);
    let mut made = Made::default();
    made.directory(&plan.directory)?;
    made.directory(&plan.runtime_directory)?;
    write_id(plan)?;
    // Both to their end: a tool killed half-way could still write after the undo.
    let (root, work) = tokio::join!(
        root_disk(&qemu_img, plan, &files.root_disk, cancel),
        work_disk::make_in(&mke2fs, plan, &files.work_disk, cancel),
    );
    made.files([&root, &work].into_iter().flatten().flatten().cloned());
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
        let mut arguments = programs::options(["create", "-q", "-f", "qcow2", "-F", "raw", "-b"]);
        arguments.extend([base.clone().into(), unfinished.into()]);
        let attempt = format!("cannot create the root disk of {}", plan.name);
        programs::run(qemu_img, &arguments, &attempt, unfinished, cancel).await
    })
    .await
}
