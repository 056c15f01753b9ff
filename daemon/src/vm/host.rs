//! What every VM's driver shares: the platform, the store, the paths, and how long to wait for what.

use std::sync::Arc;
use std::time::Duration;

use banger_proto::failure::Failure;
use tokio_util::sync::CancellationToken;

use super::boot_source::Artifacts;
use crate::mode::Mode;
use crate::paths::Paths;
use crate::platform::Platform;
use crate::store::Store;

/// See the module header.
pub struct Host {
    /// How this daemon runs.
    pub mode: Mode,
    /// Why names of VMs are not served, if they should be.
    pub names_problem: Option<Failure>,
    /// Runs VMs.
    pub platform: Arc<dyn Platform>,
    /// Remembers them.
    pub store: Store,
    /// Where their files are.
    pub paths: Paths,
    /// What they boot from.
    pub artifacts: Arc<dyn Artifacts>,
    /// How long to wait.
    pub patience: Patience,
    /// Fires when the daemon ends: whoever waits for a guest stops waiting and undoes nothing.
    pub closing: CancellationToken,
}

/// How long a guest gets for what, unless the request says otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patience {
    /// For each stage of a start.
    pub stage: Duration,
    /// For powering off.
    pub stop: Duration,
    /// For answering a question.
    pub answer: Duration,
}

impl Patience {
    /// Emulated CPUs on a busy host need longer.
    pub fn with(vmm_name: &str) -> Self {
        let stage = if vmm_name.ends_with("-tcg") { 120 } else { 90 };
        Self { stage: Duration::from_secs(stage), stop: Duration::from_secs(60), answer: Duration::from_secs(10) }
    }
}
