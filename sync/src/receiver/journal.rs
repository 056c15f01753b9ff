//! What a followed workspace changed since its state was last written, one record before each batch and one after.
//!
//! Writing the whole state takes as long as the tree is large; a record takes as long as the batch is. A record cut
//! short by a crash is none: nothing of its batch was begun. A batch without its second record may be done in part,
//! so its paths may have the content before or after it.

use std::fs::File;
use std::io::{self, Write as _};

use banger_proto::frame::frame;
use banger_proto::guest::v1::SyncJournal;
use prost::Message as _;

use super::error::ReceiverError;
use super::home::{Home, Known, absent, intended, known_entry, state_entry};
use super::plan::Plan;
use crate::dir::Dir;
use crate::path::TreePath;

/// Its file.
pub const NAME: &[u8] = b"journal";
/// Longer than this, and the state is written instead.
const LIMIT: u64 = 4 << 20;

/// The open file, once there is one.
#[derive(Debug, Default)]
pub struct Journal {
    file: Option<File>,
    length: u64,
}

impl Journal {
    /// True if nothing was written since the state.
    pub fn is_empty(&self) -> bool {
        self.file.is_none()
    }

    /// True if it is time to write the state.
    pub fn is_long(&self) -> bool {
        self.length > LIMIT
    }

    fn append(&mut self, memory: &Dir, record: &SyncJournal) -> io::Result<()> {
        let file = match &mut self.file {
            Some(file) => file,
            none => none.insert(memory.append_file(NAME, 0o600)?),
        };
        let bytes = frame(record);
        self.length += bytes.len() as u64;
        file.write_all(&bytes)
    }
}

/// Notes what a batch is about to change.
///
/// # Errors
/// [`ReceiverError::Io`].
pub fn begin(home: &mut Home, plan: &Plan) -> Result<(), ReceiverError> {
    let mut intents: Vec<_> = plan.slots.iter().map(|slot| (&slot.entry).into()).collect();
    intents.extend(plan.removals.iter().map(absent));
    let record = SyncJournal { intents, ..SyncJournal::default() };
    home.journal.append(&home.memory, &record).map_err(ReceiverError::in_git("write", "banger/journal"))
}

/// Notes what it changed, and remembers it.
///
/// # Errors
/// [`ReceiverError::Io`].
pub fn end(home: &mut Home, touched: &[TreePath], known: Vec<Known>) -> Result<(), ReceiverError> {
    let record = SyncJournal {
        intents: Vec::new(),
        done: true,
        forgotten: touched.iter().map(|path| path.as_bytes().to_vec()).collect(),
        known: known.iter().map(state_entry).collect(),
    };
    home.journal.append(&home.memory, &record).map_err(ReceiverError::in_git("write", "banger/journal"))?;
    for path in touched {
        home.known.remove(path);
    }
    home.known.extend(known.into_iter().map(|known| (known.entry.path.clone(), known)));
    Ok(())
}

/// Takes what it says over the state that was read. `None`: it was not written by us.
pub(super) fn replay(home: &mut Home, bytes: &[u8]) -> Option<()> {
    let mut open = Vec::new();
    let mut rest = bytes;
    while let Some(record) = next(&mut rest) {
        if !record.done {
            open = record.intents.iter().map(intended).collect::<Option<Vec<_>>>()?;
            continue;
        }
        open.clear();
        for path in &record.forgotten {
            home.known.remove(&path[..]);
        }
        for stored in record.known {
            let known = known_entry(stored)?;
            home.known.insert(known.entry.path.clone(), known);
        }
    }
    for (path, content) in open {
        home.pending.entry(path).or_default().push(content);
    }
    Some(())
}

/// The next whole record.
fn next(rest: &mut &[u8]) -> Option<SyncJournal> {
    if rest.is_empty() {
        return None;
    }
    SyncJournal::decode_length_delimited(rest).ok()
}
