//! Sparse files as GNU tar describes them in pax records: versions 0.0, 0.1 and 1.0.
//!
//! The older form, a member type of its own, is the tar library's. Nothing is allocated for a hole: the
//! reader makes its zeros, and whoever writes them sees that they are zeros.

use std::io::{self, Read};

/// Pieces of data in one file.
const MOST_PIECES: usize = 1 << 16;

/// The records of one member.
#[derive(Debug, Default)]
pub(super) struct Records {
    name: Option<Vec<u8>>,
    size: Option<u64>,
    major: Option<u64>,
    offset: Option<u64>,
    pieces: Vec<(u64, u64)>,
    any: bool,
    malformed: bool,
}

/// Where the data of one file lies.
#[derive(Debug)]
pub(super) struct Map {
    name: Option<Vec<u8>>,
    size: u64,
    /// None: the content begins with the map.
    pieces: Option<Vec<(u64, u64)>>,
}

fn malformed() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "the map of a sparse file is malformed")
}

fn number(text: &[u8]) -> Option<u64> {
    std::str::from_utf8(text).ok()?.parse().ok()
}

impl Records {
    /// Takes one record; others than those of sparse files are ignored.
    pub fn take(&mut self, key: &str, value: &[u8]) {
        let Some(key) = key.strip_prefix("GNU.sparse.") else { return };
        self.any = true;
        match key {
            "name" => self.name = Some(value.to_vec()),
            "major" => self.major = number(value),
            "size" | "realsize" => self.size = number(value),
            "offset" => self.offset = number(value),
            "numbytes" => match (self.offset.take(), number(value)) {
                (Some(offset), Some(length)) => self.piece(offset, length),
                _ => self.malformed = true,
            },
            "map" => {
                let numbers: Option<Vec<u64>> = value.split(|byte| *byte == b',').map(number).collect();
                match numbers {
                    Some(numbers) if numbers.len() % 2 == 0 => {
                        numbers.chunks_exact(2).for_each(|pair| self.piece(pair[0], pair[1]));
                    }
                    _ => self.malformed = true,
                }
            }
            _ => {}
        }
    }

    fn piece(&mut self, offset: u64, length: u64) {
        self.malformed |= self.pieces.len() >= MOST_PIECES;
        if !self.malformed {
            self.pieces.push((offset, length));
        }
    }

    /// The map, if the member is sparse.
    pub fn conclude(self) -> io::Result<Option<Map>> {
        if !self.any {
            return Ok(None);
        }
        let size = self.size.ok_or_else(malformed)?;
        if self.malformed {
            return Err(malformed());
        }
        let pieces = if self.major == Some(1) { None } else { Some(checked(self.pieces, size)?) };
        Ok(Some(Map { name: self.name, size, pieces }))
    }
}

/// Pieces must follow each other within the file.
fn checked(pieces: Vec<(u64, u64)>, size: u64) -> io::Result<Vec<(u64, u64)>> {
    let mut end = 0;
    for (offset, length) in &pieces {
        if *offset < end {
            return Err(malformed());
        }
        end = offset.checked_add(*length).filter(|end| *end <= size).ok_or_else(malformed)?;
    }
    Ok(pieces)
}

impl Map {
    /// The file's real name: version 1.0 stores the member under another.
    pub fn name(&self) -> Option<&[u8]> {
        self.name.as_deref()
    }

    /// The whole file, holes as zeros.
    pub fn reader<R: Read>(self, mut stored: R) -> io::Result<Expanded<R>> {
        let pieces = match self.pieces {
            Some(pieces) => pieces,
            None => checked(leading_map(&mut stored)?, self.size)?,
        };
        Ok(Expanded { stored, pieces: pieces.into_iter(), piece: None, at: 0, size: self.size })
    }
}

/// Version 1.0: decimal lines (count, then offset and length of each piece), padded to a whole record.
fn leading_map(stored: &mut impl Read) -> io::Result<Vec<(u64, u64)>> {
    let mut consumed = 0;
    let mut line = || -> io::Result<u64> {
        let mut text = Vec::new();
        loop {
            let mut byte = [0u8];
            stored.read_exact(&mut byte)?;
            consumed += 1;
            match byte[0] {
                b'\n' => return number(&text).ok_or_else(malformed),
                digit if digit.is_ascii_digit() && text.len() < 20 => text.push(digit),
                _ => return Err(malformed()),
            }
        }
    };
    let count = usize::try_from(line()?).ok().filter(|count| *count <= MOST_PIECES).ok_or_else(malformed)?;
    let mut pieces = Vec::new();
    for _ in 0..count {
        pieces.push((line()?, line()?));
    }
    let padding = usize::next_multiple_of(consumed, 512) - consumed;
    stored.read_exact(&mut [0u8; 512][..padding])?;
    Ok(pieces)
}

/// See [`Map::reader`].
pub(super) struct Expanded<R> {
    stored: R,
    pieces: std::vec::IntoIter<(u64, u64)>,
    piece: Option<(u64, u64)>,
    at: u64,
    size: u64,
}

impl<R> Expanded<R> {
    /// Bytes of the whole file.
    pub fn size(&self) -> u64 {
        self.size
    }
}

impl<R: Read> Read for Expanded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.piece.is_none_or(|(offset, length)| self.at >= offset + length) {
            self.piece = self.pieces.next();
            if self.piece.is_none() {
                self.piece = (self.at < self.size).then_some((self.size, 0));
                break;
            }
        }
        let Some((offset, length)) = self.piece else { return Ok(0) };
        let most = |end: u64| usize::try_from(end - self.at).unwrap_or(usize::MAX).min(buffer.len());
        if self.at < offset {
            let count = most(offset);
            buffer[..count].fill(0);
            self.at += count as u64;
            return Ok(count);
        }
        let wanted = most(offset + length);
        let count = self.stored.read(&mut buffer[..wanted])?;
        if count == 0 && wanted > 0 {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "a sparse file ends early"));
        }
        self.at += count as u64;
        Ok(count)
    }
}
