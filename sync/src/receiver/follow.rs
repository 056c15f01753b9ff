//! The guest's half of a followed workspace: one prepare, then batches of edits for as long as the host stays.
//!
//! ```text
//! prepare ─▶ wait, unlocked ─┬─ Delta… content Finish ─▶ journal, apply, journal ─▶ report ─┐
//!                 ▲          ├─ Check ─▶ look at everything ─▶ report with digests ──────────┤
//!                 │          └─ Fetch ─▶ one file as the guest has it ───────────────────────┤
//!                 └──────────────────────────────────────────────────────────────────────────┘
//! ```
//! Between batches others may prepare, verify or export; if one of them changes what is remembered, this ends and
//! the host begins anew. A batch is checked path by path exactly as a prepare is, so the guest's own work stays.

use std::collections::BTreeMap;
use std::io::{Read, Write};

use banger_proto::guest::v1::sync_reply::Body as Reply;
use banger_proto::guest::v1::sync_request::Body as Request;
use banger_proto::guest::v1::{DeltaPart, FetchPart, WireEntry};
use rustix::fs::FileType;

use super::apply::{Applied, Applier, Sending};
use super::error::ReceiverError;
use super::git::{self, GitInstaller};
use super::home::{Home, Known};
use super::place::is_obstruction;
use super::plan::{Against, Plan, keep, observe};
use super::{Report, content, journal, next, next_or_end, prepare, reply, report};
use crate::diff::{ConflictReason, Decision, Observed, decide};
use crate::digest::DigestBuilder;
use crate::dir::{Stamp, Walker, is_absent};
use crate::entry::{Content, Entry};
use crate::frames::{CHUNK, ENTRY_LIMIT, FrameReader, FrameWriter};
use crate::parallel;
use crate::path::TreePath;
use crate::wire::{parse_entry, wire_kind};

struct Followed {
    home: Home,
    /// What the host has, whether the guest has it or not.
    wanted: BTreeMap<TreePath, Entry>,
}

/// What a check found at one path.
struct Look {
    observed: Observed,
    stamp: Option<Stamp>,
    decision: Decision,
    /// We put something there.
    is_known: bool,
    /// And it is what the host has, and looks as it did then.
    as_known: bool,
}

/// Serves until the host ends it.
///
/// # Errors
/// [`ReceiverError`].
pub(super) fn serve<R: Read, W: Write>(
    mut home: Home,
    reader: &mut FrameReader<R>,
    writer: &mut FrameWriter<W>,
) -> Result<(), ReceiverError> {
    let applied = prepare(&mut home, reader, writer)?;
    let placed = applied.known.iter().map(|known| &known.entry).filter(|entry| !is_kept(&applied, entry));
    let all = placed.chain(&applied.unplaced);
    let wanted: BTreeMap<TreePath, Entry> = all.map(|entry| (entry.path.clone(), entry.clone())).collect();
    home.adopt(applied.known);
    let mut followed = Followed { home, wanted };
    loop {
        followed.home.release()?;
        let Some(request) = next_or_end(reader)? else { break };
        followed.home.retake()?;
        match request {
            Request::Delta(part) => followed.batch(part, reader, writer)?,
            Request::Check(_) => followed.check(writer)?,
            Request::Fetch(fetch) => followed.fetch(&fetch.path, writer)?,
            _ => return Err(ReceiverError::Unexpected { expected: "a batch of edits" }),
        }
    }
    followed.home.retake()?;
    if followed.home.journal.is_empty() {
        return Ok(());
    }
    followed.home.checkpoint(git::Installed::default(), &banger_proto::guest::v1::Finish::default())
}

/// A batch as announced, checked.
struct Announced {
    upserts: Vec<Entry>,
    removals: Vec<TreePath>,
    retimed: Vec<Entry>,
    against: Against,
}

impl Announced {
    fn receive<R: Read>(first: DeltaPart, reader: &mut FrameReader<R>) -> Result<Self, ReceiverError> {
        let against = if first.force { Against::All } else { Against::Ours };
        let mut announced = Self { upserts: Vec::new(), removals: Vec::new(), retimed: Vec::new(), against };
        let mut part = first;
        loop {
            for wire in &part.upserts {
                let entry = parse_entry(wire).map_err(|source| ReceiverError::Entry { source })?;
                if announced.upserts.last().is_some_and(|last| last.path >= entry.path) {
                    return Err(ReceiverError::Manifest { problem: "it is not sorted" });
                }
                announced.upserts.push(entry);
            }
            for path in &part.removals {
                let path = TreePath::parse(path)
                    .map_err(|source| ReceiverError::Entry { source: crate::wire::InvalidEntry::Path { source } })?;
                announced.removals.push(path);
            }
            for wire in &part.retimed {
                announced.retimed.push(parse_entry(wire).map_err(|source| ReceiverError::Entry { source })?);
            }
            let count = announced.upserts.len() + announced.removals.len() + announced.retimed.len();
            if count as u64 > ENTRY_LIMIT {
                return Err(ReceiverError::Manifest { problem: "it has too many entries" });
            }
            if part.last {
                break;
            }
            let Request::Delta(following) = next(reader)? else {
                return Err(ReceiverError::Unexpected { expected: "the rest of the batch" });
            };
            part = following;
        }
        announced.removals.sort_unstable();
        announced.removals.dedup();
        let written = |path: &TreePath| announced.upserts.binary_search_by(|entry| entry.path.cmp(path)).is_ok();
        if announced.removals.iter().any(written) {
            return Err(ReceiverError::Manifest { problem: "a path is both written and removed" });
        }
        Ok(announced)
    }
}

impl Followed {
    fn batch<R: Read, W: Write>(
        &mut self,
        first: DeltaPart,
        reader: &mut FrameReader<R>,
        writer: &mut FrameWriter<W>,
    ) -> Result<(), ReceiverError> {
        let Announced { upserts, removals, retimed, against } = Announced::receive(first, reader)?;
        let touched: Vec<TreePath> = upserts.iter().map(|entry| &entry.path).chain(&removals).cloned().collect();
        let plan = Plan::batch(&self.home, upserts, removals, against)?;
        journal::begin(&mut self.home, &plan)?;
        let mut applier = Applier::start(&self.home, plan, Sending::Everything)?;
        let installer = GitInstaller::new(&self.home)?;
        let git_moved = git::was_moved(self.home.side())?;
        let mut installer = if git_moved { installer.reading_past() } else { installer };
        let finish = content((reader, writer), &mut applier, &mut installer, None)?;
        let mut applied = applier.finish()?;
        let git_kept = installer.has_kept();
        let installed = installer.finish()?;
        for path in &touched {
            self.wanted.remove(path);
        }
        let placed = applied.known.iter().map(|known| &known.entry).filter(|entry| !is_kept(&applied, entry));
        for entry in placed.chain(&applied.unplaced) {
            self.wanted.insert(entry.path.clone(), entry.clone());
        }
        journal::end(&mut self.home, &touched, std::mem::take(&mut applied.known))?;
        if !installed.files.is_empty() || !finish.object_set.is_empty() && !git_kept || self.home.journal.is_long() {
            let finish = if git_kept { banger_proto::guest::v1::Finish::default() } else { finish };
            self.home.checkpoint(installed, &finish)?;
        }
        self.retime(retimed)?;
        report(writer, &Report { git_kept, ..Report::of(&applied) })
    }

    /// Where the guest has something else the next look will tell.
    fn retime(&mut self, retimed: Vec<Entry>) -> Result<(), ReceiverError> {
        let mut walker = self.home.walker()?;
        for entry in retimed {
            let (observed, stamp) = observe(&mut walker, &entry.path, self.home.known.get(&entry.path))?;
            if let (Observed::Present(there), Some(stamp)) = (observed, stamp)
                && there == entry.content()
                && self.wanted.get(&entry.path).is_some_and(|wanted| wanted.content() == there)
            {
                let stamp = keep(&mut walker, &entry, stamp)?;
                self.wanted.insert(entry.path.clone(), entry.clone());
                self.home.known.insert(entry.path.clone(), Known { entry, stamp });
            }
        }
        Ok(())
    }

    /// Looks at every path; files that look as they did are not read again.
    fn check<W: Write>(&mut self, writer: &mut FrameWriter<W>) -> Result<(), ReceiverError> {
        let mut walker = self.home.walker()?;
        let mut tree = DigestBuilder::default();
        let mut applied = DigestBuilder::default();
        let (mut conflicts, mut outdated) = (Vec::new(), Vec::new());
        let wanted: Vec<(&TreePath, &Entry)> = self.wanted.iter().collect();
        let home = &self.home;
        let looks = parallel::map(
            &wanted,
            || home.walker(),
            |walker, (path, entry)| {
                let known = home.known.get(*path);
                let (observed, stamp) = observe(walker, path, known)?;
                let decision = decide(Some(entry.content()), &home.bases(path), observed);
                let as_known = known.is_some_and(|known| known.entry == **entry && stamp == Some(known.stamp));
                Ok(Look { observed, stamp, decision, is_known: known.is_some(), as_known })
            },
        )?;
        let all_known_are_wanted = looks.iter().filter(|look| look.is_known).count() == home.known.len();
        for ((path, entry), Look { observed, stamp, decision, as_known, .. }) in wanted.into_iter().zip(looks) {
            if let Observed::Present(there) = observed {
                tree.push(path.as_bytes(), there);
            }
            match (decision, stamp) {
                (Decision::Keep, Some(stamp)) => {
                    applied.push(path.as_bytes(), entry.content());
                    match self.home.known.get_mut(path) {
                        _ if as_known => {}
                        Some(known) if known.entry == *entry => known.stamp = stamp,
                        _ => drop(self.home.known.insert(path.clone(), Known { entry: entry.clone(), stamp })),
                    }
                }
                (Decision::Conflict(reason), _) => conflicts.push((path.clone(), reason)),
                // What cannot be written as things are is no older version: sent again, it would be refused again.
                (Decision::Write, _) if is_obstructed(&mut walker, path, observed)? => {
                    conflicts.push((path.clone(), ConflictReason::Obstructed));
                }
                (Decision::Keep | Decision::Write | Decision::Remove, _) => outdated.push(path.clone()),
            }
        }
        let unwanted = |path: &&TreePath| !all_known_are_wanted && !self.wanted.contains_key(*path);
        for path in self.home.known.keys().filter(unwanted) {
            let (observed, _) = observe(&mut walker, path, self.home.known.get(path))?;
            match decide(None, &self.home.bases(path), observed) {
                Decision::Remove => outdated.push(path.clone()),
                Decision::Conflict(reason) => conflicts.push((path.clone(), reason)),
                Decision::Keep | Decision::Write => {}
            }
        }
        conflicts.sort_by(|one: &(TreePath, ConflictReason), other| one.0.cmp(&other.0));
        report(
            writer,
            &Report {
                tree_digest: tree.finish(),
                applied_digest: applied.finish(),
                files_written: 0,
                files_removed: 0,
                conflicts: &conflicts,
                outdated: &outdated,
                git_kept: git::was_moved(self.home.side())?,
            },
        )
    }

    /// Only what the host has or had can be asked for.
    fn fetch<W: Write>(&mut self, path: &[u8], writer: &mut FrameWriter<W>) -> Result<(), ReceiverError> {
        let path = TreePath::parse(path)
            .map_err(|source| ReceiverError::Entry { source: crate::wire::InvalidEntry::Path { source } })?;
        if !self.wanted.contains_key(&path) && !self.home.known.contains_key(&path) {
            return Err(ReceiverError::Unexpected { expected: "a path of the workspace" });
        }
        let mut walker = self.home.walker()?;
        let (observed, stamp) = observe(&mut walker, &path, None)?;
        let mut part = FetchPart { entry: Some(WireEntry::default()), ..FetchPart::default() };
        let (Observed::Present(Content { kind, digest }), Some(stamp)) = (observed, stamp) else {
            if !matches!(observed, Observed::Absent) {
                return Err(ReceiverError::Unexpected { expected: "the path of a file or link" });
            }
            part.last = true;
            return reply(writer, Reply::Fetched(part));
        };
        part.entry = Some(WireEntry {
            path: path.as_bytes().to_vec(),
            kind: wire_kind(kind).into(),
            size: stamp.size,
            digest: digest.as_bytes().to_vec(),
            mtime_seconds: stamp.mtime.seconds,
            mtime_nanos: stamp.mtime.nanos,
        });
        let failed = || ReceiverError::at("read", &path);
        let (dir, name) = match walker.parent(&path) {
            Ok(found) => found,
            Err(error) if is_absent(&error) => return Err(failed()(error)),
            Err(error) => return Err(failed()(error)),
        };
        if stamp.file_type() == FileType::Symlink {
            part.data = dir.read_link(name).map_err(failed())?;
            part.last = true;
            return reply(writer, Reply::Fetched(part));
        }
        let mut file = dir.open_file(name).map_err(failed())?;
        loop {
            let mut data = Vec::with_capacity(CHUNK);
            let count = (&mut file).take(CHUNK as u64).read_to_end(&mut data).map_err(failed())?;
            part.data = data;
            part.last = count < CHUNK;
            let last = part.last;
            reply(writer, Reply::Fetched(std::mem::take(&mut part)))?;
            if last {
                return Ok(());
            }
        }
    }
}

/// True if something of the guest's is where `path` or a directory on the way to it would have to be.
fn is_obstructed(walker: &mut Walker, path: &TreePath, observed: Observed) -> Result<bool, ReceiverError> {
    let failed = || ReceiverError::at("look at", path);
    match (walker.parent(path), observed) {
        (Ok((dir, name)), Observed::Directory) => {
            let names = dir.open_dir(name).and_then(|dir| dir.names()).map_err(failed())?;
            Ok(!names.is_empty())
        }
        (Ok(_), _) => Ok(false),
        (Err(error), _) if is_obstruction(&error) => Ok(true),
        (Err(error), _) if is_absent(&error) => Ok(false),
        (Err(error), _) => Err(failed()(error)),
    }
}

/// An entry of an earlier batch, remembered because the guest changed the file meanwhile.
fn is_kept(applied: &Applied, entry: &Entry) -> bool {
    applied.conflicts.binary_search_by(|(path, _)| path.cmp(&entry.path)).is_ok()
}
