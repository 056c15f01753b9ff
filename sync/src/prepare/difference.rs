//! Frames for a large file of which the receiver has an older version: its new blocks, and where the others are.

use std::io::{self, Read};

use banger_proto::guest::v1::sync_request::Body as Request;
use banger_proto::guest::v1::{Chunk, CopyRange};
use tokio::sync::mpsc;

use super::{Outgoing, PrepareError, hand_over, outgoing};
use crate::blocks::Known;
use crate::frames::CHUNK;

/// Why it was not sent to the end.
pub enum Stop {
    /// The file.
    Read(io::Error),
    /// The channel.
    Send(PrepareError),
}

impl From<io::Error> for Stop {
    fn from(source: io::Error) -> Self {
        Self::Read(source)
    }
}

/// Sends all of `file`, and hashes it on the way if a hasher is given. Returns its length.
pub fn send(
    known: &Known,
    file: impl Read,
    mut hasher: Option<&mut blake3::Hasher>,
    out: &mpsc::Sender<Outgoing>,
) -> Result<u64, Stop> {
    let mut frames = Frames { out, fresh: Vec::new(), copy: CopyRange::default() };
    let mut sent = 0;
    known.cut.blocks(file, |digest, data| {
        sent += data.len() as u64;
        if let Some(hasher) = &mut hasher {
            hasher.update(&data);
        }
        let done = match known.find(&digest, data.len()) {
            Some(offset) => frames.copy(offset, data.len() as u64),
            None => frames.fresh(&data),
        };
        done.map_err(Stop::Send)
    })?;
    frames.flush().map_err(Stop::Send)?;
    Ok(sent)
}

/// Neighbours go together: at most one of the two is not empty.
struct Frames<'a> {
    out: &'a mpsc::Sender<Outgoing>,
    fresh: Vec<u8>,
    copy: CopyRange,
}

impl Frames<'_> {
    fn fresh(&mut self, mut data: &[u8]) -> Result<(), PrepareError> {
        self.flush_copy()?;
        while !data.is_empty() {
            let (now, later) = data.split_at(data.len().min(CHUNK - self.fresh.len()));
            self.fresh.extend_from_slice(now);
            data = later;
            if self.fresh.len() == CHUNK {
                self.flush_fresh()?;
            }
        }
        Ok(())
    }

    fn copy(&mut self, offset: u64, size: u64) -> Result<(), PrepareError> {
        self.flush_fresh()?;
        if self.copy.size > 0 && self.copy.offset + self.copy.size == offset {
            self.copy.size += size;
            return Ok(());
        }
        self.flush_copy()?;
        self.copy = CopyRange { offset, size };
        Ok(())
    }

    fn flush(&mut self) -> Result<(), PrepareError> {
        self.flush_fresh()?;
        self.flush_copy()
    }

    fn flush_fresh(&mut self) -> Result<(), PrepareError> {
        if self.fresh.is_empty() {
            return Ok(());
        }
        let data = std::mem::take(&mut self.fresh);
        let bytes = data.len() as u64;
        hand_over(self.out, outgoing(Request::Chunk(Chunk { data: data.into() }), 0, bytes))
    }

    fn flush_copy(&mut self) -> Result<(), PrepareError> {
        let range = std::mem::take(&mut self.copy);
        if range.size == 0 {
            return Ok(());
        }
        let frame = outgoing(Request::Copy(range), 0, 0);
        hand_over(self.out, Outgoing { saved_bytes: range.size, ..frame })
    }
}
