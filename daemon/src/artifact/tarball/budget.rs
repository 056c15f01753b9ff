//! How much may be read to learn what the next member is: enough for every honest description.
//!
//! The tar library keeps long names and pax records in memory, however long they claim to be. This reader
//! lies below it and ends the stream with an error instead. It knows nothing of the format: whoever drives
//! the library says when a description is read and when content is.

use std::cell::Cell;
use std::io::{self, BufReader, Read};
use std::rc::Rc;

/// A path, a link target, a block of extended attributes and the map of a sparse file fit many times over.
const DESCRIPTION: u64 = 1 << 20;
const BUFFER: usize = 256 << 10;

/// The switch.
#[derive(Debug, Clone)]
pub(super) struct Budget {
    left: Rc<Cell<u64>>,
}

impl Budget {
    /// The switch and the stream it guards.
    pub fn over<R: Read>(stream: R) -> (Self, Bounded<R>) {
        let budget = Self { left: Rc::new(Cell::new(DESCRIPTION)) };
        (budget.clone(), Bounded { stream: BufReader::with_capacity(BUFFER, stream), budget })
    }

    /// From here on a description is read.
    pub fn headers(&self) {
        self.left.set(DESCRIPTION);
    }

    /// From here on content is read.
    pub fn content(&self) {
        self.left.set(u64::MAX);
    }
}

/// The guarded stream.
pub(super) struct Bounded<R> {
    stream: BufReader<R>,
    budget: Budget,
}

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = self.budget.left.get();
        if left == 0 {
            return Err(io::Error::other("what describes one entry has more than 1 MiB"));
        }
        let most = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
        let count = self.stream.read(&mut buffer[..most])?;
        if left != u64::MAX {
            self.budget.left.set(left - count as u64);
        }
        Ok(count)
    }
}
