//! What a prepare sends, or would send.

use banger_sync::diff::ConflictReason;
use banger_sync::entry::{Entry, EntryKind, Reason};
use banger_sync::overlay::Overlay;
use banger_sync::prepare::{Conflict, GitOutcome, Prepared};
use serde::Serialize;

use super::bytes;
use crate::ui::style::escape;

/// A workspace that is in the guest.
#[derive(Debug, Serialize)]
pub struct PreparedView {
    guest_path: String,
    head_commit: Option<String>,
    branch: Option<String>,
    tree_digest: String,
    files_sent: u64,
    bytes_sent: u64,
    files_unchanged: u64,
    files_removed: u64,
    git: &'static str,
    conflicts: Vec<ConflictView>,
}

#[derive(Debug, Serialize)]
struct ConflictView {
    path: String,
    reason: &'static str,
}

impl PreparedView {
    /// What was prepared of what was observed.
    pub fn new(prepared: &Prepared, overlay: &Overlay, guest_path: &str) -> Self {
        Self {
            guest_path: guest_path.to_owned(),
            head_commit: overlay.head_commit.clone(),
            branch: overlay.branch.clone(),
            tree_digest: prepared.tree_digest.to_string(),
            files_sent: prepared.files_sent,
            bytes_sent: prepared.bytes_sent,
            files_unchanged: prepared.files_unchanged,
            files_removed: prepared.files_removed,
            git: match prepared.git {
                GitOutcome::Installed => "installed",
                GitOutcome::Unchanged => "unchanged",
                GitOutcome::KeptGuestHistory => "kept_guest_history",
            },
            conflicts: prepared.conflicts.iter().map(ConflictView::from).collect(),
        }
    }

    /// One line for people.
    pub fn line(&self) -> String {
        let tree = self.tree_digest.get(..15).unwrap_or(&self.tree_digest);
        let (files, sent, path) = (self.files_sent, bytes(self.bytes_sent), &self.guest_path);
        format!("workspace: {files} files, {sent} sent to {path} (tree {tree})")
    }

    /// Where the guest is not what the host is.
    pub fn warnings(&self) -> Vec<String> {
        let mut warnings: Vec<String> = self
            .conflicts
            .iter()
            .map(|conflict| {
                let what = match conflict.reason {
                    "deleted_in_guest" => "was deleted in the guest and stays so",
                    "created_in_guest" => "was made in the guest and stays as it is there",
                    "obstructed" => "cannot be put in place: something else is in the way in the guest",
                    _ => "was changed in the guest and stays as it is there",
                };
                format!("{} {what}", conflict.path)
            })
            .collect();
        if self.git == "kept_guest_history" {
            warnings.push("the guest has commits or a branch of its own: its .git stays as it is".into());
        }
        warnings
    }
}

impl From<&Conflict> for ConflictView {
    fn from(conflict: &Conflict) -> Self {
        let reason = match conflict.reason {
            ConflictReason::ChangedInGuest => "changed_in_guest",
            ConflictReason::DeletedInGuest => "deleted_in_guest",
            ConflictReason::CreatedInGuest => "created_in_guest",
            ConflictReason::Obstructed => "obstructed",
        };
        Self { path: lossy(conflict.path.as_bytes()), reason }
    }
}

/// `--dry-run`.
#[derive(Debug, Serialize)]
pub struct DryRunView {
    root: String,
    guest_path: String,
    head_commit: Option<String>,
    branch: Option<String>,
    tree_digest: String,
    files: usize,
    bytes: u64,
    skipped_untracked: u64,
    entries: Vec<EntryView>,
    deleted: Vec<String>,
    nested_repositories: Vec<String>,
}

#[derive(Debug, Serialize)]
struct EntryView {
    path: String,
    kind: &'static str,
    size: u64,
    reason: &'static str,
}

impl DryRunView {
    /// From an observation.
    pub fn new(overlay: &Overlay, guest_path: &str) -> Self {
        Self {
            root: overlay.root.display().to_string(),
            guest_path: guest_path.to_owned(),
            head_commit: overlay.head_commit.clone(),
            branch: overlay.branch.clone(),
            tree_digest: overlay.tree_digest().to_string(),
            files: overlay.manifest.entries.len(),
            bytes: overlay.manifest.total_bytes(),
            skipped_untracked: overlay.skipped_untracked,
            entries: overlay.manifest.entries.iter().map(EntryView::from).collect(),
            deleted: overlay.deleted.iter().map(|path| lossy(path.as_bytes())).collect(),
            nested_repositories: overlay.nested_repositories.iter().map(|path| lossy(path.as_bytes())).collect(),
        }
    }

    /// One line per file, and what it is about above.
    pub fn render(&self) -> String {
        let head = self.head_commit.as_deref().map_or("no commit yet", |commit| commit.get(..12).unwrap_or(commit));
        let branch = self.branch.as_deref().unwrap_or("detached");
        let mut text = format!("{} -> {}\n", escape(&self.root), escape(&self.guest_path));
        text += &format!("HEAD {head} ({}), {} files, {}\n", escape(branch), self.files, bytes(self.bytes));
        text += &format!("tree {}\n", self.tree_digest);
        for entry in &self.entries {
            text += &format!("{:<9}  {:<10}  {:>10}  {}\n", entry.reason, entry.kind, entry.size, escape(&entry.path));
        }
        for path in &self.deleted {
            text += &format!("{:<9}  {:<10}  {:>10}  {}\n", "deleted", "-", "-", escape(path));
        }
        for path in &self.nested_repositories {
            text += &format!("{:<9}  {:<10}  {:>10}  {}\n", "skipped", "repository", "-", escape(path));
        }
        text
    }
}

impl From<&Entry> for EntryView {
    fn from(entry: &Entry) -> Self {
        let kind = match entry.kind {
            EntryKind::File => "file",
            EntryKind::Executable => "executable",
            EntryKind::Symlink => "symlink",
        };
        let reason = match entry.reason {
            Reason::Tracked => "tracked",
            Reason::Modified => "modified",
            Reason::Added => "added",
            Reason::Untracked => "untracked",
        };
        Self { path: lossy(entry.path.as_bytes()), kind, size: entry.size, reason }
    }
}

fn lossy(path: &[u8]) -> String {
    String::from_utf8_lossy(path).into_owned()
}
