//! The second disk of a VM, an empty ext4 for /root: made without privilege and without writing what it will hold.

use std::fs::File;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use tokio_util::sync::CancellationToken;

use super::files::make;
use super::programs::{self, Program};
use super::{PlatformError, VmPlan, error};

/// Makes the file system.
pub const MKE2FS: Program = Program { name: "mke2fs", package: "e2fsprogs" };

const MIB: u64 = 1 << 20;

/// The file is one hole, so there is nothing to initialise, neither now nor by the guest in the background.
const PREZEROED: &str = "assume_storage_prezeroed=1,lazy_journal_init=1,root_owner=0:0";
/// For e2fsprogs before 1.47.
const LAZY: &str = "lazy_itable_init=1,lazy_journal_init=1,root_owner=0:0";

/// Makes it at `disk` unless it is there; tells the new file, if there is one.
///
/// # Errors
/// A full filesystem, or what the tool said. Nothing of this call is left.
pub async fn make_in(
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
            let mut arguments =
                programs::options(["-t", "ext4", "-F", "-q", "-m", "0", "-b", "4096", "-L", "work", "-E"]);
            arguments.extend([extended, unfinished.as_os_str().into()]);
            programs::run(mke2fs, &arguments, &attempt, unfinished, cancel).await
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
