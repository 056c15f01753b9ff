//! What was delivered into a guest's home, so that an edit made there can be told from an older version of ours.
//!
//! ```text
//! <home>/.banger/lock     held while a delivery lasts
//!                files    every path delivered, with the digest of what it got
//! ```
//! Digests and names, never content. `files` is written before the first change, with what is there and what will be, and
//! after the last: a run cut off in between leaves nothing that looks like somebody's edit. A record that cannot be read
//! is none: everything that differs is then taken for the guest's own and kept.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::path::Path;

use banger_proto::guest::v1::{DeliverEntry, DeliverState};
use prost::Message as _;
use rustix::fs::Mode;

use crate::dir::{Dir, Replace};
use crate::frames::VERSION;
use crate::path::TreePath;
use crate::piece::{MEMORY, PIECES_LIMIT, Piece};
use crate::receiver::error::ReceiverError;
use crate::receiver::home::take_lock;

const NAME: &[u8] = b"files";
const SIZE_LIMIT: u64 = 64 << 20;

/// The open record, with its lock held.
pub struct Memory {
    dir: Dir,
    /// What each path may have of ours.
    pub known: HashMap<TreePath, Vec<Piece>>,
    /// A run before was cut off.
    pub unfinished: bool,
    _lock: File,
}

impl Memory {
    /// Takes the lock and reads.
    pub fn open(path: &Path, root: &Dir) -> Result<Self, ReceiverError> {
        let failed = |action| move |source| ReceiverError::Root { action, root: path.to_owned(), source };
        let dir = root.ensure_dir(MEMORY).map_err(failed("make .banger in"))?;
        rustix::fs::fchmod(&dir, Mode::from_raw_mode(0o700))
            .map_err(|error| failed("make .banger private in")(error.into()))?;
        let lock = take_lock(&dir).map_err(failed("lock .banger in"))?;
        let Some(lock) = lock else { return Err(ReceiverError::Busy { root: path.to_owned() }) };
        let mut memory = Self { dir, known: HashMap::new(), unfinished: false, _lock: lock };
        memory.load().map_err(failed("read .banger in"))?;
        Ok(memory)
    }

    fn load(&mut self) -> io::Result<()> {
        let mut bytes = Vec::new();
        match self.dir.open_file(NAME) {
            Ok(file) => file.take(SIZE_LIMIT).read_to_end(&mut bytes)?,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(error),
        };
        let Ok(state) = DeliverState::decode(&bytes[..]) else { return Ok(()) };
        self.unfinished = state.unfinished;
        for wire in &state.entries {
            if let Ok(piece) = Piece::parse(wire) {
                self.known.entry(piece.path.clone()).or_default().push(piece);
            }
        }
        Ok(())
    }

    /// What is known of one path.
    pub fn of(&self, path: &TreePath) -> &[Piece] {
        self.known.get(path).map_or(&[], Vec::as_slice)
    }

    /// Before the first change: these may come to be there.
    pub fn begin(&self, intended: &[&Piece]) -> Result<(), ReceiverError> {
        let known = self.known.values().flatten();
        let entries = known.chain(intended.iter().copied()).map(DeliverEntry::from).collect();
        self.save(&DeliverState { version: VERSION, entries, unfinished: true })
    }

    /// After the last: `delivered` are there. What other deliveries brought stays known, within bounds.
    pub fn end(&mut self, delivered: &[&Piece]) -> Result<(), ReceiverError> {
        let is_known = |piece: &&Piece| matches!(self.of(&piece.path), [known] if known == *piece);
        if !self.unfinished && delivered.iter().all(is_known) {
            return Ok(());
        }
        if self.known.len() + delivered.len() > 2 * PIECES_LIMIT {
            self.known.clear();
        }
        self.known.extend(delivered.iter().map(|&piece| (piece.path.clone(), vec![piece.clone()])));
        let entries = self.known.values().flatten().map(DeliverEntry::from).collect();
        self.save(&DeliverState { version: VERSION, entries, unfinished: false })
    }

    fn save(&self, state: &DeliverState) -> Result<(), ReceiverError> {
        let written = (|| {
            self.dir.remove_file(b"new")?;
            let mut file = self.dir.create_file(b"new", 0o600)?;
            file.write_all(&state.encode_to_vec())?;
            file.sync_data()?;
            self.dir.rename(b"new", NAME, Replace::Yes)
        })();
        written.map_err(|source| ReceiverError::Io { action: "write", path: b".banger/files".to_vec(), source })
    }
}
