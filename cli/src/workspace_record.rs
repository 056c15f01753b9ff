//! What the CLI remembers of workspaces, one small file a VM and one a repository, below its state directory.
//!
//! ```text
//! workspaces/<vm id>.json   how the workspace was prepared, and whether a clean stop found work in the guest
//! digests/<name>            digests of a repository's files (`banger_sync::overlay::memory`)
//! ```
//! Losing a file costs a question or a moment, never anybody's work.

use std::fs;
use std::io::Write as _;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use banger_sync::overlay::{CopyMode, ObserveOptions};
use serde::{Deserialize, Serialize};

/// One VM's.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct WorkspaceRecord {
    include_untracked: bool,
    branch: Option<String>,
    from: Option<String>,
    full_copy: bool,
    /// Of the VM, to find it without the daemon.
    name: String,
    /// `Some(true)`: when it was stopped, nothing existed only in it.
    pub safe_when_stopped: Option<bool>,
}

impl WorkspaceRecord {
    /// How the workspace of the VM of this name was prepared.
    pub fn new(options: &ObserveOptions, name: &str) -> Self {
        Self {
            include_untracked: options.include_untracked,
            branch: options.branch.clone(),
            from: options.from.clone(),
            full_copy: options.mode == CopyMode::FullCopy,
            name: name.to_owned(),
            safe_when_stopped: None,
        }
    }

    /// To prepare or compare it the same way again.
    pub fn options(&self) -> ObserveOptions {
        ObserveOptions {
            include_untracked: self.include_untracked,
            branch: self.branch.clone(),
            from: self.from.clone(),
            mode: self.mode(),
        }
    }

    /// How much of the repository it was.
    pub fn mode(&self) -> CopyMode {
        if self.full_copy { CopyMode::FullCopy } else { CopyMode::Overlay }
    }

    /// What is known of a VM by its name, id or a beginning of either, without asking the daemon; nothing is the
    /// default.
    pub fn find(state: &Path, reference: &str) -> Self {
        let mut found = Self::default();
        for entry in fs::read_dir(state.join("workspaces")).into_iter().flatten().flatten() {
            let file = entry.file_name().to_string_lossy().into_owned();
            let Some(id) = file.strip_suffix(".json") else { continue };
            let record = Self::load(state, id);
            if record.name == reference || id == reference {
                return record;
            }
            if record.name.starts_with(reference) || id.starts_with(reference) {
                found = record;
            }
        }
        found
    }

    /// What is known of a VM; nothing is the default.
    pub fn load(state: &Path, vm_id: &str) -> Self {
        let text = fs::read(path(state, vm_id)).unwrap_or_default();
        serde_json::from_slice(&text).unwrap_or_default()
    }

    /// Replaces what is known.
    pub fn save(&self, state: &Path, vm_id: &str) {
        if let Err(error) = self.write(&path(state, vm_id)) {
            tracing::debug!(%error, vm_id, "what is known of the workspace is not kept");
        }
    }

    fn write(&self, path: &Path) -> std::io::Result<()> {
        let directory = path.parent().unwrap_or(Path::new("."));
        fs::create_dir_all(directory)?;
        let mut file = tempfile::NamedTempFile::new_in(directory)?;
        file.write_all(&serde_json::to_vec(self)?)?;
        file.persist(path).map_err(|error| error.error)?;
        Ok(())
    }
}

/// Forgets a VM that is gone.
pub fn forget(state: &Path, vm_id: &str) {
    // Not being there is fine, and a stale file is never asked for again.
    let _ = fs::remove_file(path(state, vm_id));
}

/// Where the digests of the repository at `root` are.
pub fn digests(state: &Path, root: &Path) -> PathBuf {
    let mut hasher = std::hash::DefaultHasher::new();
    std::hash::Hash::hash(root.as_os_str().as_bytes(), &mut hasher);
    state.join("digests").join(format!("{:016x}", std::hash::Hasher::finish(&hasher)))
}

fn path(state: &Path, vm_id: &str) -> PathBuf {
    state.join("workspaces").join(format!("{vm_id}.json"))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_record_comes_back_and_a_damaged_one_is_none() {
        let place = tempfile::tempdir().unwrap();
        let options =
            ObserveOptions { include_untracked: true, branch: Some("b".into()), from: None, mode: CopyMode::FullCopy };
        let record = WorkspaceRecord { safe_when_stopped: Some(true), ..WorkspaceRecord::new(&options, "box") };
        record.save(place.path(), "vm");
        assert_eq!(WorkspaceRecord::load(place.path(), "vm"), record);
        assert_eq!(record.options(), options);
        for reference in ["box", "bo", "vm", "v"] {
            assert_eq!(WorkspaceRecord::find(place.path(), reference), record, "{reference}");
        }
        assert_eq!(WorkspaceRecord::find(place.path(), "other").mode(), CopyMode::Overlay);
        fs::write(path(place.path(), "vm"), "{").unwrap();
        assert_eq!(WorkspaceRecord::load(place.path(), "vm"), WorkspaceRecord::default());
        forget(place.path(), "vm");
        assert_eq!(WorkspaceRecord::load(place.path(), "vm").safe_when_stopped, None);
    }
}
