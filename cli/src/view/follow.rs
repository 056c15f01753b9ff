//! Sessions that follow edits: their status, their events, and the tree a command ran on.

use std::time::SystemTime;

use banger_proto::v1::Vm;
use banger_sync::diff::ConflictReason;
use banger_sync::watch::{Batch, BatchKind, Flushed, Mode, State, Status, Watching};
use serde::{Deserialize, Serialize};

use super::table;
use super::time::{ago, rfc3339};
use crate::ui::style::escape;

/// What a session is about; does not change.
#[derive(Debug, Clone)]
pub struct Identity {
    /// The VM.
    pub vm: Vm,
    /// On the host.
    pub root: String,
    /// In the guest.
    pub guest_path: String,
    /// What happens to work done in the guest.
    pub mode: Mode,
    /// Since when.
    pub started_unix_ms: i64,
}

/// How a session is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StatusView {
    /// Name of the VM.
    pub vm: String,
    /// Id of the VM.
    pub vm_id: String,
    /// On the host.
    pub root: String,
    /// In the guest.
    pub guest_path: String,
    /// `one-way-safe` or `one-way-replica`.
    pub mode: String,
    /// Of the session's process.
    pub pid: u32,
    /// When it began.
    pub started: Option<String>,
    /// A word.
    pub state: String,
    /// Why it is halted.
    pub why: Option<String>,
    /// What to do about it.
    pub way_on: Option<String>,
    /// `events` or `polling`.
    pub watching: String,
    /// Directories that are watched, or would have to be.
    pub directories: usize,
    /// How many may be, while polling.
    pub watch_budget: Option<usize>,
    /// Files of the tree.
    pub files: usize,
    /// Batches so far.
    pub generation: u64,
    /// When the last one was in the guest.
    pub last_sync: Option<String>,
    /// For a column.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub last_sync_unix_ms: i64,
    /// Paths to look at; `null` is all of them.
    pub pending: Option<usize>,
    /// Where the guest has something of its own.
    pub conflicts: Vec<FollowConflict>,
    /// Why it does not get on at the moment.
    pub problem: Option<String>,
    /// The guest has commits or a branch of its own.
    pub guest_history: bool,
    /// A lock of git is too old to be waited for.
    pub stale_lock: bool,
    /// How often the kernel could not keep up.
    pub overflows: u64,
    /// How often the connection was made.
    pub connections: u64,
}

/// One conflict.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FollowConflict {
    /// Where.
    pub path: String,
    /// `changed_in_guest` …
    pub reason: String,
}

fn is_zero(number: &i64) -> bool {
    *number == 0
}

/// Both sides are equal, but for the conflicts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FlushedView {
    /// The guest's tree.
    pub tree_digest: String,
    /// The host's tree.
    pub host_digest: String,
    /// Without conflicts.
    pub equal: bool,
    /// The batch after which it was so.
    pub generation: u64,
    /// Where the guest has something of its own.
    pub conflicts: Vec<FollowConflict>,
}

impl FlushedView {
    /// From the session's own.
    pub fn new(flushed: &Flushed) -> Self {
        Self {
            tree_digest: flushed.guest.to_string(),
            host_digest: flushed.host.to_string(),
            equal: flushed.guest == flushed.host,
            generation: flushed.generation,
            conflicts: flushed.conflicts.iter().map(FollowConflict::from).collect(),
        }
    }
}

impl From<&banger_sync::prepare::Conflict> for FollowConflict {
    fn from(conflict: &banger_sync::prepare::Conflict) -> Self {
        let reason = match conflict.reason {
            ConflictReason::ChangedInGuest => "changed_in_guest",
            ConflictReason::DeletedInGuest => "deleted_in_guest",
            ConflictReason::CreatedInGuest => "created_in_guest",
            ConflictReason::Obstructed => "obstructed",
        };
        Self { path: String::from_utf8_lossy(conflict.path.as_bytes()).into_owned(), reason: reason.to_owned() }
    }
}

/// The word typed and shown.
pub fn mode_word(mode: Mode) -> &'static str {
    match mode {
        Mode::OneWaySafe => "one-way-safe",
        Mode::OneWayReplica => "one-way-replica",
    }
}

fn state_word(state: &State) -> &'static str {
    match state {
        State::Connecting => "connecting",
        State::InStep => "in_step",
        State::Sending => "sending",
        State::HeldByGit => "held_by_git",
        State::HeldByCommand => "held_by_command",
        State::Paused => "paused",
        State::Halted { .. } => "halted",
    }
}

impl StatusView {
    /// Of a session that lives.
    pub fn new(identity: &Identity, status: &Status) -> Self {
        let (why, way_on) = match &status.state {
            State::Halted { why, way_on } => (Some(why.clone()), Some((*way_on).to_owned())),
            _ => (None, None),
        };
        let (watching, directories, watch_budget) = match status.watching {
            Watching::Events { directories } => ("events", directories, None),
            Watching::Polling { needed, budget } => ("polling", needed, Some(budget)),
        };
        let last_sync_unix_ms = status.last_sync.map_or(0, unix_ms);
        Self {
            vm: identity.vm.name.clone(),
            vm_id: identity.vm.id.clone(),
            root: identity.root.clone(),
            guest_path: identity.guest_path.clone(),
            mode: mode_word(identity.mode).to_owned(),
            pid: std::process::id(),
            started: rfc3339(identity.started_unix_ms),
            state: state_word(&status.state).to_owned(),
            why,
            way_on,
            watching: watching.to_owned(),
            directories,
            watch_budget,
            files: status.files,
            generation: status.generation,
            last_sync: rfc3339(last_sync_unix_ms),
            last_sync_unix_ms,
            pending: status.pending,
            conflicts: status.conflicts.iter().map(FollowConflict::from).collect(),
            problem: status.problem.clone(),
            guest_history: status.guest_history,
            stale_lock: status.stale_lock,
            overflows: status.overflows,
            connections: status.connections,
        }
    }

    /// Of one that ended without having said so: how it was last.
    #[must_use]
    pub fn dead(self) -> Self {
        let why = Some("its process is gone; what it last knew is shown".to_owned());
        let way_on = Some(format!("begin it again with `banger vm workspace sync --watch {}`", self.vm));
        Self { state: "dead".into(), why, way_on, ..self }
    }

    /// A state for people.
    pub fn state_text(&self) -> String {
        self.state.replace('_', " ")
    }

    /// What a person has to know besides the state, a line each.
    pub fn notes(&self) -> Vec<String> {
        let mut notes = Vec::new();
        if let Some(why) = &self.why {
            let way_on = self.way_on.as_ref().map(|way| format!("; to go on: {way}")).unwrap_or_default();
            notes.push(format!("{}: {why}{way_on}", self.state_text()));
        }
        notes.extend(self.problem.as_ref().map(|problem| format!("problem: {problem}")));
        if let Some(budget) = self.watch_budget {
            notes.push(format!(
                "degraded: {} directories are more than the {budget} that may be watched, so the tree is looked at \
                 again and again; raise fs.inotify.max_user_watches",
                self.directories
            ));
        }
        if self.stale_lock {
            notes
                .push("a lock of git is there that nobody seems to hold: remove .git/index.lock if no git runs".into());
        }
        if self.guest_history {
            notes.push("the guest has commits or a branch of its own: its .git stays as it is".into());
        }
        notes
    }
}

/// All sessions.
#[derive(Debug, Serialize)]
pub struct SessionsView {
    /// By the name of the VM.
    pub sessions: Vec<StatusView>,
}

impl SessionsView {
    /// A table, what there is to know about each, and every conflict.
    pub fn render(&self, now_ms: i64) -> String {
        if self.sessions.is_empty() {
            return String::new();
        }
        let pending = |session: &StatusView| session.pending.map_or("all".into(), |count| count.to_string());
        let rows: Vec<Vec<String>> = self
            .sessions
            .iter()
            .map(|session| {
                vec![
                    session.vm.clone(),
                    session.state_text(),
                    session.root.clone(),
                    session.guest_path.clone(),
                    session.mode.clone(),
                    ago(session.last_sync_unix_ms, now_ms),
                    pending(session),
                    session.conflicts.len().to_string(),
                ]
            })
            .collect();
        let header = ["VM", "STATE", "ROOT", "GUEST PATH", "MODE", "LAST SYNC", "PENDING", "CONFLICTS"];
        let mut text = table::render(&header, &rows);
        for session in &self.sessions {
            for note in session.notes() {
                text += &format!("{}: {}\n", escape(&session.vm), escape(&note));
            }
            for conflict in &session.conflicts {
                text += &format!(
                    "{}: conflict: {} {}\n",
                    escape(&session.vm),
                    escape(&conflict.path),
                    conflict.reason.replace('_', " ")
                );
            }
            if !session.conflicts.is_empty() {
                text += &format!(
                    "{0}: settle them with `banger vm workspace resolve {0} --prefer host|guest PATH`\n",
                    escape(&session.vm)
                );
            }
        }
        text
    }
}

/// The events of `vm workspace sync --watch --json`.
#[derive(Debug, Serialize)]
#[serde(tag = "event", rename_all = "lowercase")]
pub enum FollowEvent {
    /// First, and whenever its state, conflicts or troubles change.
    Status(Box<StatusView>),
    /// Something went over.
    Batch {
        /// Its number.
        generation: u64,
        /// `whole` after a connection was made, else `edits`.
        kind: &'static str,
        /// Files.
        files_sent: u64,
        /// Files.
        files_removed: u64,
        /// Content and git objects.
        bytes_sent: u64,
        /// With git metadata.
        git: bool,
        /// The first few.
        paths: Vec<String>,
        /// There are, after it.
        conflicts: usize,
        /// From the look to the guest's answer.
        elapsed_ms: f64,
    },
    /// Last.
    Ended,
}

impl FollowEvent {
    /// Of a batch.
    pub fn batch(batch: &Batch) -> Self {
        Self::Batch {
            generation: batch.generation,
            kind: match batch.kind {
                BatchKind::Whole => "whole",
                BatchKind::Edits => "edits",
            },
            files_sent: batch.files,
            files_removed: batch.removed,
            bytes_sent: batch.bytes,
            git: batch.git,
            paths: batch.paths.iter().map(|path| String::from_utf8_lossy(path.as_bytes()).into_owned()).collect(),
            conflicts: batch.conflicts,
            elapsed_ms: batch.took.as_secs_f64() * 1000.0,
        }
    }
}

/// A batch for people.
pub fn batch_line(batch: &Batch) -> String {
    let mut parts = vec![format!("{} files, {}", batch.files, super::bytes(batch.bytes))];
    if batch.removed > 0 {
        parts.push(format!("{} removed", batch.removed));
    }
    if batch.git {
        parts.push("git".into());
    }
    let paths: Vec<String> = batch.paths.iter().map(ToString::to_string).collect();
    let named = if paths.is_empty() { String::new() } else { format!(" ({})", paths.join(", ")) };
    format!("{}{named} in {} ms", parts.join(", "), batch.took.as_millis())
}

fn unix_ms(time: SystemTime) -> i64 {
    let passed = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(passed.as_millis()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn session() -> StatusView {
        let identity = Identity {
            vm: Vm { id: "id".into(), name: "box".into(), ..Vm::default() },
            root: "/w/repo".into(),
            guest_path: "/root/repo".into(),
            mode: Mode::OneWaySafe,
            started_unix_ms: 1_700_000_000_000,
        };
        let status = Status {
            state: State::Halted { why: "the directory is gone".into(), way_on: "put it back" },
            watching: Watching::Polling { needed: 200, budget: 100 },
            ..Status::default()
        };
        StatusView { pid: 7, ..StatusView::new(&identity, &status) }
    }

    #[test]
    fn people_see_states_notes_and_conflicts() {
        let mut session = session();
        session.conflicts.push(FollowConflict { path: "a\u{1b}b".into(), reason: "changed_in_guest".into() });
        let text = SessionsView { sessions: vec![session.clone()] }.render(0);
        assert!(text.starts_with("VM   STATE   ROOT"), "{text}");
        assert!(text.contains("box: halted: the directory is gone; to go on: put it back\n"), "{text}");
        assert!(text.contains("box: degraded: 200 directories"), "{text}");
        assert!(text.contains("box: conflict: a\\u{1b}b changed in guest\n"), "{text}");
        assert!(session.dead().notes()[0].starts_with("dead: its process is gone"));
    }

    #[test]
    fn a_status_survives_being_written_down() {
        let session = session();
        let text = serde_json::to_string(&session).unwrap_or_default();
        assert_eq!(serde_json::from_str::<StatusView>(&text).ok(), Some(session));
    }
}
