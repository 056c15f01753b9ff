//! Decides what a session does next, from what it was told and the clock. Pure: no file, no channel, no timer.
//!
//! ```text
//!            ┌───────── resume ──────────┐          ┌── a command on the tree ends ──┐
//!            ▼                           │          ▼                                │
//!  down ─▶ Connect ─▶ in step ─▶ dirty ─▶ (git at work: held) ─▶ Paths | Tree ─▶ in step
//!   ▲  wait longer each time     │  quiet for a moment              │ failed
//!   └────────────────────────────┴── connection lost ◀──────────────┤
//!                                                   paused, halted ◀┘
//! ```
//! Hints are kept as a set; however many there are, they cost one batch. `tree` stands for "anywhere" and wins over
//! single paths. Everything that waits has an end: git's lock becomes stale, a rescan comes by itself.

use std::collections::BTreeSet;

use super::safety::Halt;
use crate::path::TreePath;

/// Milliseconds since the session began.
pub type Millis = u64;

/// More paths than this are one look at the whole tree.
const MANY: usize = 2000;

/// The durations, in milliseconds, and shares of the time something took last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tuning {
    /// Without another event, before single paths are sent.
    pub quiet: Millis,
    /// Longest wait for that.
    pub at_most: Millis,
    /// The same for the whole tree.
    pub tree_quiet: Millis,
    /// Longest wait for that.
    pub tree_at_most: Millis,
    /// After git's last step, before its work is taken for done.
    pub git_quiet: Millis,
    /// The same within a rebase or merge.
    pub git_quiet_under_way: Millis,
    /// A lock of git that is older is stale.
    pub stale_lock: Millis,
    /// Between looks at the whole tree that nothing asked for: at least this,
    pub rescan: Millis,
    /// at most this,
    pub rescan_at_most: Millis,
    /// in between so many times what one takes.
    pub rescan_share: Millis,
    /// Between looks of the guest at its tree: at least this,
    pub check: Millis,
    /// or so many times what one takes.
    pub check_share: Millis,
    /// Between looks when nothing tells of changes: at least this,
    pub poll: Millis,
    /// or so many times what one takes.
    pub poll_share: Millis,
    /// First wait before connecting again; doubled each time
    pub again: Millis,
    /// up to this.
    pub again_at_most: Millis,
}

impl Default for Tuning {
    fn default() -> Self {
        Self {
            quiet: 2,
            at_most: 12,
            tree_quiet: 15,
            tree_at_most: 150,
            git_quiet: 40,
            git_quiet_under_way: 500,
            stale_lock: 30_000,
            rescan: 30_000,
            rescan_at_most: 600_000,
            rescan_share: 500,
            check: 3_000,
            check_share: 200,
            poll: 1_000,
            poll_share: 20,
            again: 100,
            again_at_most: 5_000,
        }
    }
}

/// What to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Next {
    /// Nothing until something happens, or then.
    Wait(Option<Millis>),
    /// Connect, and bring the whole tree over.
    Connect,
    /// Look at the whole tree and send what differs.
    Tree,
    /// Look at these paths and send what differs.
    Paths(BTreeSet<TreePath>),
    /// Have the guest look at its tree.
    Check,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Link {
    Up,
    Down { again: Millis, failures: u32 },
}

/// See the module.
#[derive(Debug)]
pub struct Cycle {
    tuning: Tuning,
    paths: BTreeSet<TreePath>,
    tree: bool,
    first_hint: Millis,
    last_hint: Millis,
    locked_since: Option<Millis>,
    last_git: Option<Millis>,
    under_way: bool,
    link: Link,
    paused: bool,
    halted: Option<Halt>,
    /// Commands that run on the tree as it is.
    holders: usize,
    /// Somebody waits for both sides to be equal.
    barrier: bool,
    /// After a tree that could not be read.
    not_before: Millis,
    failures: u32,
    polling: bool,
    rescan_at: Millis,
    check_at: Millis,
}

impl Cycle {
    /// Not connected, everything to do.
    pub fn new(tuning: Tuning) -> Self {
        Self {
            tuning,
            paths: BTreeSet::new(),
            tree: false,
            first_hint: 0,
            last_hint: 0,
            locked_since: None,
            last_git: None,
            under_way: false,
            link: Link::Down { again: 0, failures: 0 },
            paused: false,
            halted: None,
            holders: 0,
            barrier: false,
            not_before: 0,
            failures: 0,
            polling: false,
            rescan_at: Millis::MAX,
            check_at: Millis::MAX,
        }
    }

    /// Something may have changed at `path`.
    pub fn hint(&mut self, path: TreePath, now: Millis) {
        self.stamp(now);
        if !self.tree {
            self.paths.insert(path);
            if self.paths.len() > MANY {
                self.hint_tree(now);
            }
        }
    }

    /// Something may have changed anywhere.
    pub fn hint_tree(&mut self, now: Millis) {
        self.stamp(now);
        self.tree = true;
        self.paths.clear();
    }

    fn stamp(&mut self, now: Millis) {
        if !self.is_dirty() {
            self.first_hint = now;
        }
        // Something is different from when it failed.
        self.not_before = self.not_before.min(now + self.tuning.again);
        self.last_hint = now;
    }

    /// What a look at git told; `moved`: its metadata is not what was sent last.
    pub fn git(&mut self, locked: bool, under_way: bool, moved: Option<Moved>, now: Millis) {
        if locked || self.locked_since.is_some() {
            self.last_git = Some(now);
        }
        self.locked_since = if locked { self.locked_since.or(Some(now)) } else { None };
        self.under_way = under_way;
        if moved.is_some() {
            self.last_git = Some(now);
            self.hint_tree(now);
        }
    }

    /// Whether git is at work, and until when at the most.
    fn git_holds(&self, now: Millis) -> Option<Millis> {
        if let Some(since) = self.locked_since {
            let stale_at = since + self.tuning.stale_lock;
            return (now < stale_at).then_some(stale_at);
        }
        let quiet = if self.under_way { self.tuning.git_quiet_under_way } else { self.tuning.git_quiet };
        let over = self.last_git? + quiet;
        (now < over).then_some(over)
    }

    /// True while a batch waits for git.
    pub fn is_held_by_git(&self, now: Millis) -> bool {
        self.git_holds(now).is_some()
    }

    /// True while there is a lock of git.
    pub fn is_locked(&self) -> bool {
        self.locked_since.is_some()
    }

    /// True once a lock of git is too old to be waited for.
    pub fn has_stale_lock(&self, now: Millis) -> bool {
        self.locked_since.is_some_and(|since| now >= since + self.tuning.stale_lock)
    }

    /// The connection stands and the whole tree went over.
    pub fn connected(&mut self, now: Millis) {
        self.link = Link::Up;
        self.succeeded();
        self.check_at = now + self.tuning.check;
    }

    /// The connection is gone, or there is none.
    pub fn disconnected(&mut self, now: Millis) {
        let failures = match self.link {
            Link::Up => 0,
            Link::Down { failures, .. } => failures.saturating_add(1),
        };
        let wait = self.tuning.again.saturating_mul(1 << failures.min(16)).min(self.tuning.again_at_most);
        self.link = Link::Down { again: now + wait, failures };
    }

    /// True with a connection.
    pub fn is_connected(&self) -> bool {
        self.link == Link::Up
    }

    /// A look at the whole tree was taken and took so long.
    pub fn looked(&mut self, took: Millis, now: Millis) {
        let tuning = self.tuning;
        let wait = if self.polling {
            tuning.poll.max(took * tuning.poll_share)
        } else {
            (took * tuning.rescan_share).clamp(tuning.rescan, tuning.rescan_at_most)
        };
        self.rescan_at = now + wait;
    }

    /// The guest looked at its tree and took so long.
    pub fn checked(&mut self, took: Millis, now: Millis) {
        self.check_at = now + self.tuning.check.max(took * self.tuning.check_share);
    }

    /// Nothing tells of changes, or it does again.
    pub fn set_polling(&mut self, polling: Polling, now: Millis) {
        let polling = polling == Polling::Yes;
        if polling != self.polling {
            self.polling = polling;
            self.rescan_at = now;
        }
    }

    /// The tree could not be read: later, and later each time.
    pub fn failed(&mut self, now: Millis) {
        let wait = self.tuning.again.saturating_mul(1 << self.failures.min(8)).min(30_000);
        self.failures = self.failures.saturating_add(1);
        self.hint_tree(now);
        self.not_before = now + wait;
    }

    /// A batch went over.
    pub fn succeeded(&mut self) {
        self.failures = 0;
        self.not_before = 0;
    }

    /// Stops until told otherwise.
    pub fn pause(&mut self) {
        self.paused = true;
    }

    /// Stops until somebody decided.
    pub fn halt(&mut self, why: Halt) {
        self.halted = Some(why);
    }

    /// Goes on after [`Cycle::pause`] and [`Cycle::halt`], with a look at everything.
    pub fn resume(&mut self, now: Millis) {
        self.paused = false;
        self.halted = None;
        self.succeeded();
        if let Link::Down { .. } = self.link {
            self.link = Link::Down { again: now, failures: 0 };
        }
        self.hint_tree(now);
    }

    /// The guest that refused is gone; the next may not.
    pub fn forget_refusal(&mut self, now: Millis) {
        if self.halted.as_ref().is_some_and(Halt::is_of_the_guest) {
            self.halted = None;
            self.link = Link::Down { again: now + self.tuning.again, failures: 0 };
            self.hint_tree(now);
        }
    }

    /// Told to stop.
    pub fn is_paused(&self) -> bool {
        self.paused
    }

    /// Why it stopped by itself.
    pub fn halted(&self) -> Option<&Halt> {
        self.halted.as_ref()
    }

    /// A command begins to run on the tree as it is.
    pub fn hold(&mut self) {
        self.holders += 1;
    }

    /// It ended.
    pub fn release(&mut self) {
        self.holders = self.holders.saturating_sub(1);
    }

    /// True while one runs.
    pub fn is_held(&self) -> bool {
        self.holders > 0
    }

    /// Whether somebody waits for both sides to be equal.
    pub fn set_barrier(&mut self, waiting: Waiting) {
        self.barrier = waiting == Waiting::Yes;
    }

    /// True if there is something to look at.
    pub fn is_dirty(&self) -> bool {
        self.tree || !self.paths.is_empty()
    }

    /// Paths to look at; `None` is all.
    pub fn pending(&self) -> Option<usize> {
        (!self.tree).then_some(self.paths.len())
    }

    /// Decides. What it says to look at counts as looked at from here on.
    pub fn next(&mut self, now: Millis) -> Next {
        if self.paused || self.halted.is_some() {
            return Next::Wait(None);
        }
        if let Some(until) = self.git_holds(now) {
            return Next::Wait(Some(until));
        }
        if self.holders > 0 {
            return Next::Wait(None);
        }
        if let Link::Down { again, .. } = self.link {
            return if now < again.max(self.not_before) {
                Next::Wait(Some(again.max(self.not_before)))
            } else {
                self.take();
                Next::Connect
            };
        }
        if now < self.not_before {
            return Next::Wait(Some(self.not_before));
        }
        if self.barrier {
            self.take();
            return Next::Tree;
        }
        let mut wake = self.rescan_at.min(self.check_at);
        if self.is_dirty() {
            let (quiet, at_most) = if self.tree {
                (self.tuning.tree_quiet, self.tuning.tree_at_most)
            } else {
                (self.tuning.quiet, self.tuning.at_most)
            };
            let due = (self.last_hint + quiet).min(self.first_hint + at_most);
            if now >= due {
                let (tree, paths) = self.take();
                return if tree { Next::Tree } else { Next::Paths(paths) };
            }
            wake = wake.min(due);
        }
        if now >= self.rescan_at {
            self.take();
            return Next::Tree;
        }
        if now >= self.check_at {
            return Next::Check;
        }
        Next::Wait((wake != Millis::MAX).then_some(wake))
    }

    fn take(&mut self) -> (bool, BTreeSet<TreePath>) {
        (std::mem::take(&mut self.tree), std::mem::take(&mut self.paths))
    }
}

/// Git's metadata is not what was sent last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moved;

/// Whether changes are told or have to be looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Polling {
    /// Looked for.
    Yes,
    /// Told.
    No,
}

/// Whether anybody waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Waiting {
    /// Somebody.
    Yes,
    /// Nobody.
    No,
}

#[cfg(test)]
mod tests;
