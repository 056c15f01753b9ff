//! The daemon's view of the host: what is missing, and what to do about it. Looks, never repairs.

mod checks;

use crate::paths::Paths;
use crate::store::Store;

/// How a check came out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Fine.
    Pass,
    /// Works, but worse than it could.
    Warn,
    /// Something will not work.
    Fail,
}

/// One check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// What was looked at.
    pub title: &'static str,
    /// How it came out.
    pub verdict: Verdict,
    /// What was seen.
    pub details: Vec<String>,
    /// A full sentence naming a command, if something should be done.
    pub hint: Option<String>,
}

impl Finding {
    fn pass(title: &'static str, detail: impl Into<String>) -> Self {
        Self { title, verdict: Verdict::Pass, details: vec![detail.into()], hint: None }
    }

    fn warn(title: &'static str, detail: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { title, verdict: Verdict::Warn, details: vec![detail.into()], hint: Some(hint.into()) }
    }

    fn fail(title: &'static str, detail: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { title, verdict: Verdict::Fail, details: vec![detail.into()], hint: Some(hint.into()) }
    }
}

/// Every check, in the order they are shown.
pub async fn examine(paths: &Paths, store: &Store) -> Vec<Finding> {
    let (qemu, qemu_img, mmdebstrap) = tokio::join!(checks::qemu(), checks::qemu_img(), checks::mmdebstrap());
    vec![
        checks::architecture(),
        checks::kvm(),
        qemu,
        qemu_img,
        checks::guest_binary(paths),
        mmdebstrap,
        checks::subordinate_ids(),
        checks::free_space("free space for VMs and images", &paths.state),
        checks::free_space("free space for downloads", &paths.cache),
        checks::runtime_directory(paths),
        checks::store(store).await,
        checks::foreign_vms(store, paths).await,
    ]
}
