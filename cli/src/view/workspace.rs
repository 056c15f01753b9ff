//! What a prepare sends, or would send, and what comes back.

use std::path::Path;

use banger_sync::diff::ConflictReason;
use banger_sync::entry::{Entry, EntryKind, Reason};
use banger_sync::export::branch::Branched;
use banger_sync::export::caution::wants_caution;
use banger_sync::export::{Change, Summary};
use banger_sync::overlay::{CopyMode, Module, Overlay};
use banger_sync::prepare::{Conflict, GitOutcome, Prepared};
use banger_sync::verify::{DifferenceKind, Verified};
use serde::Serialize;

use super::bytes;
use crate::ui::style::escape;

/// A workspace that is in the guest.
#[derive(Debug, Serialize)]
pub struct PreparedView {
    guest_path: String,
    mode: &'static str,
    head_commit: Option<String>,
    branch: Option<String>,
    tree_digest: String,
    files_sent: u64,
    bytes_sent: u64,
    files_unchanged: u64,
    files_removed: u64,
    git: &'static str,
    conflicts: Vec<ConflictView>,
    submodules: Vec<SubmoduleView>,
}

#[derive(Debug, Serialize)]
pub(super) struct ConflictView {
    path: String,
    reason: &'static str,
}

impl PreparedView {
    /// What was prepared of what was observed.
    pub fn new(prepared: &Prepared, overlay: &Overlay, guest_path: &str) -> Self {
        Self {
            guest_path: guest_path.to_owned(),
            mode: mode_word(overlay.mode),
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
            submodules: overlay.modules.iter().map(SubmoduleView::from).collect(),
        }
    }

    /// Of the tree in the guest.
    pub fn tree_digest(&self) -> &str {
        &self.tree_digest
    }

    /// One line for people.
    pub fn line(&self) -> String {
        let tree = self.tree_digest.get(..15).unwrap_or(&self.tree_digest);
        let (files, sent, path) = (self.files_sent, bytes(self.bytes_sent), &self.guest_path);
        format!("workspace: {files} files, {sent} sent to {path} (tree {tree})")
    }

    /// Where the guest is not what the host is.
    pub fn warnings(&self) -> Vec<String> {
        let mut warnings: Vec<String> =
            self.conflicts.iter().map(|conflict| format!("{} {}", conflict.path, conflict.what())).collect();
        if self.git == "kept_guest_history" {
            warnings.push("the guest has commits or a branch of its own: its .git stays as it is".into());
        }
        warnings
    }
}

impl ConflictView {
    /// Which path.
    pub(super) fn path(&self) -> &str {
        &self.path
    }

    /// What is the matter with it.
    pub(super) fn what(&self) -> &'static str {
        match self.reason {
            "deleted_in_guest" => "was deleted in the guest and stays so",
            "created_in_guest" => "was made in the guest and stays as it is there",
            "obstructed" => "cannot be put in place: something else is in the way in the guest",
            _ => "was changed in the guest and stays as it is there",
        }
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
    mode: &'static str,
    head_commit: Option<String>,
    branch: Option<String>,
    tree_digest: String,
    files: usize,
    bytes: u64,
    skipped_untracked: u64,
    entries: Vec<EntryView>,
    deleted: Vec<String>,
    nested_repositories: Vec<String>,
    submodules: Vec<SubmoduleView>,
}

/// One of a full copy.
#[derive(Debug, Serialize)]
struct SubmoduleView {
    path: String,
    /// Without: an empty directory.
    checked_out: bool,
    head_commit: Option<String>,
}

impl From<&Module> for SubmoduleView {
    fn from(module: &Module) -> Self {
        Self {
            path: lossy(module.path.as_bytes()),
            checked_out: module.is_populated(),
            head_commit: module.head_commit.clone(),
        }
    }
}

fn mode_word(mode: CopyMode) -> &'static str {
    match mode {
        CopyMode::Overlay => "overlay",
        CopyMode::FullCopy => "full_copy",
    }
}

#[derive(Debug, Serialize)]
struct EntryView {
    path: String,
    kind: &'static str,
    size: u64,
    reason: &'static str,
    digest: String,
}

impl DryRunView {
    /// From an observation.
    pub fn new(overlay: &Overlay, guest_path: &str) -> Self {
        Self {
            root: overlay.root.display().to_string(),
            guest_path: guest_path.to_owned(),
            mode: mode_word(overlay.mode),
            head_commit: overlay.head_commit.clone(),
            branch: overlay.branch.clone(),
            tree_digest: overlay.tree_digest().to_string(),
            files: overlay.manifest.entries.len(),
            bytes: overlay.manifest.total_bytes(),
            skipped_untracked: overlay.skipped_untracked,
            entries: overlay.manifest.entries.iter().map(EntryView::from).collect(),
            deleted: overlay.deleted.iter().map(|path| lossy(path.as_bytes())).collect(),
            nested_repositories: overlay.nested_repositories.iter().map(|path| lossy(path.as_bytes())).collect(),
            submodules: overlay.modules.iter().map(SubmoduleView::from).collect(),
        }
    }

    /// One line per file, and what it is about above.
    pub fn render(&self) -> String {
        let head = self.head_commit.as_deref().map_or("no commit yet", |commit| commit.get(..12).unwrap_or(commit));
        let branch = self.branch.as_deref().unwrap_or("detached");
        let mut text = format!("{} -> {}\n", escape(&self.root), escape(&self.guest_path));
        text += &format!("HEAD {head} ({}), {} files, {}\n", escape(branch), self.files, bytes(self.bytes));
        text += &format!("tree {}\n", self.tree_digest);
        text += &format!("mode {}\n", self.mode);
        for module in &self.submodules {
            let head = module.head_commit.as_deref().map_or("-", |commit| commit.get(..12).unwrap_or(commit));
            let state = if module.checked_out { head } else { "not checked out" };
            text += &format!("submodule {} ({state})\n", escape(&module.path));
        }
        for entry in &self.entries {
            let digest = entry.digest.get(..12).unwrap_or(&entry.digest);
            let (reason, kind, size) = (entry.reason, entry.kind, entry.size);
            text += &format!("{reason:<9}  {kind:<10}  {size:>10}  {digest}  {}\n", escape(&entry.path));
        }
        for path in &self.deleted {
            text += &format!("{:<9}  {:<10}  {:>10}  {:<12}  {}\n", "deleted", "-", "-", "-", escape(path));
        }
        for path in &self.nested_repositories {
            text += &format!("{:<9}  {:<10}  {:>10}  {:<12}  {}\n", "skipped", "repository", "-", "-", escape(path));
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
        Self {
            path: lossy(entry.path.as_bytes()),
            kind,
            size: entry.size,
            reason,
            digest: entry.digest.to_hex().to_string(),
        }
    }
}

fn lossy(path: &[u8]) -> String {
    String::from_utf8_lossy(path).into_owned()
}

/// `vm workspace verify`.
#[derive(Debug, Serialize)]
pub struct VerifyView {
    guest_path: String,
    equal: bool,
    host_digest: String,
    guest_digest: String,
    paths: u64,
    differences: Vec<DifferenceView>,
}

#[derive(Debug, Serialize)]
struct DifferenceView {
    path: String,
    difference: &'static str,
}

impl VerifyView {
    /// What was found.
    pub fn new(verified: &Verified, guest_path: &str) -> Self {
        let differences = verified.differences.iter().map(|difference| DifferenceView {
            path: lossy(difference.path.as_bytes()),
            difference: match difference.kind {
                DifferenceKind::Missing => "missing",
                DifferenceKind::Content => "content",
                DifferenceKind::Kind => "kind",
                DifferenceKind::Obstructed => "obstructed",
                DifferenceKind::Extra => "extra",
            },
        });
        Self {
            guest_path: guest_path.to_owned(),
            equal: verified.differences.is_empty(),
            host_digest: verified.host.to_string(),
            guest_digest: verified.guest.to_string(),
            paths: verified.paths,
            differences: differences.collect(),
        }
    }

    /// One line per difference, and the digests.
    pub fn render(&self) -> String {
        let mut text = String::new();
        for one in &self.differences {
            text += &format!("{:<10}  {}\n", one.difference, escape(&one.path));
        }
        if self.equal {
            text += &format!("equal: {} paths, tree {}\n", self.paths, self.host_digest);
        } else {
            text += &format!("host   {}\nguest  {}\n", self.host_digest, self.guest_digest);
        }
        text
    }
}

/// `vm workspace export`.
#[derive(Debug, Serialize)]
pub struct ExportView {
    base_commit: Option<String>,
    guest_commit: Option<String>,
    guest_branch: Option<String>,
    commits: u64,
    patch: Option<String>,
    branch: Option<BranchView>,
    applied: bool,
    changes: Vec<ChangeView>,
    caution: Vec<String>,
}

#[derive(Debug, Serialize)]
struct BranchView {
    name: String,
    commit: String,
    before: Option<String>,
}

#[derive(Debug, Serialize)]
struct ChangeView {
    path: String,
    change: &'static str,
    size: u64,
}

impl ExportView {
    /// What came back and where it went: patch file, branch, working tree.
    pub fn new(
        summary: &Summary,
        changes: &[Change],
        base: Option<&gix::ObjectId>,
        (patch, branch, applied): (Option<&Path>, Option<&Branched>, bool),
    ) -> Self {
        let short = |name: &str| name.strip_prefix("refs/heads/").unwrap_or(name).to_owned();
        Self {
            base_commit: base.map(ToString::to_string),
            guest_commit: summary.head.map(|id| id.to_string()),
            guest_branch: summary.branch.as_deref().map(short),
            commits: summary.commits,
            patch: patch.map(|path| path.display().to_string()),
            branch: branch.map(|made| BranchView {
                name: short(&made.name),
                commit: made.commit.to_string(),
                before: made.before.map(|id| id.to_string()),
            }),
            applied,
            changes: changes.iter().map(ChangeView::from).collect(),
            caution: changes
                .iter()
                .filter(|change| wants_caution(&change.path))
                .map(|change| lossy(change.path.as_bytes()))
                .collect(),
        }
    }

    /// For people.
    pub fn lines(&self) -> Vec<String> {
        let count = |what: &str| self.changes.iter().filter(|change| change.change == what).count();
        let mut lines = vec![format!(
            "work in the guest: {} commits, {} files changed, {} added, {} deleted",
            self.commits,
            count("modified"),
            count("added"),
            count("deleted")
        )];
        lines.extend(self.patch.as_ref().map(|path| format!("patch written to {}", escape(path))));
        lines.extend(self.branch.as_ref().map(|made| {
            let commit = made.commit.get(..12).unwrap_or(&made.commit);
            format!("branch {} is at {commit}", escape(&made.name))
        }));
        if self.applied {
            lines.push("applied to the working tree".into());
        }
        lines
    }

    /// What to look at.
    pub fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        if !self.caution.is_empty() {
            let paths: Vec<String> = self.caution.iter().map(|path| escape(path).to_string()).collect();
            warnings
                .push(format!("look at these before you use them, tools run them by themselves: {}", paths.join(", ")));
        }
        if self.branch.is_some() && self.patch.is_none() && !self.applied {
            warnings.push("a branch has no uncommitted edits and no new files; -o FILE takes them as well".into());
        }
        warnings
    }
}

impl From<&Change> for ChangeView {
    fn from(change: &Change) -> Self {
        let what = match (change.old, change.kind) {
            (None, _) => "added",
            (Some(_), None) => "deleted",
            (Some(_), Some(_)) => "modified",
        };
        Self { path: lossy(change.path.as_bytes()), change: what, size: change.size }
    }
}
