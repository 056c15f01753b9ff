//! What exists of VMs on this host: directories and processes, known to the store or not, and their removal.

use std::collections::BTreeSet;
use std::path::Path;

use banger_proto::failure::Kind;
use banger_proto::names::VmId;

use super::{arguments, disks};
use crate::paths::Paths;
use crate::platform::files::subdirectories;
use crate::platform::{PlatformError, ProcessIdentity, error, process};

/// Every VMM process of this VM that belongs to a daemon with our runtime root.
///
/// # Errors
/// If /proc cannot be read.
pub fn processes_of(
    id: &VmId,
    runtime_directory: &Path,
    host_boot_id: &str,
) -> Result<Vec<ProcessIdentity>, PlatformError> {
    // A directory whose sockets could not be named never had a VMM.
    let Ok(marks) = arguments::marks(id, runtime_directory) else { return Ok(Vec::new()) };
    let found = running_qemus(host_boot_id)?.into_iter();
    Ok(found.filter(|found| arguments::carry(&found.arguments, &marks)).map(|found| found.identity).collect())
}

/// Every VM of which a directory or a process is there.
///
/// # Errors
/// If a root or /proc cannot be listed.
pub fn inventory(paths: &Paths, host_boot_id: &str) -> Result<Vec<VmId>, PlatformError> {
    let mut ids = BTreeSet::new();
    for found in running_qemus(host_boot_id)? {
        if let Some(id) = arguments::id_in(&found.arguments)
            && let Ok(marks) = arguments::marks(&id, &paths.vm_runtime(&id))
            && arguments::carry(&found.arguments, &marks)
        {
            ids.insert(id);
        }
    }
    for directory in subdirectories(&paths.state.join("vms"))? {
        ids.extend(directory.file_name().and_then(|name| name.to_str()?.parse().ok()));
    }
    for directory in subdirectories(&paths.runtime.join("vm"))? {
        // The id must lead back to the directory, or removing the VM would not remove it.
        ids.extend(disks::id_of(&directory).filter(|id| paths.vm_runtime(id) == directory));
    }
    Ok(ids.into_iter().collect())
}

fn running_qemus(host_boot_id: &str) -> Result<Vec<process::Process>, PlatformError> {
    process::running_qemus(host_boot_id)
        .map_err(|source| error::plain(Kind::HostNotReady, "cannot list the processes in /proc").because(source))
}
