//! Which commits of a history somebody lacks who has another part of it, as git decides it: newest first, until all
//! that is left to look at is known.
//!
//! Where the times of commits lie, some that are known may be taken for new; they are then sent once more.

use std::collections::{BinaryHeap, HashMap, HashSet};

use gix::ObjectId;
use gix::objs::Kind;

use super::{PackError, find};

/// The difference between two histories.
#[derive(Debug, Default)]
pub struct NewHistory {
    /// Commits that are not known.
    pub commits: Vec<ObjectId>,
    /// Tags that are not known, and what else a reference may name.
    pub others: Vec<ObjectId>,
    /// Known parents of those commits: what is in their trees need not be sent.
    pub boundary: Vec<ObjectId>,
}

#[derive(Default)]
struct Seen {
    known: bool,
    queued: bool,
    /// Its parents were looked at.
    done: bool,
}

struct Walk<'a> {
    repository: &'a gix::Repository,
    shallow: HashSet<ObjectId>,
    seen: HashMap<ObjectId, Seen>,
    queue: BinaryHeap<(i64, ObjectId)>,
    /// Entries of the queue that are not known.
    unknown: usize,
}

/// Everything reachable from `tips` and not from `known`; ids of `known` that are not here are passed over.
///
/// # Errors
/// [`PackError`].
pub fn walk(repository: &gix::Repository, tips: &[ObjectId], known: &[ObjectId]) -> Result<NewHistory, PackError> {
    let shallow = repository.shallow_commits().map_err(|source| PackError::Read { source })?;
    let shallow = shallow.iter().flat_map(|commits| commits.iter().copied()).collect();
    let mut walk = Walk { repository, shallow, seen: HashMap::new(), queue: BinaryHeap::new(), unknown: 0 };
    let mut skip = HashSet::new();
    for tip in known.iter().filter(|id| repository.has_object(*id)) {
        skip.insert(*tip);
        if let (Some(commit), tags) = walk.peel(*tip)? {
            skip.extend(tags);
            walk.push(commit, true)?;
        }
    }
    let mut history = NewHistory::default();
    for tip in tips {
        let (commit, others) = walk.peel(*tip)?;
        history.others.extend(others.into_iter().filter(|id| skip.insert(*id)));
        if let Some(commit) = commit {
            walk.push(commit, false)?;
        }
    }
    walk.run()?;
    for (id, seen) in &walk.seen {
        if seen.done && !seen.known {
            history.commits.push(*id);
            let parents = walk.parents(*id)?;
            history.boundary.extend(parents.into_iter().filter(|id| walk.seen.get(id).is_some_and(|seen| seen.known)));
        }
    }
    for list in [&mut history.commits, &mut history.boundary] {
        list.sort_unstable();
        list.dedup();
    }
    Ok(history)
}

impl Walk<'_> {
    /// The commit a tag is about, with the tags on the way; something else is among them.
    fn peel(&self, mut id: ObjectId) -> Result<(Option<ObjectId>, Vec<ObjectId>), PackError> {
        let mut on_the_way = Vec::new();
        loop {
            let object = find(self.repository, id)?;
            match object.kind {
                Kind::Commit => return Ok((Some(id), on_the_way)),
                Kind::Tag => {
                    on_the_way.push(id);
                    let tag = object.into_tag();
                    id = tag.target_id().map_err(|source| PackError::Read { source })?.detach();
                }
                Kind::Tree | Kind::Blob => {
                    on_the_way.push(id);
                    return Ok((None, on_the_way));
                }
            }
        }
    }

    fn push(&mut self, id: ObjectId, known: bool) -> Result<(), PackError> {
        let seen = self.seen.entry(id).or_default();
        let news = known && !seen.known;
        if (seen.queued || seen.done) && !news {
            return Ok(());
        }
        if seen.queued && news {
            self.unknown -= 1;
            seen.known = true;
            return Ok(());
        }
        // One that was taken for new and is known after all is looked at again, for its parents.
        seen.known |= known;
        seen.queued = true;
        if !seen.known {
            self.unknown += 1;
        }
        let commit = find(self.repository, id)?.into_commit();
        let time = commit.time().map_or(0, |time| time.seconds);
        self.queue.push((time, id));
        Ok(())
    }

    fn run(&mut self) -> Result<(), PackError> {
        while self.unknown > 0 {
            let Some((_, id)) = self.queue.pop() else { break };
            let seen = self.seen.entry(id).or_default();
            seen.queued = false;
            seen.done = true;
            let known = seen.known;
            if !known {
                self.unknown -= 1;
            }
            for parent in self.parents(id)? {
                // Of a known commit not everything need be here.
                if !known || self.repository.has_object(parent) {
                    self.push(parent, known)?;
                }
            }
        }
        Ok(())
    }

    fn parents(&self, id: ObjectId) -> Result<Vec<ObjectId>, PackError> {
        if self.shallow.contains(&id) {
            return Ok(Vec::new());
        }
        let commit = find(self.repository, id)?.into_commit();
        Ok(commit.parent_ids().map(gix::Id::detach).collect())
    }
}
