//! What a session does: connect, look, send, have the guest look, and the barrier over all of it.

use std::collections::BTreeSet;
use std::time::{Instant, SystemTime};

use banger_proto::guest::v1::SyncPurpose;

use super::{Session, Trouble, Waiter, identity, in_words};
use crate::overlay::again::GitSide;
use crate::overlay::{Overlay, OverlayError, scan};
use crate::path::TreePath;
use crate::prepare::link::Link;
use crate::prepare::metadata::Metadata;
use crate::prepare::{PrepareError, digest, whole};
use crate::watch::Mode;
use crate::watch::cycle::{Millis, Next};
use crate::watch::git::GitLook;
use crate::watch::mirror::Changes;
use crate::watch::prefer::{self, PreferError};
use crate::watch::round::{self, Outgoing, Sent};
use crate::watch::safety::{Halt, check_emptied, check_root};
use crate::watch::status::{Batch, BatchKind, Flushed};

/// Paths a report names.
const SAMPLE: usize = 3;
/// How often a barrier corrects what the guest has before it looks at the host once more.
const CORRECTIONS: usize = 3;
/// After so many unequal digests the conversation begins anew.
const MISMATCHES: u32 = 3;
/// A tree that is deleted file by file is gone at once if that takes no longer than this.
const AT_ONCE: Millis = 60_000;

/// An observation between two looks at git that agree.
struct Seen {
    overlay: Overlay,
    side: GitSide,
    git: GitLook,
    took: Millis,
}

impl Session {
    /// Does it, and takes care of what fails.
    pub(super) async fn act(&mut self, next: Next) {
        let outcome = match next {
            Next::Wait(_) => Ok(()),
            Next::Connect => self.connect().await,
            Next::Tree => self.barrier().await,
            Next::Paths(paths) => self.paths(paths).await,
            Next::Check => self.check().await,
        };
        match outcome {
            Ok(()) => {
                self.cycle.succeeded();
                self.problem = None;
            }
            Err(trouble) => {
                self.trouble(trouble);
            }
        }
    }

    /// Takes care of it, and says it in words.
    pub(super) fn trouble(&mut self, trouble: Trouble) -> String {
        let now = self.now();
        match trouble {
            Trouble::Halt(halt) => {
                let why = halt.to_string();
                self.cycle.hint_tree(now);
                self.cycle.halt(halt);
                why
            }
            Trouble::Tree(error) => {
                let why = in_words(&error);
                match root_gone(&error) {
                    true => {
                        let there = check_root(self.identity, identity(&self.root));
                        let halt = there.err().unwrap_or(Halt::NoRepository { why: why.clone() });
                        self.cycle.halt(halt);
                    }
                    false => {
                        self.problem = Some(why.clone());
                        self.cycle.failed(now);
                    }
                }
                why
            }
            Trouble::Link(error) => {
                let why = in_words(&error);
                self.lose(error);
                why
            }
            Trouble::Unreachable(why) => {
                self.cycle.disconnected(now);
                self.problem = Some(why.clone());
                why
            }
            Trouble::Restless => {
                let why = "the guest's tree differs again each time it was put right".to_owned();
                self.problem = Some(why.clone());
                self.cycle.failed(now);
                why
            }
            Trouble::Torn => {
                self.cycle.hint_tree(now);
                self.look_at_git();
                "git is at work".into()
            }
        }
    }

    /// The whole tree, over a new conversation.
    async fn connect(&mut self) -> Result<(), Trouble> {
        let connection = match self.connection.take().filter(|connection| !connection.is_closed()) {
            Some(connection) => connection,
            None => {
                let connected = self.reach.connect().await;
                connected.map_err(|unreachable| Trouble::Unreachable(unreachable.why))?
            }
        };
        // Kept also if git is at work just now.
        let connection = self.connection.insert(connection).clone();
        let began = Instant::now();
        let seen = self.look(GitSide::Read).await?;
        self.check_emptied(seen.overlay.manifest.entries.len())?;
        let greeting = Link::greet(&connection, &self.options.command, SyncPurpose::Follow).await;
        let (mut link, welcome) = greeting.map_err(|error| {
            // Who refuses is there; it is watched until it goes.
            if !matches!(error, PrepareError::Guest { .. }) {
                self.connection = None;
            }
            Trouble::Link(error)
        })?;
        self.connections += 1;
        self.welcome = welcome;
        let guest_path = self.options.guest_path.clone();
        let arrived = whole(&mut link, &self.welcome, &seen.overlay, (&guest_path, &|_| {})).await;
        let arrived = arrived.map_err(Trouble::Link)?;
        let git = !self.welcome.git_moved && !arrived.metadata.is_empty();
        if git {
            arrived.metadata.note(&mut self.welcome);
        }
        self.link = Some(link);
        self.mirror.reset(&seen.overlay.manifest, &arrived.changed, arrived.prepared.conflicts);
        self.sent_git = Some(seen.git.stamp.clone());
        self.reread_git = false;
        self.head_commit.clone_from(&seen.overlay.head_commit);
        self.tree = Some(self.mirror.tree_digest());
        let now = self.now();
        self.cycle.connected(now);
        self.cycle.looked(seen.took, now);
        self.arrived();
        self.report(Batch {
            generation: self.generation,
            kind: BatchKind::Whole,
            files: arrived.prepared.files_sent,
            removed: arrived.prepared.files_removed,
            bytes: arrived.prepared.bytes_sent,
            git,
            paths: Vec::new(),
            conflicts: self.mirror.conflicts().len(),
            took: began.elapsed(),
        });
        self.correct().await
    }

    /// The whole tree, for whoever waits for both sides to be equal, or because something may be anywhere.
    async fn barrier(&mut self) -> Result<(), Trouble> {
        // Whoever asks from here on waits for the next look.
        let waiters = std::mem::take(&mut self.waiters);
        let outcome = self.settle(waiters.is_empty()).await;
        match outcome {
            Ok(Some(flushed)) => self.grant(waiters, &flushed),
            Ok(None) => self.waiters.extend(waiters),
            Err(Trouble::Tree(error)) if !root_gone(&error) => {
                let why = in_words(&error);
                refuse(waiters, &why);
                return Err(Trouble::Tree(error));
            }
            Err(trouble) => {
                self.waiters.extend(waiters);
                return Err(trouble);
            }
        }
        Ok(())
    }

    /// Brings the tree over; if somebody waits, until the guest computes the digest the host has. `None`: git came
    /// between, or nobody waits.
    async fn settle(&mut self, nobody_waits: bool) -> Result<Option<Flushed>, Trouble> {
        let side = if self.reread_git { GitSide::Read } else { GitSide::Unmoved };
        let seen = self.look(side).await?;
        self.tree(&seen).await?;
        if nobody_waits {
            return Ok(None);
        }
        for _ in 0..CORRECTIONS {
            let guest = self.look_in_guest().await?;
            if self.mirror.outdated().is_empty() && !self.replaces_conflicts() {
                let (there, here) =
                    (digest(&guest.applied_digest).map_err(Trouble::Link)?, self.mirror.agreed_digest());
                if there != here {
                    self.mismatches += 1;
                    if self.mismatches < MISMATCHES {
                        self.cycle.hint_tree(self.now());
                        return Ok(None);
                    }
                    self.mismatches = 0;
                    return Err(Trouble::Link(PrepareError::DigestMismatch { host: here, guest: there }));
                }
                self.mismatches = 0;
                // Content is read when it is sent, so git must not have begun since.
                if self.places.look() != seen.git {
                    return Err(Trouble::Torn);
                }
                let host = self.mirror.tree_digest();
                self.tree = Some(host);
                return Ok(Some(Flushed {
                    guest: digest(&guest.tree_digest).map_err(Trouble::Link)?,
                    host,
                    conflicts: self.mirror.conflicts(),
                    generation: self.generation,
                }));
            }
            self.correct().await?;
        }
        // Nobody is helped by doing it again at once, for as long as it takes.
        Err(Trouble::Restless)
    }

    /// Reads the whole tree while git is not at work.
    async fn look(&mut self, side: GitSide) -> Result<Seen, Trouble> {
        let before = self.places.look();
        let side = if self.sent_git.as_ref() == Some(&before.stamp) { side } else { GitSide::Read };
        let began = Instant::now();
        let Some(mut observer) = self.observer.take() else { return Err(Trouble::Torn) };
        let looking = tokio::task::spawn_blocking(move || {
            let overlay = observer.observe(side);
            (observer, overlay)
        });
        let (observer, overlay) = looking.await.unwrap_or_else(|failed| std::panic::resume_unwind(failed.into_panic()));
        self.observer = Some(observer);
        check_root(self.identity, identity(&self.root)).map_err(Trouble::Halt)?;
        let overlay = overlay.map_err(Trouble::Tree)?;
        if overlay.root != self.root {
            let why = format!("the repository is at {} now", overlay.root.display());
            return Err(Trouble::Halt(Halt::NoRepository { why }));
        }
        let after = self.places.look();
        let stale = self.cycle.has_stale_lock(self.now());
        if after.stamp != before.stamp || (before.locked || after.locked) && !stale {
            return Err(Trouble::Torn);
        }
        let took = u64::try_from(began.elapsed().as_millis()).unwrap_or(Millis::MAX);
        self.cycle.looked(took, self.now());
        if side == GitSide::Read || self.options.observe.include_untracked {
            self.directories = self.observer.as_ref().map(|observer| observer.directories()).unwrap_or_default();
            self.rewatch();
        }
        Ok(Seen { overlay, side, git: after, took })
    }

    /// Sends what differs from the mirror.
    async fn tree(&mut self, seen: &Seen) -> Result<(), Trouble> {
        self.check_emptied(seen.overlay.manifest.entries.len())?;
        let changes = self.mirror.difference(&seen.overlay.manifest);
        let git = match seen.side {
            GitSide::Read => {
                let metadata = Metadata::plan(&seen.overlay.git, &self.welcome, &self.options.guest_path);
                Some(metadata.map_err(Trouble::Link)?)
            }
            GitSide::Unmoved => None,
        };
        let git = git.filter(|metadata| !metadata.is_empty() && !self.welcome.git_moved);
        let with_git = git.is_some();
        if !changes.is_empty() || with_git {
            let objects = (seen.overlay.repository.clone(), self.options.worth_asking);
            self.send(&changes, false, (seen.overlay.began, git, Some(objects))).await?;
        }
        if seen.side == GitSide::Read {
            self.sent_git = Some(seen.git.stamp.clone());
            self.reread_git = false;
            self.head_commit.clone_from(&seen.overlay.head_commit);
        } else if changes.hides_from_index {
            self.reread_git = true;
            self.cycle.hint_tree(self.now());
        }
        self.correct().await
    }

    /// Sends what differs at some paths.
    async fn paths(&mut self, paths: BTreeSet<TreePath>) -> Result<(), Trouble> {
        let began = SystemTime::now();
        let root = self.root.clone();
        let Some(observer) = self.observer.take() else { return Err(Trouble::Torn) };
        let later = paths.clone();
        let looking = tokio::task::spawn_blocking(move || {
            let seen = observer.belonging(paths.into_iter().collect()).and_then(|mut belonging| {
                belonging.sort_unstable();
                let seen = scan::look(&root, &belonging)?;
                Ok(belonging.into_iter().zip(seen).collect::<Vec<_>>())
            });
            (observer, seen)
        });
        let (observer, seen) = looking.await.unwrap_or_else(|failed| std::panic::resume_unwind(failed.into_panic()));
        self.observer = Some(observer);
        check_root(self.identity, identity(&self.root)).map_err(Trouble::Halt)?;
        let seen = seen.map_err(Trouble::Tree)?;
        let look = self.places.look();
        let stale = self.cycle.has_stale_lock(self.now());
        if look.stamp != self.seen_git {
            return Err(Trouble::Torn);
        }
        if look.locked && !stale {
            let now = self.now();
            later.into_iter().for_each(|path| self.cycle.hint(path, now));
            return Ok(());
        }
        let changes = self.mirror.difference_at(seen);
        if changes.is_empty() {
            return Ok(());
        }
        self.check_emptied(self.mirror.len_after(&changes))?;
        self.send(&changes, false, (began, None, None)).await?;
        if changes.hides_from_index {
            self.reread_git = true;
            self.cycle.hint_tree(self.now());
        }
        self.correct().await
    }

    async fn check(&mut self) -> Result<(), Trouble> {
        self.look_in_guest().await?;
        self.correct().await
    }

    /// Has the guest look at its tree, and remembers where it differs.
    async fn look_in_guest(&mut self) -> Result<banger_proto::guest::v1::SyncDone, Trouble> {
        let began = Instant::now();
        let link = self.link.as_mut().ok_or_else(not_connected)?;
        let outcome = round::check(link).await.map_err(Trouble::Link)?;
        self.mirror.checked(outcome.conflicts, outcome.outdated);
        if self.welcome.git_moved && !outcome.done.git_kept {
            self.reread_git = true;
            self.cycle.hint_tree(self.now());
        }
        self.welcome.git_moved = outcome.done.git_kept;
        let took = u64::try_from(began.elapsed().as_millis()).unwrap_or(Millis::MAX);
        self.cycle.checked(took, self.now());
        Ok(outcome.done)
    }

    fn replaces_conflicts(&self) -> bool {
        // What is still in conflict after it was replaced by force cannot be replaced.
        self.options.mode == Mode::OneWayReplica
            && self.mirror.conflicts().iter().any(|one| !self.mirror.is_stuck(&one.path))
    }

    /// Sends again what the guest should have and does not: old versions, and with a replica its own.
    async fn correct(&mut self) -> Result<(), Trouble> {
        let outdated = self.mirror.outdated().clone();
        if !outdated.is_empty() {
            self.again(outdated, false).await?;
        }
        if self.replaces_conflicts() {
            let paths = self.mirror.conflicts().into_iter().map(|conflict| conflict.path).collect();
            self.replace(paths).await?;
        }
        Ok(())
    }

    /// The host's version, whatever the guest has.
    pub(super) async fn replace(&mut self, paths: BTreeSet<TreePath>) -> Result<(), Trouble> {
        self.again(paths.clone(), true).await?;
        self.mirror.stuck(&paths);
        Ok(())
    }

    async fn again(&mut self, paths: BTreeSet<TreePath>, force: bool) -> Result<(), Trouble> {
        let began = SystemTime::now();
        let mut changes = Changes::default();
        for path in paths {
            match self.mirror.get(&path) {
                Some(entry) => changes.upserts.push(entry.clone()),
                None => changes.removals.push(path),
            }
        }
        self.send(&changes, force, (began, None, None)).await
    }

    async fn send(
        &mut self,
        changes: &Changes,
        force: bool,
        (began, git, objects): (SystemTime, Option<Metadata>, Option<(gix::ThreadSafeRepository, u64)>),
    ) -> Result<(), Trouble> {
        let watch = Instant::now();
        let with_git = git.is_some();
        let link = self.link.as_mut().ok_or_else(not_connected)?;
        let batch = Outgoing { changes, root: self.root.clone(), began, force, git, objects };
        let Sent { outcome, changed, files, bytes, git } = round::send(link, batch).await.map_err(Trouble::Link)?;
        self.mirror.apply(changes, &changed, outcome.conflicts);
        match git {
            Some(_) if outcome.done.git_kept => self.welcome.git_moved = true,
            Some(metadata) => metadata.note(&mut self.welcome),
            None => {}
        }
        self.arrived();
        let touched = changes.upserts.iter().chain(&changes.retimed).map(|entry| &entry.path).chain(&changes.removals);
        self.report(Batch {
            generation: self.generation,
            kind: BatchKind::Edits,
            files,
            removed: outcome.done.files_removed,
            bytes,
            git: with_git,
            paths: touched.take(SAMPLE).cloned().collect(),
            conflicts: self.mirror.conflicts().len(),
            took: watch.elapsed(),
        });
        Ok(())
    }

    fn arrived(&mut self) {
        let (now, files) = (self.now(), self.mirror.len());
        if files >= self.peak.0 || now >= self.peak.1 + AT_ONCE {
            self.peak = (files, now);
        }
        self.generation += 1;
        self.last_sync = Some(SystemTime::now());
    }

    fn check_emptied(&mut self, after: usize) -> Result<(), Trouble> {
        if std::mem::take(&mut self.may_be_empty) {
            return Ok(());
        }
        let recent = self.now() < self.peak.1 + AT_ONCE;
        let before = if recent { self.peak.0.max(self.mirror.len()) } else { self.mirror.len() };
        check_emptied(before, after).map_err(Trouble::Halt)
    }

    /// The guest's version onto the host.
    pub(super) async fn take_over(&mut self, path: TreePath) -> Result<(), PreferError> {
        let not_now = |why| PreferError::NotNow { why };
        let Some(link) = self.link.as_mut() else { return Err(not_now("it is not connected".into())) };
        let fetched = match round::fetch(link, &path).await {
            Ok(fetched) => fetched,
            Err(error) => return Err(not_now(self.trouble(Trouble::Link(error)))),
        };
        let root = self.root.clone();
        let expected = self.mirror.get(&path).cloned();
        let at = path.clone();
        let writing =
            tokio::task::spawn_blocking(move || prefer::take_over(&root, &at, expected.as_ref(), fetched.as_ref()));
        writing.await.unwrap_or_else(|failed| std::panic::resume_unwind(failed.into_panic()))?;
        match self.paths(BTreeSet::from([path])).await {
            Ok(()) => Ok(()),
            Err(trouble) => Err(not_now(self.trouble(trouble))),
        }
    }
}

fn not_connected() -> Trouble {
    Trouble::Unreachable("there is no connection to the guest".into())
}

fn refuse(waiters: Vec<Waiter>, why: &str) {
    for waiter in waiters {
        let _ = waiter.reply.send(Err(crate::watch::FlushError::Unreadable { why: why.to_owned() }));
    }
}

/// The root is no tree of a repository any more; waiting does not help.
fn root_gone(error: &OverlayError) -> bool {
    matches!(
        error,
        OverlayError::Missing { .. }
            | OverlayError::NotADirectory { .. }
            | OverlayError::NotARepository { .. }
            | OverlayError::Bare { .. }
            | OverlayError::UnsupportedFormat { .. }
            | OverlayError::Submodule { .. }
    )
}
